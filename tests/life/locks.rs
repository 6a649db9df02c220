//! Somebody has rows, or a table, in a transaction that stays open: an analyst who went to lunch. What need not wait goes on, and they are named.

use serde_json::{Value, json};

use crate::life::end::killed_after_round;
use crate::life::scene::{
    LONG, OpenTransaction, await_other_owner, await_row, await_running, await_state, await_told, clients, known,
    number, pause, stage, unmigrated, update,
};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Service, Setting, Stage, sinks, wait_until};

const ROWS: &str = "public.subscribers_feedback";

/// The process of the only session that is idle in a transaction.
fn analyst(stage: &Stage) -> i64 {
    stage.feedback.number(
        "select pid from pg_stat_activity where state = 'idle in transaction' and application_name = 'psql' and datname = current_database()",
    )
}

fn lane(stage: &Stage) -> Value {
    let lanes: Value = serde_json::from_str(&stage.dinnerbell_ok(&["lane", "list", "--json"])).unwrap();
    lanes[0].clone()
}

/// A campaign is taken in and told while somebody holds others up.
#[track_caller]
fn tells(stage: &Stage, id: &str) -> Campaign {
    let offer = Campaign::now(id, "noodle bar");
    let began = epoch_seconds();
    stage.send(&offer);
    await_told(stage, id, 5);
    let told = epoch_seconds() - began;
    println!("{id} was told after {told} s");
    offer
}

/// The holder of the lock is named by `lane list`, `/readyz` and the log; never what it does.
#[track_caller]
fn names(stage: &Stage, service: &Service, part: &str, pid: i64) {
    let end = format!("select pg_terminate_backend({pid})");
    wait_until("the holder is named", LONG, || {
        let waits = lane(stage)["waits"].clone();
        let named =
            |wait: &Value| wait["part"] == part && wait["pid"] == pid && wait["found"].to_string().contains(&end);
        waits.as_array().unwrap().iter().any(named)
    });
    let listed = stage.dinnerbell_ok(&["lane", "list"]);
    assert!(listed.contains(&end) && listed.contains("role postgres (application psql)"), "{listed}");
    let ready = service.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains(&end), "{ready}");
    let log = service.log();
    assert!(log.contains(&end) && !log.contains("secret"), "{log}");
}

/// A stage whose second round was recorded, and never published: the campaign's end passed.
struct Withdrawn {
    stage: Stage,
    campaign: Campaign,
    /// Forty-five who favour the pizzeria, in the order of the main pass.
    all: Vec<String>,
    /// How many the first round told.
    told: usize,
    /// How many rows there are of both.
    rows: usize,
}

fn withdrawn() -> Withdrawn {
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 10);
    });
    stage.subscribers.subscribe("pizzeria", 45);
    stage.subscribers.subscribe("noodle bar", 5);
    let end = epoch_seconds() + 30;
    let campaign = Campaign::now("short", "pizzeria").lasting(end - 60, end);
    killed_after_round(&stage, 2, &campaign);
    let all = clients(&stage, "pizzeria");
    let drafts = stage.feedback.number("select drafts from dinnerbell.round where seq = 1");
    let rows = stage.row_count();
    Withdrawn { stage, campaign, all, told: usize::try_from(drafts).unwrap(), rows }
}

