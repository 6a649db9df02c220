//! Nothing is lost in silence: each record ends as exactly one thing, and the counts add up.

use serde_json::Value;

use crate::life::scene::{LONG, await_state, await_unsent, cancel, clients, counted, known, stage, update};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, wait_until};

/// What a record can end as.
const KINDS: [&str; 7] =
    ["campaigns", "updates", "older_updates", "duplicates", "handed_over", "cancellations", "dead_letters"];

#[test]
fn after_a_mixed_history_over_two_lanes_the_records_add_up() {
    let stage = stage(2);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let campaigns: Vec<_> = (0..6).map(|n| Campaign::now(&format!("offer-{n}"), "pizzeria")).collect();
    let mut sent = [0_i64; 2];
    let mut expected = Expected::default();
    for (n, campaign) in campaigns.iter().enumerate() {
        let (own, other) = ((n % 2) as i32, ((n + 1) % 2) as i32);
        stage.send_to(own, campaign);
        await_state(&stage, &campaign.adv_campaign_id, "complete");
        expected.add(campaign, clients(&stage, "pizzeria"));
        for lane in [own, other] {
            let elsewhere = Campaign { restaurant_id: "noodle bar".to_owned(), ..update(&update(campaign)) };
            stage.send_to(lane, campaign);
            stage.send_to(lane, &update(campaign));
            stage.send_to(lane, &Campaign { datetime_created: 1, ..campaign.clone() });
            stage.send_to(lane, &elsewhere);
            stage.kafka.produce(&stage.campaigns, Some(lane), Some(b"bad"), Some(b"{"), &[]);
            cancel(&stage, lane, campaign);
            cancel(&stage, lane, &Campaign::now(&format!("unknown-{n}"), "pizzeria"));
            sent[lane as usize] += 7;
        }
        sent[own as usize] += 1;
    }
    wait_until("everything is taken in", LONG, || counted(&stage, "records") == sent.iter().sum::<i64>());
    wait_until("everything is applied", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.change where judged_as is null") == 0
    });
    for (lane, sent) in sent.iter().enumerate() {
        let of_lane =
            |what: &str| stage.feedback.number(&format!("select {what} from dinnerbell.lane where lane = {lane}"));
        assert_eq!((of_lane("records"), of_lane("position")), (*sent, *sent), "lane {lane}");
        assert_eq!(of_lane(&KINDS.join(" + ")), *sent, "lane {lane}");
    }
    let rows = |from: &str| stage.feedback.number(&format!("select count(*) from dinnerbell.{from}"));
    assert_eq!(counted(&stage, "campaigns"), 6);
    assert_eq!(rows("change"), counted(&stage, "handed_over"));
    // A letter is written by the lane that receives it, or by the owner for what was handed over.
    let applied = rows("change where judged_as = 'dead letter'");
    assert_eq!(rows("dead_letter"), counted(&stage, "dead_letters") + applied);
    assert_eq!(rows("campaign where state = 'cancelled'"), 12);
    stage.await_sinks(&expected, LONG);
    let letters = rows("dead_letter");
    wait_until("each dead letter is published once", LONG, || {
        stage.kafka.read_topic(&stage.dead_letters).len() as i64 == letters
    });
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn who_was_not_told_of_a_cancelled_campaign_is_counted_if_it_ever_arrived() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let now = epoch_seconds();
    let complete = Campaign::now("complete", "pizzeria");
    let scheduled = Campaign::now("scheduled", "pizzeria").lasting(now + 3_000, now + 3_600);
    let expired = Campaign::now("expired", "pizzeria").lasting(now - 60, now - 1);
    let unknown = Campaign::now("unknown", "pizzeria");
    for campaign in [&complete, &scheduled, &expired] {
        stage.send(campaign);
        await_state(&stage, &campaign.adv_campaign_id, &campaign.adv_campaign_id);
    }
    for campaign in [&unknown, &complete, &scheduled, &expired] {
        cancel(&stage, 0, campaign);
        await_state(&stage, &campaign.adv_campaign_id, "cancelled");
    }
    for (campaign, unsent) in [(&complete, 0), (&scheduled, 5), (&expired, 5)] {
        assert_eq!(await_unsent(&stage, &campaign.adv_campaign_id), unsent, "{}", campaign.adv_campaign_id);
    }
    assert_eq!(known(&stage, "unknown").unwrap()["unsent"], Value::Null);
    let expected = Expected::from([(&complete, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}
