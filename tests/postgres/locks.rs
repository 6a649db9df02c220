//! Transactions of the ledger that meet at the same campaigns, on a real PostgreSQL: a bystander holds them up where they would do harm.

use std::sync::Arc;
use std::time::Duration;

use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::due::Due;
use dinnerbell_core::model::input::{DecodedRecord, decode};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Offset, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::round::{PageRange, RoundContent, RoundPart, Sealed};
use dinnerbell_core::ports::ledger::{
    CampaignLedger, InstanceLedger, IntakeLedger, LaneLedger, RoundLedger, RoundTransaction,
};
use dinnerbell_postgres::clock::PostgresClock;
use dinnerbell_postgres::ledger::PostgresLedger;
use tokio::time::sleep;

use super::place::{Migration, SOON, feedback_pool, intake_batch, seed_database};
use crate::support::{Campaign, Database, wait_until};

/// The ledger as an instance of its own has it: instances wait for each other in the database alone.
async fn ledger(database: &Database) -> PostgresLedger {
    let clock = PostgresClock::start(feedback_pool(database)).await.unwrap();
    PostgresLedger::new(feedback_pool(database), clock, "locks".into(), "group".into(), false)
}

/// A migrated ledger, and the rights to two lanes of it.
async fn two_lanes(database: &Database) -> (PostgresLedger, [Ownership; 2]) {
    Migration::of_one(database).succeed(&[]);
    database.execute(
        "insert into dinnerbell.service (ledger, cluster_id, group_id, campaigns_topic, notifications_topic)
           values (gen_random_uuid(), 'cluster', 'group', 'promo.in', 'promo.out')",
    );
    let ledger = ledger(database).await;
    let mut own = [None; 2];
    for (lane, own) in (0..).zip(&mut own) {
        *own = Some(ledger.acquire(Lane::new(lane), Some(Offset::new(0))).await.unwrap().ownership);
    }
    (ledger, own.map(Option::unwrap))
}

/// The campaigns arrive in a lane, in this order, at its next offsets.
async fn take_in(ledger: &PostgresLedger, own: Ownership, from: i64, campaigns: &[Campaign]) {
    ledger.intake(own, intake_batch(from, campaigns)).await.unwrap();
}

/// Waits until so many sessions wait for locks in the database.
async fn wait_for_waiting(database: &Arc<Database>, sessions: i64) {
    let database = Arc::clone(database);
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let all_wait = move || wait_until("they wait", SOON, || database.number(waiting) == sessions);
    tokio::task::spawn_blocking(all_wait).await.unwrap();
}

/// How often PostgreSQL had to end a transaction because two waited for each other.
fn deadlocks(database: &Database) -> i64 {
    database.execute("select pg_stat_force_next_flush()");
    database.number("select deadlocks from pg_stat_database where datname = current_database()")
}

/// A round with one draft of a campaign.
fn round_of(campaign: &Campaign) -> Arc<RoundContent> {
    let DecodedRecord::Campaign(known) = decode(None, Some(campaign.json().as_bytes())) else { panic!("a campaign") };
    let trigger_datetime_created = known.window.start;
    let template = DraftTemplate::new(Arc::new(known), trigger_datetime_created, "group").unwrap();
    let clients = ["one of them"].into_iter().collect();
    let upto = Some("one of them".to_owned());
    let page = PageRange { after: None, upto, last: false, already_told: Vec::new(), skipped: 0 };
    let drafts = DraftBatch { template: Arc::new(template), clients };
    let parts = vec![RoundPart { drafts, revision: 1, page: Some(page), late: 0 }];
    Arc::new(RoundContent { parts, dead_letters: Vec::new(), trigger_datetime_created, round_bytes: None })
}

