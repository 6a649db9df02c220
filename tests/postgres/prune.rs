//! House-keeping of the ledger: what is long over goes, and nothing that is still needed.

use std::sync::Arc;
use std::time::Duration;

use dinnerbell_config::Retention;
use dinnerbell_core::model::number::{Micros, Seconds};
use dinnerbell_core::model::retention::Prunable;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::prune::{BATCH, prune, prune_by};

use crate::postgres::place::{Migration, feedback_pool, seed_database};
use crate::support::Database;

const DAY: u64 = 86_400;
const KEEP: Retention = Retention {
    rounds: Duration::from_secs(7 * DAY),
    dead_letters: Duration::from_secs(30 * DAY),
    campaigns: Duration::from_secs(90 * DAY),
    audit: Duration::from_secs(365 * DAY),
};

/// A ledger of one lane that recorded 400 rounds, one an hour, and published all but the last.
fn ledger() -> (Arc<Database>, Pool) {
    let database = Arc::new(seed_database());
    Migration::of_one(&database).succeed(&[]);
    database.execute(
        "insert into dinnerbell.lane (lane, lock_key, position, seq, published_seq) values (0, 1, 0, 400, 399);
         insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created, recorded_at)
           select 0, n, 0, 0, 0, 0, now() - interval '1 hour' * (1000 - n) from generate_series(0, 400) n;
         insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, last_page, already_told, drafts, checksum)
           select 0, n, 0, 'c' || n, 1, true, true, case when n = 5 then '{a,b}'::text[] else '{}' end, 0, 0
           from generate_series(0, 400) n",
    );
    let pool = feedback_pool(&database);
    (database, pool)
}

fn campaigns(database: &Database, ids: &str, state: &str, days_ago: u32, more: &str) {
    database.execute(&format!(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_datetime_start, adv_campaign_datetime_end,
           cancelled_at) select id, 0, '{state}', 'r', 0, extract(epoch from now() - interval '{days_ago} days')::int8, {more} from ({ids}) t (id)"
    ));
}

async fn all(pool: &Pool, what: Prunable) -> u64 {
    let mut gone = 0;
    loop {
        let step = prune(pool, what, &KEEP, true).await.unwrap();
        gone += step;
        if step < BATCH {
            return gone;
        }
    }
}

#[tokio::test]
async fn old_rounds_go_in_steps_but_for_the_last_two_of_a_lane_and_who_had_a_row_before() {
    let (database, pool) = ledger();
    // Everything is older than a week: 1,000 to 600 hours.
    assert_eq!(prune(&pool, Prunable::Rounds, &KEEP, true).await.unwrap(), BATCH);
    assert_eq!(all(&pool, Prunable::Rounds).await, 399 - BATCH);
    assert_eq!(database.text("select seq from dinnerbell.round order by seq").trim(), "399\n400");
    assert_eq!(database.text("select seq from dinnerbell.round_part order by seq").trim(), "5\n399\n400");
    // The part goes with its campaign.
    campaigns(&database, "values ('c5')", "closed", 100, "null");
    assert_eq!(all(&pool, Prunable::Campaigns).await, 1);
    assert_eq!(database.number("select count(*) from dinnerbell.round_part where seq = 5"), 0);
}

#[tokio::test]
async fn rounds_that_are_not_known_to_be_published_stay() {
    let (database, pool) = ledger();
    database.execute("update dinnerbell.lane set published_seq = null");
    assert_eq!(all(&pool, Prunable::Rounds).await, 0);
    database.execute("update dinnerbell.lane set published_seq = 10");
    assert_eq!(all(&pool, Prunable::Rounds).await, 11);
}

