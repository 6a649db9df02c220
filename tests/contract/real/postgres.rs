//! Subscribers and a clock in a PostgreSQL database that a case has for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dinnerbell_core::model::number::Micros;
use dinnerbell_postgres::audience::PostgresAudience;
use dinnerbell_postgres::clock::{CLOCK_MICROS, PostgresClock};
use dinnerbell_postgres::number::number;

use crate::contract::{audience, clock};
use crate::postgres::place::{Migration, feedback_pool, seed_database, subscribers_pool};
use crate::support::{Database, PostgresServer};

/// The migrated databases that no case uses, while any case runs: to make one takes longer than a case.
static SHELF: Mutex<Shelf> = Mutex::new(Shelf { cases: 0, free: Vec::new() });

struct Shelf {
    cases: usize,
    free: Vec<Database>,
}

fn shelf() -> MutexGuard<'static, Shelf> {
    SHELF.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A migrated database that holds nothing, for one case. It is emptied for the next one.
pub struct Lent(Option<Database>);

impl Lent {
    pub fn take() -> Self {
        let free = {
            let mut shelf = shelf();
            shelf.cases += 1;
            shelf.free.pop()
        };
        let made = || {
            let database = seed_database();
            Migration::of_one(&database).succeed(&[]);
            database
        };
        Self(Some(free.unwrap_or_else(made)))
    }

    pub fn database(&self) -> &Database {
        self.0.as_ref().expect("it is lent until it is dropped")
    }
}

/// Whatever a case left is gone: its sessions too, which may have a transaction open.
const EMPTY: &str = "
    select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid();
    drop function if exists vanish cascade;
    delete from dinnerbell.service; delete from dinnerbell.lane; delete from dinnerbell.campaign; delete from dinnerbell.round;
    delete from dinnerbell.locked_row; delete from dinnerbell.lock_wait; delete from dinnerbell.round_part; delete from dinnerbell.dead_letter; delete from dinnerbell.change;
    delete from public.subscribers_feedback; delete from public.subscribers_restaurants;";

impl Drop for Lent {
    fn drop(&mut self) {
        // One of a case that failed is kept for a look.
        let database = self.0.take().filter(|_| !std::thread::panicking());
        database.iter().for_each(|database| database.execute(EMPTY));
        let mut shelf = shelf();
        shelf.free.extend(database);
        shelf.cases -= 1;
        if shelf.cases == 0 {
            shelf.free.clear();
        }
    }
}

/// The subscribers of a case.
pub struct Subscribed {
    audience: PostgresAudience,
    lent: Lent,
}

impl audience::Environment for Subscribed {
    type Audience = PostgresAudience;

    async fn fresh() -> Self {
        let lent = tokio::task::spawn_blocking(Lent::take).await.unwrap();
        let audience = PostgresAudience::open(subscribers_pool(lent.database())).await.unwrap();
        Self { audience, lent }
    }

    fn audience(&self) -> PostgresAudience {
        self.audience.clone()
    }

    async fn add(&self, client: &str, restaurant: &str) -> i64 {
        let sql = format!(
            "insert into public.subscribers_restaurants (client_id, restaurant_id) values ('{client}', '{restaurant}') returning id"
        );
        self.lent.database().number(&sql)
    }

    async fn remove(&self, client: &str, restaurant: &str) {
        let sql = "delete from public.subscribers_restaurants where client_id =";
        self.lent.database().execute(&format!("{sql} '{client}' and restaurant_id = '{restaurant}'"));
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

    async fn time(&self) -> Micros {
        let rows = feedback_pool(&self.database).query(&format!("select {CLOCK_MICROS}"), &[]).await.unwrap();
        number(&rows[0], 0)
    }

    async fn take_away(&self, away: bool) {
        if away { self.server.stop() } else { self.server.start() }
    }

    async fn pass(&self, micros: u64) {
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}
