//! Subscribers and a clock in a PostgreSQL database of a case's own: a copy of one that was migrated once.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dinnerbell::model::time::EpochMicros;
use dinnerbell::postgres::audience::PostgresAudience;
use dinnerbell::postgres::clock::{CLOCK_MICROS, PostgresClock};

use crate::contract::{audience, clock};
use crate::postgres::place::{Migration, feedback_pool, seed_database, subscribers_pool};
use crate::support::{Database, PostgresServer};

/// The migrated database, while any case has a copy of it.
static MIGRATED: Mutex<Weak<Database>> = Mutex::new(Weak::new());

/// A copy of the migrated database. It goes before the one that it was copied from.
pub struct Copied {
    pub database: Database,
    _migrated: Arc<Database>,
}

impl Copied {
    pub fn take() -> Self {
        let mut known = MIGRATED.lock().unwrap_or_else(PoisonError::into_inner);
        let migrated = known.upgrade().unwrap_or_else(|| {
            let database = seed_database();
            Migration::of_one(&database).succeed(&[]);
            Arc::new(database)
        });
        *known = Arc::downgrade(&migrated);
        Self { database: migrated.copy(), _migrated: migrated }
    }
}

/// The subscribers of a case.
pub struct Subscribed {
    audience: PostgresAudience,
    copied: Copied,
}

impl audience::Environment for Subscribed {
    type Audience = PostgresAudience;

    async fn fresh() -> Self {
        let copied = tokio::task::spawn_blocking(Copied::take).await.unwrap();
        let audience = PostgresAudience::open(subscribers_pool(&copied.database)).await.unwrap();
        Self { audience, copied }
    }

    fn audience(&self) -> PostgresAudience {
        self.audience.clone()
    }

    async fn add(&self, client: &str, restaurant: &str) -> i64 {
        let sql = format!(
            "insert into public.subscribers_restaurants (client_id, restaurant_id) values ('{client}', '{restaurant}') returning id"
        );
        self.copied.database.number(&sql)
    }

    async fn remove(&self, client: &str, restaurant: &str) {
        let sql = "delete from public.subscribers_restaurants where client_id =";
        self.copied.database.execute(&format!("{sql} '{client}' and restaurant_id = '{restaurant}'"));
    }
}

/// The clock of a case.
pub struct Timed {
    database: Database,
    server: Arc<PostgresServer>,
}

impl clock::Environment for Timed {
    type Clock = PostgresClock;

    async fn fresh() -> Self {
        let server = PostgresServer::shared();
        Self { database: Database::create(&server), server }
    }

    async fn alone() -> Self {
        let server = PostgresServer::private();
        Self { database: Database::create(&server), server }
    }

    async fn clock(&self) -> PostgresClock {
        PostgresClock::start(feedback_pool(&self.database)).await.unwrap()
    }

    async fn time(&self) -> EpochMicros {
        let rows = feedback_pool(&self.database).query(&format!("select {CLOCK_MICROS}"), &[]).await.unwrap();
        rows[0].get(0)
    }

    async fn take_away(&self, away: bool) {
        if away { self.server.stop() } else { self.server.start() }
    }

    async fn pass(&self, micros: u64) {
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}