/// The seal locks the campaigns of its round, and those that the round before completes; what another lane receives about both keeps neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_and_what_another_lane_receives_about_its_campaigns_do_not_deadlock() {
    let database = Arc::new(seed_database());
    let (ledger, [owner, other]) = two_lanes(&database).await;
    let bystander = feedback_pool(&database);
    let running = version("m", 1);
    take_in(&ledger, owner, 0, &[version("a", 1), running.clone()]).await;
    database.execute("update dinnerbell.campaign set last_page_seq = 0 where adv_campaign_id = 'a'");
    let content = round_of(&running);
    let mut open = ledger.open_round(owner).await.unwrap();
    open.copy(Arc::clone(&content)).await.unwrap();
    let holds_up = bystander.begin("").await.unwrap();
    holds_up.query("select 1 from dinnerbell.campaign where adv_campaign_id = 'm' for update", &[]).await.unwrap();
    let head = RoundVersion { seq: Seq::new(1), revision: 0, checksum: content.checksum() };
    let received = async {
        wait_for_waiting(&database, 1).await;
        take_in(&ledger, other, 0, &["a", "m"].map(|id| version(id, 2))).await;
    };
    let held_up = async {
        wait_for_waiting(&database, 2).await;
        holds_up.rollback().await.unwrap();
    };
    let (sealed, (), ()) = tokio::join!(open.seal(head, content), received, held_up);
    assert!(matches!(sealed, Ok(Sealed::Recorded { .. })), "{sealed:?}");
    assert_eq!(deadlocks(&database), 0);
    assert_eq!(database.number("select count(*) from dinnerbell.campaign where state = 'complete'"), 1);
    assert_eq!(database.number("select count(*) from dinnerbell.change"), 2, "both are handed over");
}

/// One campaign is to start, and one that comes before it by its id to end, while an update of both arrives.
#[tokio::test(flavor = "multi_thread")]
async fn campaigns_that_start_and_end_while_they_are_updated_do_not_deadlock() {
    let database = Arc::new(seed_database());
    let (ledger, [owner, _]) = two_lanes(&database).await;
    let bystander = feedback_pool(&database);
    take_in(&ledger, owner, 0, &["a", "m"].map(|id| version(id, 1))).await;
    database.execute(
        "update dinnerbell.campaign set state = 'scheduled' where adv_campaign_id = 'm';
         update dinnerbell.campaign set adv_campaign_datetime_end = adv_campaign_datetime_start + 1 where adv_campaign_id = 'a'",
    );
    let holds_up = bystander.begin("").await.unwrap();
    holds_up.query("select 1 from dinnerbell.campaign where adv_campaign_id = 'a' for update", &[]).await.unwrap();
    let updated = ["a", "m"].map(|id| version(id, 2));
    let passed_over = async {
        wait_for_waiting(&database, 1).await;
        let due = ledger.due(owner, 10).await;
        holds_up.rollback().await.unwrap();
        due
    };
    let ((), due) = tokio::join!(take_in(&ledger, owner, 2, &updated), passed_over);
    let ids = |due: &Due| -> Vec<String> { due.running.iter().map(|running| running.id().to_owned()).collect() };
    assert!(ids(&due.unwrap()).contains(&"m".to_owned()), "what nobody holds starts");
    assert_eq!(ids(&ledger.due(owner, 10).await.unwrap()), ["a", "m"], "the update put the end off");
    assert_eq!(deadlocks(&database), 0);
}

