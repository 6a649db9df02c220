//! `lane adopt`: what a lane held whose partition is gone is told by another one.

use std::time::Duration;

use dinnerbell_postgres::sql::fragments::COMPARISON;
use serde_json::json;

use crate::operate::by_hand::{ByHand, json_of};
use crate::operate::documented::assert_documented;
use crate::support::service::{command, run};
use crate::support::{Campaign, Expected, Setting, Stage, wait_for, wait_until};

const LONG: Duration = Duration::from_secs(60);
const ADOPT: [&str; 5] = ["lane", "adopt", "5", "--into", "0"];

/// Lane 0 exists; lane 5 is in the ledger alone, with rounds up to 4, all published.
fn with_lane_5() -> ByHand {
    let by_hand = ByHand::new();
    by_hand.execute(
        "insert into dinnerbell.lane (lane, lock_key, position, seq, published_seq) values (5, 4712, 10, 4, 4);
         insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created) values (5, 4, 0, 0, 10, 0);
         insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, reason) values (5, 5, 9, 'it is wrong')",
    );
    by_hand.execute(&format!("update dinnerbell.lane set compared = (select {COMPARISON} from dinnerbell.service)"));
    by_hand
}

/// Lane 5 owns a campaign that nobody was told of yet.
fn orphan(by_hand: &ByHand, name: &str) -> Campaign {
    let campaign = Campaign::now(name, name);
    by_hand.receive(&campaign);
    by_hand.execute(&format!("update dinnerbell.campaign set lane = 5 where adv_campaign_id = '{name}'"));
    campaign
}

/// Round 4 of lane 5 is recorded with a page of these clients, and a dead letter. Nobody knows whether it was published.
fn record_in_lane_5(by_hand: &ByHand, campaign: &Campaign, clients: &[String]) {
    let (id, cursor) = (&campaign.adv_campaign_id, clients.last().expect("a page has clients"));
    by_hand.execute(&format!(
        "update dinnerbell.lane set published_seq = 3 where lane = 5;
         update dinnerbell.dead_letter set round_seq = 4 where lane = 5;
         update dinnerbell.round set drafts = {drafts}, trigger_datetime_created = {formed},
           dead_letters = array(select id from dinnerbell.dead_letter where lane = 5) where lane = 5 and seq = 4;
         insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, upto_client, last_page, drafts,
           checksum) values (5, 4, 0, '{id}', 1, true, '{cursor}', false, {drafts}, 0);
         update dinnerbell.campaign set cursor = '{cursor}', told = {drafts} where adv_campaign_id = '{id}'",
        drafts = clients.len(),
        formed = by_hand.formed(),
    ));
    for client in clients {
        by_hand.row(campaign, client);
    }
}

fn is(stage: &Stage, id: &str, state: &str) -> bool {
    let sql = format!(
        "select count(*) from dinnerbell.campaign where adv_campaign_id = '{id}' and state = '{state}' and lane = 0"
    );
    stage.feedback.number(&sql) == 1
}