#[test]
fn rows_that_an_analyst_has_open_hold_up_no_lane_and_their_drafts_are_withdrawn_when_they_are_free() {
    let Withdrawn { stage, campaign, all, told, rows } = withdrawn();
    let (one, other) = (&all[told + 1], &all[rows - 1]);
    let answers = format!("update {ROWS} set feedback = 'secret' where client_id in ('{one}', '{other}')");
    let open = OpenTransaction::begin(&stage.feedback, &answers);
    let pid = analyst(&stage);
    let service = stage.start();
    let lunch = tells(&stage, "lunch");
    names(&stage, &service, "rows", pid);
    assert_eq!(lane(&stage)["locked_rows"], 2);
    let row = known(&stage, "short").unwrap();
    assert_eq!((&row["told"], &row["kept"], stage.row_count()), (&json!(told), &json!(0), told + 2 + 5));
    let report: Value = serde_json::from_str(&stage.dinnerbell_ok(&["verify", "--json"])).unwrap();
    assert_eq!(
        (&report["result"], &report["locked"], &report["equal"]),
        (&json!("equal"), &json!(2), &json!(told + 5))
    );
    let shown: Value = serde_json::from_str(&stage.dinnerbell_ok(&["campaign", "show", "short", "--json"])).unwrap();
    assert_eq!(shown["locked"], 2);
    let doctor = String::from_utf8(stage.dinnerbell(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains(&format!("pg_terminate_backend({pid})")), "{doctor}");

    open.roll_back();
    wait_until("the rows are withdrawn", LONG, || stage.row_count() == told + 5);
    await_row(&stage, "short", "counted once more", |row| row["unsent"] == 45 - told);
    assert_eq!(number(&stage, "short", "kept"), 0);
    wait_until("nothing waits", LONG, || {
        !service.get("/readyz").contains("waits for a lock") && lane(&stage)["waits"] == json!([])
    });
    let expected = Expected::from([(&campaign, all[..told].to_vec()), (&lunch, clients(&stage, "noodle bar"))]);
    stage.await_sinks(&expected, LONG);
    stage.dinnerbell_ok(&["verify"]);
    service.stop();
}

#[test]
fn a_locked_row_that_is_answered_is_kept_and_a_campaign_that_opens_again_tells_the_others_whose_rows_were_locked() {
    let Withdrawn { stage, campaign, all, told, rows } = withdrawn();
    let (answered, undecided) = (&all[told + 1], &all[rows - 1]);
    let locking = |client: &str| format!("update {ROWS} set feedback = 'tasty' where client_id = '{client}'");
    let answering = OpenTransaction::begin(&stage.feedback, &locking(answered));
    let deciding = OpenTransaction::begin(&stage.feedback, &locking(undecided));
    let service = stage.start();
    await_row(&stage, "short", "withdrawn", |row| row["told"] == told);
    // Its end is put off, and its pages pass those whose rows are there.
    let longer = update(&campaign).lasting(campaign.adv_campaign_datetime_start, epoch_seconds() + 3_600);
    stage.send(&longer);
    await_state(&stage, "short", "complete");
    assert_eq!((number(&stage, "short", "told"), stage.row_count()), (43, 45));
    answering.commit();
    await_row(&stage, "short", "counted", |row| row["kept"] == 1);
    deciding.roll_back();
    // The rescan finds them.
    await_told(&stage, "short", 44);
    let mut expected = Expected::from([(&campaign, &all[..told])]);
    expected.add(&longer, all[told..].iter().filter(|client| *client != answered));
    wait_until("everybody else was told once", LONG, || {
        let mut rows = sinks::rows(&stage.feedback);
        rows.retain(|row| row.draft.client != *answered);
        expected.difference(&rows, &sinks::drafts(&stage.messages())).is_none()
    });
    stage.dinnerbell_ok(&["verify"]);
    service.stop();
}

#[test]
fn a_round_that_waits_for_somebodys_new_row_leaves_its_campaign_out_and_the_others_are_told() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    stage.subscribers.subscribe("noodle bar", 5);
    let service = stage.start();
    await_running(&stage, 1);
    let client = &clients(&stage, "pizzeria")[3];
    let insert = format!(
        "insert into {ROWS} (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, \
           adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created) \
         values ('pizzeria', 'held', 'secret', '', '', 0, 1, 0, '{client}', 1)"
    );
    let open = OpenTransaction::begin(&stage.feedback, &insert);
    let pid = analyst(&stage);
    let held = Campaign::now("held", "pizzeria");
    stage.send(&held);
    let first = tells(&stage, "first");
    names(&stage, &service, "round", pid);
    let second = tells(&stage, "second");
    let epoch = lane(&stage)["epoch"].clone();
    assert_eq!(
        (number(&stage, "held", "told"), &epoch),
        (0, &json!(1)),
        "and the lane was not taken over anew for that"
    );
    open.roll_back();
    let five = clients(&stage, "noodle bar");
    let expected = Expected::from([(&held, clients(&stage, "pizzeria")), (&first, five.clone()), (&second, five)]);
    stage.await_sinks(&expected, LONG);
    wait_until("nothing waits", LONG, || !service.get("/readyz").contains("waits for a lock"));
    service.stop();
}

#[test]
fn a_campaigns_row_that_somebody_has_open_holds_up_no_other_campaign() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    stage.subscribers.subscribe("noodle bar", 5);
    let service = stage.start();
    await_running(&stage, 1);
    pause(&stage, true);
    service.wait_for_log("an operator paused all sending", LONG);
    let held = Campaign::now("held", "pizzeria");
    stage.send(&held);
    await_row(&stage, "held", "taken in", |_| true);
    let open = OpenTransaction::begin(
        &stage.feedback,
        "update dinnerbell.campaign set told = told where adv_campaign_id = 'held'",
    );
    let pid = analyst(&stage);
    pause(&stage, false);
    let other = tells(&stage, "other");
    names(&stage, &service, "round", pid);
    open.roll_back();
    let expected = Expected::from([(&held, clients(&stage, "pizzeria")), (&other, clients(&stage, "noodle bar"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn a_lane_that_is_taken_over_while_the_feedback_table_is_locked_takes_in_and_goes_on_when_it_is_free() {
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 10);
    });
    stage.subscribers.subscribe("pizzeria", 45);
    stage.subscribers.subscribe("noodle bar", 5);
    // It freezes with a round that is recorded and not published.
    let first = stage.start_failing("round.sealed@2=freeze");
    await_running(&stage, 1);
    let second = stage.start();
    second.wait_for_log("running", LONG);
    let campaign = Campaign::now("long", "pizzeria");
    stage.send(&campaign);
    first.wait_for_freeze(LONG);
    let open = OpenTransaction::begin(&stage.feedback, &format!("lock table {ROWS} in access exclusive mode"));
    let pid = analyst(&stage);
    await_other_owner(&stage, first.pid());
    let offer = Campaign::now("lunch", "noodle bar");
    stage.send(&offer);
    await_row(&stage, "lunch", "taken in", |row| row["told"] == 0);
    names(&stage, &second, "round", pid);
    open.roll_back();
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria")), (&offer, clients(&stage, "noodle bar"))]);
    stage.await_sinks(&expected, LONG);
    first.kill();
    second.stop();
}
