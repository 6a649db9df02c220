use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of, status};
use crate::operate::documented::assert_documented;
use crate::support::Campaign;
use crate::support::service::{Service, command};

#[test]
fn campaigns_are_listed_newest_first_in_pages_and_by_state() {
    let by_hand = ByHand::new();
    let stage = &by_hand.stage;
    for id in ["second", "third"] {
        by_hand.receive(&Campaign::now(id, "noodle bar"));
    }
    by_hand.execute(
        "update dinnerbell.campaign set state = 'expired', unsent = 12, told = 3 where adv_campaign_id = 'second'",
    );
    by_hand.execute(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at) values ('never came', 0, 'cancelled', clock_timestamp())",
    );
    let ids = |args: &[&str]| -> Vec<String> {
        let (status, list) = json_of(stage, &[&["campaign", "list"], args].concat());
        assert_eq!(status, 0);
        let list = list.as_array().expect("a list").clone();
        list.iter().map(|campaign| campaign["adv_campaign_id"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["never came", "third", "second", "offer"]);
    assert_eq!(ids(&["--limit", "2"]), ["never came", "third"]);
    assert_eq!(ids(&["--after", "third"]), ["second", "offer"]);
    assert_eq!(ids(&["--state", "expired"]), ["second"]);
    assert_eq!(ids(&["--restaurant", "noodle bar", "--state", "active"]), ["third"]);
    assert_eq!(ids(&["--state", "expired,cancelled"]), ["never came", "second"]);
    assert_eq!(ids(&["--state", "expired", "--state", "cancelled"]), ["never came", "second"]);
    by_hand.execute(
        "update dinnerbell.campaign set received_at = received_at - interval '2 days' where adv_campaign_id = 'offer'",
    );
    assert_eq!(ids(&["--since", "-24h", "--restaurant", "pizzeria"]), [""; 0]);
    assert_eq!(ids(&["--since", "-72h", "--restaurant", "pizzeria"]), ["offer"]);
    assert_eq!(status(&stage.dinnerbell(&["campaign", "list", "--since", "yesterday"])), 2);
    assert_eq!(status(&stage.dinnerbell(&["campaign", "list", "--after", "nobody"])), 1);

    let (_, list) = json_of(stage, &["campaign", "list", "--state", "expired"]);
    let expired = &list[0];
    assert_eq!((&expired["told"], &expired["unsent"], &expired["late"]), (&json!(3), &json!(12), &json!(0)));
    for field in
        ["restaurant_id", "state", "adv_campaign_datetime_start", "adv_campaign_datetime_end", "audience_as_of"]
    {
        assert!(expired.get(field).is_some(), "{field} is missing in {expired}");
    }
    assert_eq!(expired["not_told"], json!([{ "why": "ended", "clients": 12 }]));
    let table = stage.dinnerbell_ok(&["campaign", "list"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.starts_with("CAMPAIGN"), "{table}");
}

#[test]
fn what_is_printed_as_json_is_what_the_page_of_the_commands_says() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    by_hand.execute(
        "update dinnerbell.campaign set first_draft_at = clock_timestamp(), last_draft_at = clock_timestamp(), skipped = 1;
         insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at) values ('never came', 0, 'cancelled', clock_timestamp())",
    );
    let (_, list) = json_of(&by_hand.stage, &["campaign", "list"]);
    assert_eq!(list.as_array().expect("a list").len(), 2);
    for campaign in list.as_array().expect("a list") {
        assert_documented(campaign, &["campaign list"]);
        let (_, shown) = json_of(&by_hand.stage, &["campaign", "show", campaign["adv_campaign_id"].as_str().unwrap()]);
        assert_documented(&shown, &["campaign list", "campaign show"]);
    }
}

#[test]
fn a_campaign_that_runs_is_listed_with_its_rate_and_when_it_will_be_complete() {
    let by_hand = ByHand::new();
    let stage = &by_hand.stage;
    stage.subscribers.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id)
         select to_char(n, 'FM0000000'), 'pizzeria' from generate_series(1, 70000) n;
         insert into public.subscribers_restaurants (client_id, restaurant_id) values ('0070000', 'pizzeria'), ('x', 'noodle bar');
         analyze public.subscribers_restaurants",
    );
    by_hand.record(1, &["0000001", "0000002"]);
    let lists = |told: i64| {
        by_hand.execute(&format!(
            "update dinnerbell.campaign set told = {told}, cursor = to_char({told}, 'FM0000000'),
               first_draft_at = clock_timestamp() - interval '5 seconds', last_draft_at = clock_timestamp();
             update dinnerbell.round set recorded_at = clock_timestamp() where seq = 1;
             update dinnerbell.round_part set drafts = {told}"
        ));
        let (status, list) = json_of(stage, &["campaign", "list"]);
        assert_eq!(status, 0);
        list[0].clone()
    };
    let estimated = lists(10_000);
    let rate = estimated["rate"].as_f64().expect("a number");
    assert!((500.0..=2000.0).contains(&rate), "{estimated}");
    let remaining = estimated["remaining"].as_i64().expect("a number");
    assert!((59_000..=61_000).contains(&remaining), "the statistics say how many favour the restaurant: {estimated}");
    assert!(estimated["expected_completion_at"].is_string(), "{estimated}");
    let counted = lists(69_000);
    assert_eq!(counted["remaining"], json!(1000), "the last ones are counted, each once: {counted}");

    by_hand.execute("update dinnerbell.round set recorded_at = clock_timestamp() - interval '1 minute'");
    let (_, list) = json_of(stage, &["campaign", "list"]);
    assert_eq!((&list[0]["rate"], &list[0]["expected_completion_at"]), (&json!(0.0), &Value::Null), "it stands still");
    let text = stage.dinnerbell_ok(&["campaign", "show", "offer"]);
    assert!(text.contains("0 drafts a second") && text.contains("about 1000"), "{text}");
}