#[test]
fn an_idle_owner_notices_what_its_lane_adopted_and_goes_on_with_it() {
    let by_hand = with_lane_5();
    let stage = &by_hand.stage;
    stage.subscribers.subscribe("orphan", 12);
    stage.subscribers.subscribe("finished", 3);
    let (campaign, finished) = (orphan(&by_hand, "orphan"), orphan(&by_hand, "finished"));
    by_hand
        .execute("update dinnerbell.campaign set last_page_seq = 4, cursor = 'zzz' where adv_campaign_id = 'finished'");
    let service = stage.start();
    wait_until("its own campaign is complete", LONG, || is(stage, "offer", "complete"));
    assert_eq!(stage.row_count(), 0, "nobody runs lane 5");
    let (status, adoption) = json_of(stage, &ADOPT);
    assert_eq!(status, 0);
    assert_documented(&adoption, &["lane adopt"]);
    assert_eq!(
        (&adoption["campaigns"], &adoption["dead_letters"], &adoption["withdrawn_round"]),
        (&json!(2), &json!(1), &json!(null)),
        "{adoption}"
    );
    wait_until("it is told", LONG, || is(stage, "orphan", "complete"));
    assert!(is(stage, "finished", "complete"), "its last page was published before");
    // Who subscribed after that page is told by the adopting lane.
    let expected = Expected::from([
        (&campaign, stage.subscribers.clients_of("orphan")),
        (&finished, stage.subscribers.clients_of("finished")),
    ]);
    wait_until("everybody is told", LONG, || stage.row_count() >= expected.len());
    wait_until("the dead letter is published", LONG, || stage.kafka.read_topic(&stage.dead_letters).len() == 1);
    service.stop();
    stage.assert_sinks(&expected);
    let lanes = json_of(stage, &["lane", "list"]).1;
    let by = |lane: usize, field: &str| lanes[lane][field].as_str().unwrap_or_default().to_owned();
    assert!(by(1, "resolved_by").ends_with("lane adopt 5 --into 0"), "{lanes}");
    assert_eq!(by(1, "owner"), by(1, "resolved_by"), "{lanes}");
    assert_ne!(by(0, "owner"), by(1, "owner"), "the instance took its lane over again");
}

#[test]
fn a_cancellation_that_waited_for_the_gone_lane_is_applied_by_the_adopting_one() {
    let by_hand = with_lane_5();
    let stage = &by_hand.stage;
    stage.subscribers.subscribe("orphan", 5);
    orphan(&by_hand, "orphan");
    by_hand.execute(
        "insert into dinnerbell.change (adv_campaign_id, from_lane, record_offset, record_timestamp, key)
         values ('orphan', 0, 1, 1, 'orphan')",
    );
    let (status, adoption) = json_of(stage, &ADOPT);
    assert_eq!((status, &adoption["changes"]), (0, &json!(1)), "{adoption}");
    let service = stage.start();
    wait_until("it is cancelled", LONG, || is(stage, "orphan", "cancelled"));
    wait_until("the lane runs", LONG, || is(stage, "offer", "complete"));
    service.stop();
    stage.assert_sinks(&Expected::default());
}

