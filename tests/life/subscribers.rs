//! What one row of the subscribers, or their server, can do to campaigns: nothing in silence, and nothing to those that it does not concern.

use crate::life::ear::Ear;
use crate::life::scene::{LONG, await_row, await_running, await_state, clients, known, number, stage, unmigrated};
use crate::operate::by_hand::json_of;
use crate::support::{Campaign, Expected, Setting, Stage, unique, wait_for, wait_until};

const TABLE: &str = "public.subscribers_restaurants";

#[test]
fn a_favourite_that_is_no_utf8_is_passed_over_by_page_tail_scan_and_pass_and_named_once() {
    let stage = unmigrated(Setting { lanes: 3, ..Setting::default() }, |stage| stage.encode_subscribers("SQL_ASCII"));
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let first = Campaign::now("first", "pizzeria");
    stage.send_to(0, &first);
    await_state(&stage, "first", "complete");

    // One of another restaurant, one of this, while the campaign runs; then somebody who can be told.
    let bad = format!(
        "insert into {TABLE} (client_id, restaurant_id) values (E'caf\\xe9', 'noodle bar'), (E'\\xe9', 'pizzeria') returning id"
    );
    let ids = stage.subscribers.text(&bad);
    stage.subscribers.subscribe_clients("pizzeria", &["newcomer"]);
    let second = Campaign::now("second", "pizzeria");
    stage.send_to(1, &second);
    let told: Vec<String> = {
        let of = format!(
            "select distinct client_id from {TABLE} where restaurant_id = 'pizzeria' and client_id <> E'\\xe9'"
        );
        stage.subscribers.query(&of).iter().map(|row| row["client_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(told.len(), 6);
    let expected = Expected::from([(&first, &told), (&second, &told)]);
    stage.await_sinks(&expected, LONG);
    await_state(&stage, "second", "complete");
    assert_eq!((number(&stage, "first", "skipped"), number(&stage, "second", "skipped")), (0, 1));
    // The pass that is due goes past it too.
    stage.feedback.execute("update dinnerbell.campaign set repass_at = 0 where adv_campaign_id = 'first'");
    await_row(&stage, "first", "rescanned", |row| row["repass_at"].as_i64() > Some(0));
    let log = service.stop();
    // Page and tail scan meet them, whichever comes first.
    assert!(ids.lines().any(|id| log.contains(&format!("skipped and counted: id {id}"))), "{ids}: {log}");
    assert_eq!(log.matches("dinnerbell doctor` finds the others").count(), 1, "{log}");
    assert!(!log.contains("lane halted") && !log.contains("lane is taken over again"), "{log}");
    stage.assert_sinks(&expected);
}

/// A service whose role has exactly the right to read the subscribers; the role.
fn with_a_reader(stage: &mut Stage) -> String {
    let role = unique("reader_");
    let password = stage.postgres.password.clone();
    stage
        .subscribers
        .execute(&format!("create role {role} login password '{password}'; grant select on {TABLE} to {role}"));
    let url = stage.subscribers.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    stage.config.set("subscribers", "url", url);
    role
}

#[test]
fn row_level_security_that_is_switched_on_while_campaigns_run_halts_by_name_and_its_remedy_ends_that() {
    let mut stage = stage(1);
    let role = with_a_reader(&mut stage);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let first = Campaign::now("first", "pizzeria");
    stage.send(&first);
    await_state(&stage, "first", "complete");

    stage.subscribers.execute(&format!("alter table {TABLE} enable row level security"));
    let second = Campaign::now("second", "pizzeria");
    stage.send(&second);
    let halted = wait_for("the lane halts", LONG, || {
        let lanes = json_of(&stage, &["lane", "list"]).1;
        lanes[0].get("halted").filter(|halted| !halted.is_null()).cloned()
    });
    assert_eq!(halted["name"], "subscribers-refused", "{halted}");
    let found = halted["found"].as_str().unwrap();
    assert!(found.contains("row-level security") && found.contains("bypassrls"), "{found}");
    assert_eq!(stage.row_count(), 5, "nobody is told, and nobody is said to favour it");

    stage.subscribers.execute(&format!("alter role {role} bypassrls"));
    stage.dinnerbell_ok(&["lane", "resolve", "0", "--retry"]);
    let all = clients(&stage, "pizzeria");
    let expected = Expected::from([(&first, &all), (&second, &all)]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
    stage.subscribers.execute(&format!("drop owned by {role}; drop role {role}"));
}

/// Waits until a client is told of a campaign.
#[track_caller]
fn await_heard(ear: &Ear, campaign: &Campaign, client: &str) {
    let id = &campaign.adv_campaign_id;
    wait_for(&format!("{client} is told of {id}"), LONG, || {
        ear.of(id).into_iter().find(|heard| heard.client == client)
    });
}

/// Rows of other restaurants, which the tail scan passes; a change of one is found by a rescan alone.
fn favour_elsewhere(stage: &Stage, clients: &[&str]) {
    stage.subscribers.subscribe_clients("noodle bar", clients);
    // More than a tail scan reads again when it begins.
    stage.subscribers.subscribe("noodle bar", 1_500);
}

fn favours_now(stage: &Stage, table: &str, client: &str, restaurant: &str) {
    stage
        .subscribers
        .execute(&format!("update {table} set restaurant_id = '{restaurant}' where client_id = '{client}'"));
}

/// A giant and a small campaign that were told, and whose owner is gone. The giant has the lower id, and ends later.
struct Orphans {
    stage: Stage,
    ear: Ear,
    giant: Campaign,
    small: Campaign,
    /// When the giant is to be rescanned.
    repass_at: i64,
}

impl Orphans {
    fn new() -> Self {
        let stage = stage(1);
        stage.subscribers.subscribe_clients("giant", &["first"]);
        stage.subscribers.subscribe("pizzeria", 5);
        favour_elsewhere(&stage, &["meanwhile"]);
        let (ear, service) = (Ear::at(&stage), stage.start());
        await_running(&stage, 1);
        let (giant, small) = (Campaign::now("a giant", "giant"), Campaign::now("small", "pizzeria"));
        let start = small.adv_campaign_datetime_start;
        let small = small.lasting(start, start + 600);
        for campaign in [&giant, &small] {
            stage.send(campaign);
            await_state(&stage, &campaign.adv_campaign_id, "complete");
        }
        let newest = stage.subscribers.number(&format!("select max(id) from {TABLE}"));
        wait_until("it is noted where the tail scan stands", LONG, || {
            stage.feedback.number("select coalesce(max(swept_to), 0) from dinnerbell.lane") == newest
        });
        service.kill();
        let repass_at = number(&stage, "a giant", "repass_at");
        Self { stage, ear, giant, small, repass_at }
    }

    /// The giant was told long ago, and its subscribers are older than all others.
    fn grow(&self) {
        let columns = "restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, \
                       adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, trigger_datetime_created";
        self.stage.feedback.execute(&format!(
            "insert into {TABLE} (id, client_id, restaurant_id) select -n, 'g' || n, 'giant' from generate_series(1, 60000) n;
             insert into public.subscribers_feedback ({columns}, client_id) select {columns}, 'g' || n
             from public.subscribers_feedback, generate_series(1, 60000) n where adv_campaign_id = 'a giant'"
        ));
    }

    #[track_caller]
    fn assert_the_giant_is_not_passed_yet(&self) {
        assert_eq!(number(&self.stage, "a giant", "repass_at"), self.repass_at, "the giant is passed already");
    }
}

#[test]
fn after_a_take_over_newcomers_of_a_small_campaign_that_ends_soon_are_told_before_a_giant_is_passed() {
    let orphans = Orphans::new();
    let Orphans { stage, ear, .. } = &orphans;
    orphans.grow();
    favours_now(stage, TABLE, "meanwhile", "pizzeria");
    let service = stage.start();
    await_heard(ear, &orphans.small, "meanwhile");
    orphans.assert_the_giant_is_not_passed_yet();
    service.stop();
}

#[test]
fn a_new_owner_scans_on_from_where_the_last_one_stood() {
    let orphans = Orphans::new();
    let Orphans { stage, ear, .. } = &orphans;
    // The pass comes to this one last of all.
    stage.subscribers.subscribe_clients("giant", &["z newcomer"]);
    // More than a tail scan reads again when it begins.
    stage.subscribers.subscribe("noodle bar", 1_500);
    orphans.grow();
    let service = stage.start();
    await_heard(ear, &orphans.giant, "z newcomer");
    orphans.assert_the_giant_is_not_passed_yet();
    service.stop();
}

#[test]
fn subscribers_that_cannot_be_read_stop_neither_their_lane_nor_passes_of_other_campaigns() {
    let stage = stage(2);
    for restaurant in ["broken", "pizzeria"] {
        stage.subscribers.subscribe(restaurant, 5);
    }
    favour_elsewhere(&stage, &["one", "two"]);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let campaigns = ["broken", "pizzeria"].map(|restaurant| Campaign::now(restaurant, restaurant));
    campaigns.iter().for_each(|campaign| stage.send(campaign));
    campaigns.iter().for_each(|campaign| drop(await_state(&stage, &campaign.adv_campaign_id, "complete")));

    // Anyone who reads a row of the one restaurant meets an error that the server calls final: a page of it, and the tail scan.
    stage.subscribers.execute(&format!(
        "begin; alter table {TABLE} rename to base;
         create view {TABLE} as select id, client_id, restaurant_id from public.base
         where restaurant_id <> 'broken' or 1 / (length(client_id) * 0) = 1;
         insert into public.base (client_id, restaurant_id) values ('unreadable', 'broken'); commit"
    ));
    favours_now(&stage, "public.base", "one", "broken");
    favours_now(&stage, "public.base", "two", "pizzeria");
    stage.feedback.execute("update dinnerbell.campaign set repass_at = 0");
    await_heard(&ear, &campaigns[1], "two");
    service.wait_for_log("division by zero", LONG);
    assert!(known(&stage, "broken").unwrap()["repass_at"] == 0, "it is still to be passed");

    stage.subscribers.execute(&format!(
        "begin; drop view {TABLE}; alter table public.base rename to subscribers_restaurants; commit"
    ));
    await_heard(&ear, &campaigns[0], "one");
    await_heard(&ear, &campaigns[0], "unreadable");
    let expected = Expected::from(campaigns.each_ref().map(|one| (one, clients(&stage, &one.restaurant_id))));
    stage.await_sinks(&expected, LONG);
    let log = service.stop();
    assert!(!log.contains("lane is taken over again") && !log.contains("lane halted"), "{log}");
    stage.assert_sinks(&expected);
}

#[test]
fn a_campaign_that_reaches_nobody_is_marked_everywhere() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 3);
    let service = stage.start();
    stage.send(&Campaign::now("some", "pizzeria"));
    stage.send(&Campaign::now("nobody", "typo"));
    await_state(&stage, "some", "complete");
    await_state(&stage, "nobody", "complete");
    let list = json_of(&stage, &["campaign", "list"]).1;
    let marked = |id: &str| {
        let of = list.as_array().unwrap().iter().find(|campaign| campaign["adv_campaign_id"] == id);
        of.unwrap()["reached_nobody"].clone()
    };
    assert_eq!((marked("some"), marked("nobody")), (false.into(), true.into()));
    assert_eq!(json_of(&stage, &["campaign", "show", "nobody"]).1["reached_nobody"], true);
    let text = stage.dinnerbell_ok(&["campaign", "list"]);
    assert_eq!(text.matches("complete (nobody)").count(), 1, "{text}");
    assert!(stage.dinnerbell_ok(&["campaign", "show", "nobody"]).contains("complete (nobody)"));
    let metrics = service.get("/metrics");
    assert!(metrics.contains("dinnerbell_campaigns_of_nobody_total 1\n"), "{metrics}");
    // Anyone who comes is told all the same, and it is marked no more.
    stage.subscribers.subscribe_clients("typo", &["the first"]);
    await_row(&stage, "nobody", "told", |row| row["told"] == 1);
    assert_eq!(json_of(&stage, &["campaign", "show", "nobody"]).1["reached_nobody"], false);
    let log = service.stop();
    assert_eq!(log.matches("nobody favours the restaurant: the campaign reaches nobody").count(), 1, "{log}");
}

#[test]
fn campaigns_are_told_though_the_largest_id_of_the_subscribers_is_not_found_in_time() {
    let stage = stage(2);
    stage.subscribers.subscribe("pizzeria", 60);
    // Ids that cost a fifth of a second each, as in a table without an index on them; pages read none.
    stage.subscribers.execute(&format!(
        "create function public.slow(of int) returns int volatile language plpgsql as
           $$begin perform pg_sleep(0.2); return of; end$$;
         begin; alter table {TABLE} rename to base;
         create view {TABLE} as select public.slow(id) as id, client_id, restaurant_id from public.base; commit"
    ));
    let report = json_of(&stage, &["doctor"]).1.to_string();
    assert!(report.contains("the largest id of public.subscribers_restaurants is not found in time"), "{report}");
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    let mut expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    await_state(&stage, "offer", "complete");

    // Who comes now is found by the rescan; and by the scan again, once the id is found.
    stage.subscribers.execute("insert into public.base (client_id, restaurant_id) values ('newcomer', 'pizzeria')");
    stage.feedback.execute("update dinnerbell.campaign set repass_at = 0");
    expected.add(&campaign, ["newcomer".to_owned()]);
    stage.await_sinks(&expected, LONG);
    let log = service.stop();
    assert!(!log.contains("lane is taken over again") && !log.contains("lane halted"), "{log}");
    stage.assert_sinks(&expected);
}