#[test]
fn a_watched_list_prints_what_changed_until_ctrl_c_or_until_nobody_reads() {
    let by_hand = ByHand::new();
    let stage = &by_hand.stage;
    let config = stage.config.write(stage.dir.path());
    let watching = |args: &[&str]| {
        let mut watch = command(stage.dir.path(), &[&["campaign", "list", "--watch"], args].concat());
        watch.arg("-c").arg(&config);
        watch
    };
    let within = Duration::from_secs(60);
    let mut watch = Service::spawn(watching(&[]), stage.dir.path());
    watch.wait_for_log("offer active: 0 told", within);
    by_hand.execute("update dinnerbell.campaign set told = 7");
    watch.wait_for_log("offer active: 7 told", within);
    assert_eq!(watch.log().lines().count(), 2, "a line for each change: {}", watch.log());
    watch.signal(rustix::process::Signal::INT);
    assert!(watch.wait(within).success());

    let mut read_no_more = watching(&["--json"]).stdout(Stdio::piped()).spawn().expect("cargo built the binary");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(read_no_more.stdout.take().expect("it is piped")));
    let line = lines.next().expect("a line").expect("text");
    assert_documented(&serde_json::from_str(&line).expect("JSON on one line"), &["campaign list"]);
    drop(lines);
    let ended = crate::support::wait_for("the watch ended", within, || read_no_more.try_wait().expect("our child"));
    assert!(ended.success(), "a reader that has seen enough is no failure: {ended}");
}

#[test]
fn a_campaign_is_shown_with_all_that_is_known_of_it() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    let (status, shown) = json_of(&by_hand.stage, &["campaign", "show", "offer"]);
    assert_eq!(status, 0);
    assert_eq!(shown["told"], json!(2));
    assert_eq!(shown["adv_campaign_content"], json!(by_hand.campaign.adv_campaign_content));
    for field in [
        "lane",
        "revision",
        "skipped",
        "kept",
        "received_at",
        "first_draft_at",
        "last_draft_at",
        "unsent",
        "audience_as_of",
    ] {
        assert!(shown.get(field).is_some(), "{field} is missing in {shown}");
    }
    // The content holds a line break, which must not break the table.
    let text = by_hand.stage.dinnerbell_ok(&["campaign", "show", "offer"]);
    assert!(text.lines().all(|line| line.contains("  ")), "{text}");
}