/// The adoption is refused, because nobody knows whether round 4 was published; what mends that is printed, and followed.
#[track_caller]
fn follow_refusal(stage: &Stage) {
    let refused = stage.dinnerbell(&ADOPT);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let remedy = said.rsplit("dinnerbell ").next().and_then(|rest| rest.split_once("; then adopt again"));
    let (remedy, _) = remedy.unwrap_or_else(|| panic!("no command is named: {said}"));
    assert_eq!(remedy, "lane resolve 5 --from-kafka");
    stage.dinnerbell_ok(&remedy.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_round_of_which_nobody_knows_is_refused_until_the_topic_was_asked_then_told_again() {
    let by_hand = with_lane_5();
    let stage = &by_hand.stage;
    stage.subscribers.subscribe_clients("orphan", &["a", "b", "c", "d"]);
    let campaign = orphan(&by_hand, "orphan");
    record_in_lane_5(&by_hand, &campaign, &["a", "b", "c"].map(str::to_owned));
    follow_refusal(stage);
    assert_eq!(by_hand.clients(), ["a", "b", "c"]);

    by_hand.execute("update public.subscribers_feedback set feedback = 'yes' where client_id = 'b'");
    let (status, looked) = json_of(stage, &[&ADOPT[..], &["--dry-run"]].concat());
    assert_documented(&looked, &["lane adopt"]);
    let counts = |found: &serde_json::Value| {
        ["withdrawn_round", "rows_withdrawn", "rows_kept", "dead_letters", "dry_run"].map(|field| found[field].clone())
    };
    assert_eq!((status, counts(&looked)), (0, [json!(4), json!(3), json!(null), json!(1), json!(true)]));
    assert_eq!(by_hand.clients(), ["a", "b", "c"], "a dry run writes nothing");

    let (status, adopted) = json_of(stage, &ADOPT);
    assert_eq!((status, counts(&adopted)), (0, [json!(4), json!(3), json!(1), json!(1), json!(false)]));
    assert_eq!(by_hand.clients(), ["b"], "somebody answered in it");
    let service = stage.start();
    wait_until("it is told", LONG, || is(stage, "orphan", "complete"));
    wait_until("the dead letter is published", LONG, || stage.kafka.read_topic(&stage.dead_letters).len() == 1);
    service.stop();
    assert_eq!(by_hand.clients(), ["a", "b", "c", "d"]);
    let mut told: Vec<_> = stage.messages().into_iter().filter_map(|message| message.key).collect();
    told.sort();
    assert_eq!(told, ["a", "c", "d"]);
    assert_eq!(json_of(stage, &["verify"]).0, 0, "the row that stays is counted as kept");
}

#[test]
fn a_lane_that_was_not_compared_since_a_restore_is_adopted_with_what_it_had_told_since() {
    let by_hand = with_lane_5();
    let stage = &by_hand.stage;
    stage.subscribers.subscribe_clients("orphan", &["a", "b", "c"]);
    let campaign = orphan(&by_hand, "orphan");
    // The ledger is of a time before round 5, which told a and b. Its partition is gone, and the mark with it.
    by_hand.execute("update dinnerbell.lane set compared = 'another server' where lane = 5");
    let source = format!("/dinnerbell/{}", stage.group);
    for client in ["a", "b"] {
        let mut value = serde_json::to_value(&campaign).expect("a campaign is JSON");
        value["client_id"] = json!(client);
        value["trigger_datetime_created"] = json!(by_hand.formed());
        let round = format!("{}/5/5", stage.campaigns);
        let headers: [(&str, &[u8]); 2] = [("ce_source", source.as_bytes()), ("dinnerbell_round", round.as_bytes())];
        stage.kafka.produce(
            &stage.notifications,
            None,
            Some(client.as_bytes()),
            Some(value.to_string().as_bytes()),
            &headers,
        );
    }
    follow_refusal(stage);
    assert_eq!(by_hand.clients(), ["a", "b"]);
    assert_eq!(json_of(stage, &ADOPT).0, 0);
    let service = stage.start();
    wait_until("it is told", LONG, || is(stage, "orphan", "complete"));
    service.stop();
    assert_eq!(by_hand.clients(), ["a", "b", "c"]);
    let mut told: Vec<_> = stage.messages().into_iter().filter_map(|message| message.key).collect();
    told.sort();
    assert_eq!(told, ["a", "b", "c"], "nobody is told twice");
}

#[test]
fn nothing_is_adopted_while_all_is_held_and_the_remedy_that_is_named_lets_it() {
    let by_hand = with_lane_5();
    let stage = &by_hand.stage;
    orphan(&by_hand, "orphan");
    by_hand.mark(0, 0, 0);
    by_hand.execute(
        "update dinnerbell.service set compared = 'another server';
         update dinnerbell.lane set compared = 'another server' where lane = 0",
    );
    for args in [&ADOPT[..], &[&ADOPT[..], &["--dry-run"]].concat()] {
        let refused = stage.dinnerbell(args);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("compare all lanes: dinnerbell lane resolve --all --from-kafka; then adopt again"),
            "{said}"
        );
    }
    stage.dinnerbell_ok(&["lane", "resolve", "--all", "--from-kafka"]);
    assert_eq!(json_of(stage, &ADOPT).0, 0);
}

#[test]
fn an_adoption_that_dies_before_it_moved_anything_is_done_again_and_an_old_decision_does_not_count_then() {
    let by_hand = with_lane_5();
    let stage = &by_hand.stage;
    stage.subscribers.subscribe_clients("orphan", &["a", "b"]);
    let campaign = orphan(&by_hand, "orphan");
    record_in_lane_5(&by_hand, &campaign, &["a".to_owned()]);
    follow_refusal(stage);
    let mut dying = command(stage.dir.path(), &ADOPT);
    dying.arg("-c").arg(stage.config.write(stage.dir.path())).env("DINNERBELL_FAIL_POINT", "adopt.settled@1=abort");
    assert_eq!(run(dying, LONG).status.code(), None, "it was killed");
    assert_eq!(by_hand.clients(), ["a"]);
    assert_eq!(stage.feedback.number("select count(*) from dinnerbell.campaign where lane = 5"), 1);
    // Somebody took the lane since the topic was asked: who knows what they published.
    follow_refusal(stage);
    stage.dinnerbell_ok(&ADOPT);
    let again = stage.dinnerbell_ok(&ADOPT);
    assert!(again.contains("0 campaigns"), "done twice it changes nothing: {again}");
    let service = stage.start();
    wait_until("it is told", LONG, || is(stage, "orphan", "complete"));
    service.stop();
    stage.assert_sinks(&Expected::from([(&campaign, stage.subscribers.clients_of("orphan"))]));
}

#[test]
fn a_lane_that_is_telling_its_own_campaign_adopts_another_with_a_long_history_without_harm_to_either() {
    const PIZZERIA: usize = 15_000;
    let mut by_hand = with_lane_5();
    by_hand.stage.config.set("fanout", "round_rows", 100).set("fanout", "rate_limit", 1_000);
    let stage = &by_hand.stage;
    stage.subscribers.subscribe("orphan", 300);
    stage.subscribers.subscribe("pizzeria", PIZZERIA as u64);
    let campaign = orphan(&by_hand, "orphan");
    by_hand.execute(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, unsent, restaurant_id, adv_campaign_datetime_start,
           adv_campaign_datetime_end) select 'old ' || n, 5, 'closed', 0, 'old', 0, extract(epoch from now()) - 60
         from generate_series(1, 50000) n",
    );
    let service = stage.start();
    wait_until("its own campaign is being told", LONG, || stage.row_count() > 200);
    let (status, adoption) = json_of(stage, &ADOPT);
    assert_eq!((status, &adoption["campaigns"]), (0, &json!(50_001)), "{adoption}");
    assert!(stage.row_count() < PIZZERIA, "it still is");
    wait_until("both are told", LONG, || is(stage, "orphan", "complete") && is(stage, "offer", "complete"));
    service.stop();
    stage.assert_sinks(&Expected::from([
        (&campaign, stage.subscribers.clients_of("orphan")),
        (&by_hand.campaign, stage.subscribers.clients_of("pizzeria")),
    ]));
    assert_eq!(json_of(stage, &["verify"]).0, 0);
}

