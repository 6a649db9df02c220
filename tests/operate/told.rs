//! Who was told, and who was not: by hand for each reason, and by a service that was stopped half-way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of, status};
use crate::operate::documented::assert_documented;
use crate::support::{Campaign, Stage, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// `a` and `b` were told of the offer; `c` and `d` were not, nor those whose ids cannot be used.
fn half_told() -> ByHand {
    let by_hand = ByHand::new();
    let long = "x".repeat(300);
    by_hand.stage.subscribers.execute(&format!(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) select c, 'pizzeria'
         from unnest(array['a', 'b', 'c', 'd', 'd', '', '{long}']) c;
         insert into public.subscribers_restaurants (client_id, restaurant_id) values ('e', 'noodle bar')"
    ));
    by_hand.record(1, &["a", "b"]);
    by_hand
}

fn told(by_hand: &ByHand, client: &str) -> Value {
    let (status, answer) = json_of(&by_hand.stage, &["campaign", "told", "offer", "--client", client]);
    assert_eq!(status, 0, "{answer}");
    assert_documented(&answer, &["campaign told"]);
    answer
}

fn reason(by_hand: &ByHand, client: &str) -> String {
    told(by_hand, client)["reason"].as_str().unwrap_or_default().to_owned()
}

/// Who was not told, with the reason.
fn not_told(stage: &Stage, args: &[&str]) -> Vec<(String, String)> {
    let (status, list) = json_of(stage, &[&["campaign", "not-told", "offer"], args].concat());
    assert_eq!(status, 0);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    list.as_array().expect("a list").iter().map(|one| (text(&one["client_id"]), text(&one["reason"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(client, reason)| ((*client).to_owned(), (*reason).to_owned())).collect()
}

#[test]
fn who_was_told_is_shown_with_the_round_and_who_was_not_with_the_reason() {
    let by_hand = half_told();
    let one = told(&by_hand, "a");
    assert_eq!((&one["told"], &one["lane"], &one["round"]), (&json!(true), &json!(0), &json!(1)), "{one}");
    assert_eq!((&one["late"], &one["published"]), (&json!(false), &json!(false)), "{one}");
    assert_eq!((&one["trigger_datetime_created"], &one["reason"]), (&json!(by_hand.formed()), &Value::Null));
    by_hand.execute("update dinnerbell.lane set published_seq = 1; update public.subscribers_feedback set feedback = 'good' where client_id = 'a'");
    let one = told(&by_hand, "a");
    assert_eq!((&one["published"], &one["answered"]), (&json!(true), &json!(true)), "{one}");
    assert_eq!([reason(&by_hand, "c"), reason(&by_hand, "e")], ["waiting", "not_subscribed"]);
    assert_eq!([reason(&by_hand, ""), reason(&by_hand, &"x".repeat(300))], ["unusable_id", "unusable_id"]);
    by_hand.execute("delete from dinnerbell.round_part");
    let forgotten = told(&by_hand, "a");
    assert_eq!((&forgotten["told"], &forgotten["round"]), (&json!(true), &Value::Null), "its round was pruned");
    let text = by_hand.stage.dinnerbell_ok(&["campaign", "told", "offer", "--client", "c"]);
    assert!(text.contains("client c was not told of campaign offer (active)"), "{text}");
    let unknown = by_hand.stage.dinnerbell(&["campaign", "told", "nothing", "--client", "c"]);
    assert_eq!(status(&unknown), 1);
}

#[test]
fn each_state_of_a_campaign_has_its_reason() {
    let by_hand = half_told();
    let c = |sql: &str| {
        by_hand.execute(sql);
        reason(&by_hand, "c")
    };
    let window = |start: i64, end: i64| {
        format!(
            "update dinnerbell.campaign set adv_campaign_datetime_start = extract(epoch from now())::int8 + {start}, \
                 adv_campaign_datetime_end = extract(epoch from now())::int8 + {end}"
        )
    };
    assert_eq!(c(&window(600, 900)), "not_started");
    assert_eq!(c(&window(-900, -600)), "ended");
    assert_eq!(c("update dinnerbell.campaign set cursor = 'c'"), "subscribed_later", "their place was passed");
    assert_eq!(c(&window(-900, 600)), "waiting", "they are told late");
    assert_eq!(c("update dinnerbell.service set paused_at = now(), paused_by = 'x'"), "paused");
    assert_eq!(
        c(
            "update dinnerbell.service set paused_at = null; update dinnerbell.lane set halted = 'kafka-refused', halted_found = 'f', halted_remedy = 'r', halted_at = now()"
        ),
        "halted"
    );
    assert_eq!(c("update dinnerbell.campaign set state = 'cancelled', cursor = 'b'"), "cancelled");
    let withdrawn = "insert into dinnerbell.round (lane, seq, revision, checksum, drafts, position, trigger_datetime_created) values (0, 2, 1, 0, 0, 0, 0);
         insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, after_client, upto_client, last_page, drafts, checksum)
         values (0, 2, 0, 'offer', 1, false, 'b', 'c', false, 0, 0)";
    assert_eq!(c(withdrawn), "withdrawn");
    assert_eq!(reason(&by_hand, "d"), "cancelled", "they stood on no page that was withdrawn");
    assert_eq!(not_told(&by_hand.stage, &[])[..2], pairs(&[("c", "withdrawn"), ("d", "cancelled")])[..]);
}

#[test]
fn those_who_were_not_told_are_listed_in_pages_as_json_csv_and_text() {
    let by_hand = half_told();
    by_hand.stage.subscribers.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) select c, 'pizzeria' from unnest(array['=1+1', 'e,f']) c",
    );
    let long = "x".repeat(256);
    let all = pairs(&[
        ("=1+1", "subscribed_later"),
        ("c", "waiting"),
        ("d", "waiting"),
        ("e,f", "waiting"),
        (&long, "unusable_id"),
        ("", "unusable_id"),
    ]);
    let mut stage_without_late = all.clone();
    stage_without_late[0].1 = "waiting".to_owned();
    assert_eq!(not_told(&by_hand.stage, &[]), stage_without_late, "newcomers are told late");
    assert_eq!(not_told(&by_hand.stage, &["--limit", "2"]), stage_without_late[..2]);
    assert_eq!(not_told(&by_hand.stage, &["--limit", "2", "--after", "c"]), stage_without_late[2..4]);
    let csv = by_hand.stage.dinnerbell_ok(&["campaign", "not-told", "offer", "--csv", "--limit", "4"]);
    assert_eq!(csv, "client_id,reason\r\n'=1+1,waiting\r\nc,waiting\r\nd,waiting\r\n\"e,f\",waiting\r\n");
    let output = by_hand.stage.dinnerbell(&["campaign", "not-told", "offer"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("6 were not told: 4 waiting, 2 unusable id; 6 of the audience were compared"), "{said}");
    let cut = by_hand.stage.dinnerbell(&["campaign", "not-told", "offer", "--limit", "1"]);
    let said = String::from_utf8_lossy(&cut.stderr).into_owned();
    assert!(said.contains("those behind: --after =1+1"), "{said}");
}

#[test]
fn an_audience_of_many_pages_is_compared_to_its_end() {
    let by_hand = ByHand::new();
    by_hand.stage.subscribers.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) select to_char(n, 'FM0000000'), 'pizzeria' from generate_series(1, 25000) n",
    );
    by_hand.record_many(1, 20_000);
    by_hand.execute("delete from public.subscribers_feedback where client_id in ('0000007', '0010000', '0010001')");
    by_hand.execute("update dinnerbell.campaign set adv_campaign_datetime_end = 1");
    let list = not_told(&by_hand.stage, &[]);
    let expected: Vec<String> =
        [7, 10_000, 10_001].into_iter().chain(20_001..=25_000).map(|n| format!("{n:07}")).collect();
    assert_eq!(list.iter().map(|(client, _)| client.clone()).collect::<Vec<_>>(), expected);
    let mut reasons = BTreeMap::<&str, usize>::new();
    list.iter().for_each(|(_, reason)| *reasons.entry(reason.as_str()).or_default() += 1);
    assert_eq!(reasons, BTreeMap::from([("ended", 5_000), ("subscribed_later", 3)]));
}