#[test]
fn a_campaign_that_is_not_there_exits_1_and_says_where_to_look() {
    let by_hand = ByHand::new();
    let output = by_hand.stage.dinnerbell(&["campaign", "show", "nobody"]);
    assert_eq!(status(&output), 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no campaign nobody") && errors.contains("campaign list"), "{errors}");
}

#[test]
fn lanes_are_listed_with_their_halt_and_its_remedy() {
    let by_hand = ByHand::new();
    let (status, lanes) = json_of(&by_hand.stage, &["lane", "list"]);
    assert_eq!((status, &lanes[0]["halted"]), (0, &Value::Null));
    by_hand.execute(
        "update dinnerbell.lane set halted = 'kafka-refused', halted_found = 'no room', halted_remedy = 'make room',
         halted_at = clock_timestamp()",
    );
    let (_, lanes) = json_of(&by_hand.stage, &["lane", "list"]);
    let halted = &lanes[0]["halted"];
    assert_eq!((&halted["name"], &halted["remedy"]), (&json!("kafka-refused"), &json!("make room")));
    assert_eq!(lanes[0]["counts"]["records"], json!(0));
    let text = by_hand.stage.dinnerbell_ok(&["lane", "list"]);
    assert!(text.contains("make room"), "{text}");
}

#[test]
fn campaigns_are_found_by_text_owner_and_time_and_each_line_fits() {
    let by_hand = ByHand::new();
    let stage = &by_hand.stage;
    let mut soup = Campaign::now("zupa", "noodle bar");
    soup.adv_campaign_content = "Щи and 100% _soup_".to_owned();
    soup.adv_campaign_owner = "Olga".to_owned();
    by_hand.receive(&soup);
    by_hand.receive(&Campaign::now(&"long".repeat(60), "the restaurant with the long name at the end of the universe"));
    let ids = |args: &[&str]| -> Vec<String> {
        let (status, list) = json_of(stage, &[&["campaign", "list"], args].concat());
        assert_eq!(status, 0);
        let list = list.as_array().expect("a list").clone();
        list.iter().map(|campaign| campaign["adv_campaign_id"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(ids(&["--search", "щи AND 100%"]), ["zupa"], "in whatever case, and nothing in it is a pattern");
    assert_eq!(ids(&["--search", "NOODLE"]), ["zupa"]);
    assert_eq!(ids(&["--search", "_oup"]), [""; 0]);
    assert_eq!(ids(&["--search", "zup", "--owner", "Olga"]), ["zupa"]);
    assert_eq!(ids(&["--owner", "olga"]), [""; 0], "the whole name");
    by_hand.execute(
        "update dinnerbell.campaign set received_at = received_at - interval '1 day' where adv_campaign_id = 'zupa'",
    );
    assert_eq!(ids(&["--until", "-12h"]), ["zupa"]);
    assert_eq!(ids(&["--since", "-36h", "--until", "-12h"]), ["zupa"]);
    by_hand.execute("update dinnerbell.campaign set state = 'scheduled' where adv_campaign_id = 'zupa'");
    assert_eq!(ids(&["--state", "scheduled"]), ["zupa"]);
    assert_eq!(ids(&["--state", "scheduled,active"]).len(), 3);
    assert_eq!(ids(&["--state", "active", "--after", &"long".repeat(60)]), ["offer"]);
    let text = stage.dinnerbell_ok(&["campaign", "list"]);
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

#[test]
fn the_reasons_of_dead_letters_are_cut_to_fit() {
    let by_hand = ByHand::new();
    by_hand.execute(&format!(
        "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, reason) values (0, 0, 1, '{}')",
        "it is wrong, and ".repeat(30)
    ));
    let text = by_hand.stage.dinnerbell_ok(&["dead-letter", "list"]);
    assert!(text.lines().all(|line| line.chars().count() <= 120) && text.contains('…'), "{text}");
}

#[test]
fn a_campaign_has_a_timeline_and_shows_when_it_was_told() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    by_hand.record(2, &["c"]);
    by_hand.execute(
        "update dinnerbell.round set recorded_at = recorded_at - interval '1 hour' where seq = 1;
         update dinnerbell.round_part set last_page = true where seq = 2;
         update dinnerbell.campaign set first_draft_at = clock_timestamp() - interval '1 hour', last_draft_at = clock_timestamp(),
           revision = 3, updated_at = clock_timestamp() - interval '2 hours', received_at = clock_timestamp() - interval '3 hours'",
    );
    let (_, shown) = json_of(&by_hand.stage, &["campaign", "show", "offer"]);
    assert_documented(&shown, &["campaign list", "campaign show"]);
    let timeline: Vec<&str> =
        shown["timeline"].as_array().expect("a list").iter().filter_map(|one| one["what"].as_str()).collect();
    assert_eq!(
        timeline,
        ["received", "updated", "first_draft", "start", "main_pass_over", "last_draft", "end"],
        "{shown}"
    );
    assert_eq!(shown["timeline"][1]["times"], json!(2));
    let told: Vec<i64> =
        shown["told_over_time"].as_array().expect("a list").iter().filter_map(|one| one["drafts"].as_i64()).collect();
    assert_eq!(told, [2, 1], "the parts without drafts are left out: {shown}");
    let text = by_hand.stage.dinnerbell_ok(&["campaign", "show", "offer"]);
    assert!(text.contains("updated, 2 times"), "{text}");
}

#[test]
fn lanes_show_their_state_and_lag() {
    let by_hand = ByHand::new();
    let (_, lanes) = json_of(&by_hand.stage, &["lane", "list"]);
    assert_eq!((&lanes[0]["state"], &lanes[0]["lag"]), (&json!("unowned"), &json!(0)), "{lanes}");
    by_hand.stage.send(&Campaign::now("another", "pizzeria"));
    by_hand.execute("update dinnerbell.lane set owner = 'gone:1'");
    let (_, lanes) = json_of(&by_hand.stage, &["lane", "list"]);
    assert_eq!((&lanes[0]["state"], &lanes[0]["lag"]), (&json!("unowned"), &json!(1)), "no instance runs: {lanes}");
    by_hand.execute("update dinnerbell.service set paused_at = now(), paused_by = 'x'");
    assert_eq!(json_of(&by_hand.stage, &["lane", "list"]).1[0]["state"], json!("paused"));
    by_hand.execute("update dinnerbell.lane set halted = 'kafka-refused', halted_found = 'f', halted_remedy = 'r', halted_at = now()");
    assert_eq!(json_of(&by_hand.stage, &["lane", "list"]).1[0]["state"], json!("halted"));
    let text = by_hand.stage.dinnerbell_ok(&["lane", "list"]);
    assert!(text.starts_with("LANE  STATE") && text.contains("LAG") && text.contains("kafka-refused"), "{text}");
}