/// The lanes' adoptions that doctor asks for.
fn adoptions_asked_for(stage: &Stage) -> Vec<String> {
    let report = json_of(stage, &["doctor"]).1;
    let ill = report["findings"].as_array().expect("findings").iter();
    let ill = ill.filter(|finding| finding["check"] == "lanes" && finding["status"] == "error");
    let commands = ill.filter_map(|finding| finding["remedy"].as_str()?.rsplit("dinnerbell ").next());
    commands.filter(|command| command.starts_with("lane adopt")).map(str::to_owned).collect()
}

#[test]
fn the_lanes_of_a_topic_that_was_created_again_with_fewer_partitions_are_adopted() {
    adopt_after_the_topic_was_recreated(false);
}

#[test]
fn so_they_are_where_the_topic_was_created_again_under_a_running_service() {
    adopt_after_the_topic_was_recreated(true);
}

fn adopt_after_the_topic_was_recreated(service_runs: bool) {
    let stage = Stage::with(Setting { lanes: 2, ..Setting::default() });
    stage.migrate();
    let (stays, goes) = (Campaign::now("stays", "stays"), Campaign::now("goes", "goes"));
    let mut expected = Expected::default();
    for (lane, campaign) in [(0, &stays), (1, &goes)] {
        stage.subscribers.subscribe(&campaign.restaurant_id, 7);
        expected.add(campaign, stage.subscribers.clients_of(&campaign.restaurant_id));
        stage.send_to(lane, campaign);
    }
    let service = stage.start();
    stage.await_sinks(&expected, LONG);
    let noted = "select count(*) from dinnerbell.lane where published_seq = seq";
    wait_until("the ledger knows that its last rounds are published", LONG, || stage.feedback.number(noted) == 2);
    let mut service = Some(service);
    if !service_runs {
        service.take().into_iter().for_each(|service| drop(service.stop()));
    }
    stage.kafka.delete_topics(&[&stage.campaigns]);
    wait_until("the topic is gone", LONG, || stage.kafka.partitions(&stage.campaigns).is_empty());
    stage.kafka.create_topic(&stage.campaigns, 1, &[]);
    wait_until("it is there again", LONG, || stage.kafka.partitions(&stage.campaigns).len() == 1);

    assert_eq!(adoptions_asked_for(&stage), ["lane adopt 1 --into 0"]);
    let (status, adoption) = json_of(&stage, &["lane", "adopt", "1", "--into", "0"]);
    let moved = ["campaigns", "withdrawn_round"].map(|field| adoption[field].clone());
    assert_eq!((status, moved), (0, [json!(1), json!(null)]), "{adoption}");
    assert_eq!(adoptions_asked_for(&stage), [""; 0]);
    for (campaign, client) in [(&stays, "late for what stays"), (&goes, "late for what goes")] {
        stage.subscribers.subscribe_clients(&campaign.restaurant_id, &[client]);
        expected.add(campaign, [client.to_owned()]);
    }

    // Lane 0 had read from the topic that was there before, and halts until somebody says where it goes on.
    let service = service.unwrap_or_else(|| stage.start());
    let halted = wait_for("the halt", LONG, || {
        json_of(&stage, &["lane", "list"]).1[0].get("halted").filter(|halt| !halt.is_null()).cloned()
    });
    assert_eq!(halted["name"], "topic-replaced", "{halted}");
    stage.dinnerbell_ok(&["lane", "resolve", "0", "--restart-at", "earliest"]);
    wait_until("who subscribed meanwhile is told", LONG, || stage.row_count() == expected.len());
    let update = Campaign {
        adv_campaign_content: "now with dessert".to_owned(),
        datetime_created: goes.datetime_created + 1,
        ..goes
    };
    stage.send(&update);
    let updated = "select count(*) from dinnerbell.campaign where adv_campaign_id = 'goes' and revision = 2";
    wait_until("an update reaches it", LONG, || stage.feedback.number(updated) == 1);
    stage.subscribers.subscribe_clients(&update.restaurant_id, &["told of the dessert"]);
    expected.add(&update, ["told of the dessert".to_owned()]);
    wait_until("they are told of the update", LONG, || stage.row_count() == expected.len());
    service.stop();
    stage.assert_sinks(&expected);
    assert_eq!(json_of(&stage, &["verify"]).0, 0);
}

#[test]
fn an_adoption_that_makes_no_sense_is_refused_and_says_why() {
    let by_hand = with_lane_5();
    let refused = |args: &[&str], status: i32, words: &str| {
        let output = by_hand.stage.dinnerbell(&[&["lane", "adopt"][..], args].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(words), "{said}");
    };
    by_hand.execute("insert into dinnerbell.lane (lane, lock_key, position) values (7, 4713, 0)");
    refused(&["0", "--into", "5"], 1, "exists");
    refused(&["5", "--into", "7"], 1, "nobody would run lane 7 either");
    refused(&["6", "--into", "0"], 1, "no lane 6");
    refused(&["5", "--into", "1"], 1, "no lane 1");
    refused(&["5", "--into", "5"], 2, "itself");
    assert_eq!(by_hand.stage.feedback.number("select epoch from dinnerbell.lane where lane = 5"), 0);
}