/// An intake that waits here and there has the lane's row for longer than anybody waits for a lock: a round of its own lane waits all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_waits_for_its_own_lanes_intake_however_long_that_takes() {
    const EACH: Duration = Duration::from_millis(700);
    let database = Arc::new(seed_database());
    let (ledger, [owner, other]) = two_lanes(&database).await;
    let bystander = feedback_pool(&database);
    let running = version("m", 1);
    take_in(&ledger, owner, 0, &[version("a", 1), running.clone()]).await;
    take_in(&ledger, other, 0, &[version("z", 1)]).await;
    let content = round_of(&running);
    let mut open = ledger.open_round(owner).await.unwrap();
    open.copy(Arc::clone(&content)).await.unwrap();
    // Together longer than a lock is waited for, each of them shorter by far.
    let mut in_the_way = Vec::new();
    for sql in [
        "update dinnerbell.campaign set told = told where adv_campaign_id = 'a'",
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at) values ('b', 9, 'cancelled', now())",
        "lock table dinnerbell.dead_letter in share mode",
        "lock table dinnerbell.change in share mode",
    ] {
        let transaction = bystander.begin("").await.unwrap();
        transaction.batch(sql).await.unwrap();
        in_the_way.push(transaction);
    }
    let conflict = Campaign { adv_campaign_content: "another one".to_owned(), ..version("a", 1) };
    let received = [version("b", 1), conflict, version("z", 2)];
    let head = RoundVersion { seq: Seq::new(1), revision: 0, checksum: content.checksum() };
    let held_up = async {
        for transaction in in_the_way {
            sleep(EACH).await; // as a busy server takes its time
            transaction.rollback().await.unwrap();
        }
    };
    let meanwhile = async {
        wait_for_waiting(&database, 1).await;
        tokio::join!(open.seal(head, content), held_up).0
    };
    let ((), sealed) = tokio::join!(take_in(&ledger, owner, 2, &received), meanwhile);
    assert!(matches!(sealed, Ok(Sealed::Recorded { .. })), "{sealed:?}");
    assert_eq!(database.number("select count(*) from dinnerbell.dead_letter"), 1);
    assert_eq!(database.number("select count(*) from dinnerbell.change"), 1);
}

/// Nobody waits to note where the tail scan stands: a lane that is locked just then is said to be left out, and is noted the next time.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_tail_scan_stands_is_noted_for_a_locked_lane_when_it_is_free_again() {
    let database = Arc::new(seed_database());
    let (ledger, [one, other]) = two_lanes(&database).await;
    let (lanes, bystander) = ([one.lane, other.lane], feedback_pool(&database));
    let lane = bystander.begin("").await.unwrap();
    lane.query("select from dinnerbell.lane where lane = 1 for update", &[]).await.unwrap();
    let noted = "select coalesce(max(swept_to), 0) from dinnerbell.lane where lane = ";
    let noted = || [0, 1].map(|lane| database.number(&format!("{noted}{lane}")));
    assert!(!ledger.note_tail_scanned(&lanes, 7).await.unwrap(), "one is left out");
    assert_eq!(noted(), [7, 0]);
    lane.rollback().await.unwrap();
    assert!(ledger.note_tail_scanned(&lanes, 7).await.unwrap());
    assert_eq!(noted(), [7, 7]);
    database.execute("update dinnerbell.lane set owner = 'another', swept_to = null where lane = 1");
    assert!(ledger.note_tail_scanned(&lanes, 8).await.unwrap(), "whose it is not is not left out");
    assert_eq!(noted(), [8, 0]);
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
    assert_eq!(deadlocks(&database), 0);
    assert_eq!(database.number("select count(*) from dinnerbell.campaign"), 3);
    assert_eq!(database.number("select count(*) from dinnerbell.change"), 3, "the other copies are handed over");
}

/// Both read what stands before they write. Two locks see to it that the second reads what the first wrote: the lane's row, and the campaign's.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_and_a_change_from_another_lane_that_are_judged_at_once_are_not_lost() {
    let database = Arc::new(seed_database());
    let (ledger, [owner, other]) = two_lanes(&database).await;
    let elsewhere = self::ledger(&database).await;
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
        let both = async { tokio::join!(take_in(&ledger, owner, round + 1, &update), elsewhere.apply_changes(owner)) };
        let held_up = async {
            wait_for_waiting(&database, 2).await;
            holds_up.rollback().await.unwrap();
        };
        let ((_, applied), ()) = tokio::join!(both, held_up);
        applied.unwrap();
        let stands = database.number("select datetime_created from dinnerbell.campaign where adv_campaign_id = 'c'");
        assert_eq!(stands, newest, "round {round}: the newest version stands");
    }
}
