//! A role whose settings were made for others.

use serde_json::json;

use crate::life::scene::{LONG, await_running, await_state, cancel_by_operator, known, pause, stage, told_by, update};
use crate::operate::by_hand::json_of;
use crate::support::{Campaign, Expected, Stage, unique, wait_until};

/// What a role may have for each of its sessions.
const SETTINGS: &[(&str, &str)] = &[
    ("quote_all_identifiers", "on"),
    ("search_path", "shadow, pg_catalog, public"),
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_deferrable", "on"),
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "'iso_8601'"),
    ("timezone", "'Asia/Kathmandu'"),
    ("bytea_output", "'escape'"),
    ("standard_conforming_strings", "off"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("extra_float_digits", "-15"),
    ("client_encoding", "'LATIN1'"),
    ("row_security", "off"),
    ("session_replication_role", "replica"),
    ("synchronous_commit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_indexonlyscan", "off"),
    ("idle_session_timeout", "'1s'"),
];
/// Names of the server's, in a schema that the role searches first.
const SHADOW: &str = "
    create schema shadow;
    create function shadow.now() returns timestamptz language sql as $$ select '2001-01-01'::timestamptz $$;
    create function shadow.clock_timestamp() returns timestamptz language sql as $$ select '2001-01-01'::timestamptz $$;
    create function shadow.none(bigint) returns bigint language sql as $$ select 0::bigint $$;
    create aggregate shadow.count(*) (sfunc = shadow.none, stype = bigint, initcond = '0');
    create function shadow.differs(text, text) returns boolean language sql as $$ select false $$;
    create operator shadow.= (leftarg = text, rightarg = text, function = shadow.differs);";
/// What ends statements and transactions, once the tables are made.
const TIME_OUTS: &[(&str, &str)] =
    &[("statement_timeout", "'25ms'"), ("lock_timeout", "'25ms'"), ("idle_in_transaction_session_timeout", "'25ms'")];

fn set(stage: &Stage, role: &str, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        stage.feedback.execute(&format!("alter role {role} set {name} = {value}"));
    }
}

#[test]
fn a_life_goes_well_whatever_the_role_has_for_its_settings() {
    let mut stage = stage(2);
    let (role, password) = (unique("nasty_"), stage.postgres.password.clone());
    stage.feedback.execute(&format!("create role {role} superuser login password '{password}'"));
    stage.feedback.execute(SHADOW);
    set(&stage, &role, SETTINGS);
    let url = stage.feedback.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    assert!(url.contains(&role), "{url}");
    stage.config.set("fanout", "round_rows", 500);
    for section in ["feedback", "subscribers"] {
        stage.config.set(section, "url", url.clone());
    }
    stage.migrate();
    set(&stage, &role, TIME_OUTS);
    let (status, report) = json_of(&stage, &["doctor"]);
    assert_eq!(status, 0, "{report}");

    let service = stage.start();
    await_running(&stage, 2);
    let mut expected = Expected::default();
    let (giant, changed) = (Campaign::now("giant", "giant"), Campaign::now("changed", "changed"));
    stage.subscribers.subscribe("giant", 20_000);
    stage.subscribers.subscribe_clients("changed", &["it''s \\ one", "another"]);
    for (lane, campaign) in [(0, &giant), (1, &changed)] {
        expected.add(campaign, stage.subscribers.clients_of(&campaign.restaurant_id));
        stage.send_to(lane, campaign);
    }
    stage.await_sinks(&expected, LONG);

    // Who comes later is told of the update, which arrives in the other lane.
    let updated = update(&changed);
    stage.send_to(0, &updated);
    let revised = "select count(*) from dinnerbell.campaign where adv_campaign_id = 'changed' and revision = 2";
    wait_until("the update is known", LONG, || stage.feedback.number(revised) == 1);
    stage.subscribers.subscribe_clients("changed", &["late"]);
    expected.add(&updated, ["late".to_owned()]);
    stage.await_sinks(&expected, LONG);

    // Recorded during a pause, cancelled, and withdrawn.
    pause(&stage, true);
    service.wait_for_log("an operator paused all sending", LONG);
    let cancelled = Campaign::now("cancelled", "cancelled");
    stage.subscribers.subscribe("cancelled", 30);
    stage.send_to(1, &cancelled);
    wait_until("it is taken in", LONG, || known(&stage, "cancelled").is_some());
    cancel_by_operator(&stage, &cancelled);
    // Its lane takes the order within a second; resumed before, it may tell them first.
    await_state(&stage, "cancelled", "cancelled");
    pause(&stage, false);
    wait_until("its drafts are withdrawn", LONG, || told_by(&stage, &cancelled).is_empty());
    let (status, report) = json_of(&stage, &["verify"]);
    assert_eq!((status, &report["result"]), (0, &json!("equal")), "{report}");
    service.stop();
    stage.assert_sinks(&expected);
}
