//! Transactions of the ledger that meet at the same campaigns, on a real PostgreSQL: a bystander holds them up where they would do harm.

use std::sync::Arc;

use dinnerbell::broker::Record;
use dinnerbell::ledger::{IntakeBatch, Ledger, Ownership};
use dinnerbell::postgres::clock::PostgresClock;
use dinnerbell::postgres::ledger::PostgresLedger;
use dinnerbell::way::decode::decode;

use super::place::{Migration, SOON, feedback_pool, seed_database};
use crate::support::{Campaign, Database, wait_until};

/// A migrated ledger, and the rights to two lanes of it.
async fn two_lanes(database: &Database) -> (PostgresLedger, [Ownership; 2]) {
    Migration::of_one(database).succeed(&[]);
    database.execute(
        "insert into dinnerbell.service (ledger, cluster_id, group_id, campaigns_topic, notifications_topic)
           values (gen_random_uuid(), 'cluster', 'group', 'promo.in', 'promo.out')",
    );
    let clock = PostgresClock::start(feedback_pool(database)).await.unwrap();
    let ledger = PostgresLedger::new(feedback_pool(database), clock, "locks".into(), "group".into(), false);
    let mut own = [None; 2];
    for (lane, own) in (0..).zip(&mut own) {
        *own = Some(ledger.bump(lane, 0).await.unwrap().ownership);
    }
    (ledger, own.map(Option::unwrap))
}

/// The campaigns arrive in a lane, in this order, at its next offsets.
async fn take_in(ledger: &PostgresLedger, own: Ownership, from: i64, campaigns: &[Campaign]) {
    let arrival = |(offset, campaign): (i64, &Campaign)| {
        let value = Some(campaign.json().into_bytes());
        let arrival = decode(None, value.as_deref());
        (Record { offset, timestamp: 0, key: None, value, headers: Vec::new() }, arrival)
    };
    let arrivals: Vec<_> = (from..).zip(campaigns).map(arrival).collect();
    let to = from + i64::try_from(campaigns.len()).unwrap();
    ledger.intake(own, Arc::new(IntakeBatch { from, to, arrivals })).await.unwrap();
}

/// Waits until so many sessions wait for locks in the database.
async fn wait_for_waiting(database: &Arc<Database>, sessions: i64) {
    let database = Arc::clone(database);
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let all_wait = move || wait_until("they wait", SOON, || database.number(waiting) == sessions);
    tokio::task::spawn_blocking(all_wait).await.unwrap();
}

fn version(id: &str, datetime_created: i64) -> Campaign {
    Campaign { datetime_created, adv_campaign_content: format!("version {datetime_created}"), ..Campaign::now(id, "r") }
}

/// Each inserts what it has in the order of the ids: so nobody waits for one who waits for him.
#[tokio::test(flavor = "multi_thread")]
async fn two_lanes_that_receive_the_same_campaigns_in_crossed_order_do_not_deadlock() {
    let database = Arc::new(seed_database());
    let (ledger, [one, other]) = two_lanes(&database).await;
    let bystander = feedback_pool(&database);
    let between = bystander.begin("").await.unwrap();
    between
        .execute("insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at) values ('m', 9, 'cancelled', now())", &[])
        .await
        .unwrap();
    let upwards = ["a", "m", "z"].map(|id| version(id, 1));
    let downwards = ["z", "m", "a"].map(|id| version(id, 1));
    let both = async { tokio::join!(take_in(&ledger, one, 0, &upwards), take_in(&ledger, other, 0, &downwards)) };
    let in_between = async {
        wait_for_waiting(&database, 2).await;
        between.rollback().await.unwrap();
    };
    tokio::join!(both, in_between);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    database.execute("select pg_stat_force_next_flush()");
    assert_eq!(database.number(deadlocks), 0);
    assert_eq!(database.number("select count(*) from dinnerbell.campaign"), 3);
    assert_eq!(database.number("select count(*) from dinnerbell.change"), 3, "the other copies are handed over");
}

/// Both read what stands before they write. Two locks see to it that the second reads what the first wrote: the lane's row, and the campaign's.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_and_a_change_from_another_lane_that_are_judged_at_once_are_not_lost() {
    let database = Arc::new(seed_database());
    let (ledger, [owner, other]) = two_lanes(&database).await;
    let bystander = feedback_pool(&database);
    take_in(&ledger, owner, 0, &[version("c", 1)]).await;
    for round in 0..6 {
        // The newer one comes now through the one lane, now through the other.
        let (direct, handed_over) = if round % 2 == 0 { (2, 3) } else { (3, 2) };
        let newest = 10 * (round + 1) + 3;
        take_in(&ledger, other, round, &[version("c", 10 * (round + 1) + handed_over)]).await;
        let holds_up = bystander.begin("").await.unwrap();
        holds_up.query("select 1 from dinnerbell.campaign where adv_campaign_id = 'c' for update", &[]).await.unwrap();
        let update = [version("c", 10 * (round + 1) + direct)];
        let both = async { tokio::join!(take_in(&ledger, owner, round + 1, &update), ledger.judge_changes(owner)) };
        let held_up = async {
            wait_for_waiting(&database, 2).await;
            holds_up.rollback().await.unwrap();
        };
        let ((_, judged), ()) = tokio::join!(both, held_up);
        judged.unwrap();
        let stands = database.number("select datetime_created from dinnerbell.campaign where adv_campaign_id = 'c'");
        assert_eq!(stands, newest, "round {round}: the newest version stands");
    }
}