#[tokio::test]
async fn campaigns_long_past_their_end_go_unless_a_last_round_or_a_change_needs_them() {
    let (database, pool) = ledger();
    campaigns(&database, "select 'old' || n from generate_series(1, 450) n", "closed", 91, "null");
    campaigns(&database, "values ('recent')", "closed", 89, "null");
    campaigns(&database, "values ('c400'), ('changed')", "expired", 91, "null");
    campaigns(&database, "values ('cancelled lately')", "cancelled", 91, "now() - interval '1 day'");
    campaigns(&database, "values ('cancelled long ago')", "cancelled", 191, "now() - interval '91 days'");
    campaigns(&database, "values ('open')", "active", 91, "null");
    database.execute("insert into dinnerbell.change (adv_campaign_id) values ('changed')");
    assert_eq!(all(&pool, Prunable::Campaigns).await, 451);
    let left = database.text("select adv_campaign_id from dinnerbell.campaign order by 1");
    assert_eq!(left.lines().collect::<Vec<_>>(), ["c400", "cancelled lately", "changed", "open", "recent"]);
}

#[tokio::test]
async fn dead_letters_changes_and_tombstones_go_by_their_age_and_what_is_to_be_done_stays() {
    let (database, pool) = ledger();
    database.execute(
        "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, reason, arrived_at, round_seq) values
           (0, 0, 1, 'published', now() - interval '31 days', 3), (0, 0, 2, 'young', now() - interval '29 days', 3),
           (0, 0, 3, 'unpublished', now() - interval '31 days', null), (0, 0, 4, 'of a last round', now() - interval '31 days', 399);
         insert into dinnerbell.change (adv_campaign_id, judged_as, judged_at) values
           ('a', 'ignored', now() - interval '8 days'), ('b', 'ignored', now() - interval '6 days'), ('c', null, null);
         insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at) values
           ('tombstone', 0, 'cancelled', now() - interval '31 days'), ('fresh tombstone', 0, 'cancelled', now() - interval '29 days')",
    );
    for (what, gone) in [(Prunable::DeadLetters, 1), (Prunable::Changes, 1), (Prunable::Tombstones, 1)] {
        assert_eq!(all(&pool, what).await, gone, "{}", what.name());
    }
    // Where no topic takes them, they are only kept to be looked at.
    assert_eq!(prune(&pool, Prunable::DeadLetters, &KEEP, false).await.unwrap(), 1);
    let left = database.text("select reason from dinnerbell.dead_letter order by 1");
    assert_eq!(left.lines().collect::<Vec<_>>(), ["of a last round", "young"]);
}

#[tokio::test]
async fn what_somebody_else_holds_is_left_alone_and_not_waited_for() {
    let (database, pool) = ledger();
    campaigns(&database, "values ('held'), ('free')", "closed", 91, "null");
    let lane = pool.begin("").await.unwrap();
    lane.query("select 1 from dinnerbell.campaign where adv_campaign_id = 'held' for update", &[]).await.unwrap();
    assert_eq!(prune(&pool, Prunable::Campaigns, &KEEP, true).await.unwrap(), 1);
    lane.commit().await.unwrap();
    assert_eq!(prune(&pool, Prunable::Campaigns, &KEEP, true).await.unwrap(), 1);
}

#[tokio::test]
async fn nothing_goes_while_the_databases_clock_is_far_from_the_machines() {
    let (database, pool) = ledger();
    let rounds = "select count(*) from dinnerbell.round";
    let there = database.number(rounds);
    // As the database's clock would be a hundred days ahead, and behind.
    for machine in [|| now() - 100 * DAY_MICROS, || now() + 100 * DAY_MICROS] {
        for what in Prunable::ALL {
            let error = prune_by(&pool, what, &KEEP, true, machine).await.unwrap_err().to_string();
            assert!(error.contains("nothing is pruned; check the time synchronisation"), "{error}");
        }
    }
    assert_eq!(database.number(rounds), there);
    assert_eq!(
        prune_by(&pool, Prunable::Rounds, &KEEP, true, || now() - 1_800_000_000).await.unwrap(),
        BATCH,
        "half an hour"
    );
}

const DAY_MICROS: i64 = 86_400_000_000;

fn now() -> Micros {
    Seconds::new(crate::support::campaign::epoch_seconds()).micros()
}
