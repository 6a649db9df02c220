//! The database's clock.

use std::time::SystemTime;

use dinnerbell_core::model::number::Micros;
use dinnerbell_core::ports::clock::Clock;
use dinnerbell_postgres::clock::{Asked, CLOCK_MICROS, PostgresClock};
use dinnerbell_postgres::number::number;
use tokio_postgres::types::Type;

use crate::postgres::place::{empty_database, feedback_pool};
use crate::support::{Database, PostgresServer};

fn wall_micros() -> Micros {
    Micros::since_1970(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

#[tokio::test]
async fn time_is_the_databases_and_never_behind_it() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let clock = PostgresClock::start(pool.clone()).await.unwrap();
    for _ in 0..20 {
        let rows = pool.query(&format!("select {CLOCK_MICROS}"), &[]).await.unwrap();
        let database_time: Micros = number(&rows[0], 0);
        let (now, fresh) = (clock.now(), clock.fresh().await.unwrap());
        assert!(now >= database_time && fresh >= now, "{database_time} {now} {fresh}");
        // This test's machine is the database's: the readings are as good as the round trips.
        assert!((fresh - wall_micros()).abs() < 1_000_000, "{fresh}");
    }
}

#[tokio::test]
async fn what_a_transaction_observed_is_taken_over() {
    let database = empty_database();
    let clock = PostgresClock::start(feedback_pool(&database)).await.unwrap();
    let an_hour_ahead = clock.now() + 3_600_000_000;
    clock.observe(Asked::now(), an_hour_ahead);
    let fresh = clock.fresh().await.unwrap();
    assert!(fresh >= an_hour_ahead && fresh < an_hour_ahead + 60_000_000, "{fresh}");
    let (earlier, now) = (Asked::now(), Asked::now());
    clock.observe(now, an_hour_ahead);
    clock.observe(earlier, Micros::new(5));
    assert!(clock.now() >= an_hour_ahead, "an earlier question does not replace a later one");
}

#[tokio::test]
async fn a_stale_reading_is_not_passed_off_as_fresh_while_the_database_is_away() {
    let server = PostgresServer::private();
    let database = Database::create(&server);
    let pool = feedback_pool(&database);
    let clock = PostgresClock::start(pool.clone()).await.unwrap();
    pool.query("select $1", &[(&1_i32, Type::INT4)]).await.unwrap();
    let before = clock.now();
    server.stop();
    let deadline = std::time::Instant::now() + crate::postgres::place::SOON;
    let mut fresh = clock.fresh().await;
    // At first the reading at the start is still young.
    while fresh.is_some() && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        fresh = clock.fresh().await;
    }
    assert_eq!(fresh, None);
    assert!(clock.now() > before, "planning goes on");
    server.start();
    assert!(clock.fresh().await.is_some());
}