#[test]
fn as_many_are_listed_as_the_service_counts_unsent() {
    let mut stage = Stage::new();
    stage.config.set("fanout", "round_rows", 50).set("fanout", "rate_limit", 200);
    stage.migrate();
    stage.subscribers.subscribe("pizzeria", 3_000);
    let service = stage.start();
    stage.send(&Campaign::now("offer", "pizzeria"));
    wait_until("some are told", LONG, || stage.row_count() > 200);
    let (cancelled, _) = json_of(&stage, &["campaign", "cancel", "offer"]);
    assert_eq!(cancelled, 0);
    let counted = || json_of(&stage, &["campaign", "show", "offer"]).1["unsent"].as_i64();
    wait_until("who was not told is counted", LONG, || counted().is_some());
    let list = not_told(&stage, &[]);
    assert_eq!(list.len() as i64, counted().expect("it is counted"));
    assert!(
        !list.is_empty() && list.iter().all(|(_, reason)| ["cancelled", "withdrawn"].contains(&&**reason)),
        "{list:?}"
    );
    service.stop();
}

#[test]
fn a_client_is_shown_with_the_last_campaigns_of_their_restaurants_and_those_that_told_them() {
    let by_hand = half_told();
    by_hand.receive(&Campaign::now("noodles", "noodle bar"));
    by_hand.receive(&Campaign::now("pizza again", "pizzeria"));
    by_hand.row(&Campaign::now("noodles", "noodle bar"), "c");
    let show = |args: &[&str]| -> Value {
        let (status, shown) = json_of(&by_hand.stage, &[&["client", "show", "c"], args].concat());
        assert_eq!(status, 0);
        assert_documented(&shown["campaigns"][0], &["campaign told"]);
        shown
    };
    let shown = show(&[]);
    assert_eq!(shown["favours"], json!(["pizzeria"]));
    let of = |shown: &Value| -> Vec<(String, bool)> {
        let campaigns = shown["campaigns"].as_array().expect("a list");
        campaigns
            .iter()
            .map(|one| (one["adv_campaign_id"].as_str().expect("text").to_owned(), one["told"] == json!(true)))
            .collect()
    };
    let all = [("pizza again", false), ("noodles", true), ("offer", false)].map(|(id, told)| (id.to_owned(), told));
    assert_eq!(of(&shown), all, "those of their restaurants, and one that told them before they left");
    assert_eq!((&shown["looked_at"]["campaigns"], &shown["looked_at"]["next"]), (&json!(3), &Value::Null));
    let first = show(&["--last", "2"]);
    assert_eq!((of(&first).len(), &first["looked_at"]["next"]), (2, &json!("noodles")));
    assert_eq!(of(&show(&["--after", "noodles"])), all[2..]);
    let text = by_hand.stage.dinnerbell_ok(&["client", "show", "c"]);
    assert!(text.starts_with("CAMPAIGN") && text.contains("3 campaigns were looked at"), "{text}");
}
