//! One clock for all instances: the feedback database's `clock_timestamp()`, carried forward by this machine's monotonic clock.
//!
//! A reading counts from the moment at which it was asked for. So [`Clock::now`] can be ahead of the database by the round trip, and never behind it.
//! So an end is never overlooked. A start is decided by the database itself, when the ledger makes a campaign active.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::connect::Pool;
use crate::errors::{PostgresError, TIME_LIMIT};
use crate::number::number;
use dinnerbell_core::model::number::Micros;
use dinnerbell_core::ports::clock::Clock;

/// A reading younger than this is fresh.
const FRESH: Duration = Duration::from_secs(1);

/// A reading that came along with other work counts only if it came within this time.
const PROMPT: Duration = Duration::from_millis(100);

/// A difference between the machine's wall clock and the database's that is worth a report, in microseconds.
const NOTABLE_DRIFT: i64 = 2_000_000;

/// The expression that a transaction adds to a statement, to feed [`PostgresClock::observe`].
pub const CLOCK_MICROS: &str =
    "(extract(epoch from pg_catalog.clock_timestamp()) operator(pg_catalog.*) 1000000)::int8";

/// The real [`Clock`].
#[derive(Clone)]
pub struct PostgresClock {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    reading: Mutex<Reading>,
    /// Only one reading at a time: anyone who waited for it finds it fresh.
    reader: tokio::sync::Mutex<()>,
    /// The drift that was reported last, in microseconds.
    reported: Mutex<i64>,
}

#[derive(Clone, Copy)]
struct Reading {
    asked: Asked,
    database: Micros,
}

/// The moment at which the database was asked for its time, by both clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    monotonic: Instant,
    wall: SystemTime,
}

impl Asked {
    /// Now: to be taken before the statement is sent.
    #[expect(clippy::disallowed_methods, reason = "the machine's own clock goes on while the machine sleeps")]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Whether both clocks call it younger than a second. The monotonic one stands still while a machine sleeps, the wall clock
    /// can be set.
    fn is_fresh(&self, now: Self) -> bool {
        now.monotonic.duration_since(self.monotonic) < FRESH
            && now.wall.duration_since(self.wall).is_ok_and(|age| age < FRESH)
    }
}

impl PostgresClock {
    /// Reads the database's clock for the first time.
    pub async fn start(pool: Pool) -> Result<Self, PostgresError> {
        let reading = read(&pool).await?;
        let inner = Inner {
            pool,
            reading: Mutex::new(reading),
            reader: tokio::sync::Mutex::default(),
            reported: Mutex::default(),
        };
        inner.compare(reading);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes a reading that came along with another transaction of the same database: [`CLOCK_MICROS`], asked for at `asked`.
    ///
    /// Such a transaction may have waited for a lock before it looked at the clock. A reading that took long would put the time ahead by as
    /// much, so it is not taken.
    pub fn observe(&self, asked: Asked, database: Micros) {
        if asked.monotonic.elapsed() < PROMPT {
            self.inner.accept(Reading { asked, database });
        }
    }

    fn fresh_reading(&self) -> Option<Micros> {
        let reading = self.inner.reading();
        let now = Asked::now();
        reading.asked.is_fresh(now).then(|| reading.at(now))
    }
}

impl Clock for PostgresClock {
    fn now(&self) -> Micros {
        self.inner.reading().at(Asked::now())
    }

    async fn fresh(&self) -> Option<Micros> {
        if let Some(time) = self.fresh_reading() {
            return Some(time);
        }
        tokio::time::timeout(TIME_LIMIT, async {
            let _reader = self.inner.reader.lock().await;
            // A round trip longer than a second makes a reading that is old at once: asked again, until the time limit.
            loop {
                if let Some(time) = self.fresh_reading() {
                    return Some(time);
                }
                match read(&self.inner.pool).await {
                    Ok(reading) => self.inner.accept(reading),
                    Err(error) => {
                        tracing::warn!("the clock could not be read: {error}");
                        return None;
                    }
                }
            }
        })
        .await
        .ok()
        .flatten()
    }
}

impl Reading {
    fn at(&self, now: Asked) -> Micros {
        let since = now.monotonic.duration_since(self.asked.monotonic);
        self.database + i64::try_from(since.as_micros()).expect("no process runs for 292,000 years")
    }
}

impl Inner {
    fn reading(&self) -> Reading {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the reading that was asked for last.
    fn accept(&self, new: Reading) {
        {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            if new.asked.monotonic < reading.asked.monotonic {
                return;
            }
            *reading = new;
        }
        self.compare(new);
    }

    /// Reports a wall clock that differs from the database's, once for each notable change.
    fn compare(&self, reading: Reading) {
        let wall = reading.asked.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let drift = Micros::since_1970(wall) - reading.database;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = worth_reporting(*reported, drift) {
            *reported = report;
            let seconds = drift as f64 / 1e6;
            if report == 0 {
                tracing::info!("this machine's clock agrees with the feedback database's again");
            } else {
                tracing::warn!(
                    "this machine's clock differs from the feedback database's by {seconds:.1} s: campaigns start and end by the \
                     database's; check the time synchronisation of both"
                );
            }
        }
    }
}

/// What to remember as reported when the drift should be reported now: 0 for "none any more".
fn worth_reporting(reported: i64, drift: i64) -> Option<i64> {
    if drift.abs() > NOTABLE_DRIFT {
        ((drift - reported).abs() > NOTABLE_DRIFT).then_some(drift)
    } else {
        (reported != 0 && drift.abs() < NOTABLE_DRIFT / 2).then_some(0)
    }
}

async fn read(pool: &Pool) -> Result<Reading, PostgresError> {
    let connection = pool.get().await?;
    let asked = Asked::now();
    let row = connection.query_one(&format!("select {CLOCK_MICROS}"), &[]).await?;
    connection.release();
    Ok(Reading { asked, database: number(&row, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_drift_is_reported_once_for_each_notable_change() {
        assert_eq!(worth_reporting(0, SECOND), None);
        assert_eq!(worth_reporting(0, 3 * SECOND), Some(3 * SECOND));
        assert_eq!(worth_reporting(3 * SECOND, 3 * SECOND + 1), None);
        assert_eq!(worth_reporting(3 * SECOND, -3 * SECOND), Some(-3 * SECOND));
        assert_eq!(worth_reporting(3 * SECOND, 6 * SECOND), Some(6 * SECOND));
        assert_eq!(worth_reporting(3 * SECOND, 1_500_000), None, "no report for each swing around the threshold");
        assert_eq!(worth_reporting(3 * SECOND, 0), Some(0));
    }

    #[test]
    fn a_reading_is_stale_when_either_clock_says_so() {
        let now = Asked::now();
        let later = |monotonic: u64, wall: u64| Asked {
            monotonic: now.monotonic + Duration::from_millis(monotonic),
            wall: now.wall + Duration::from_millis(wall),
        };
        assert!(now.is_fresh(later(900, 900)));
        assert!(!now.is_fresh(later(1000, 900)));
        assert!(!now.is_fresh(later(10, 3_600_000)), "the machine slept: the monotonic clock stood still");
        let set_back = Asked { wall: now.wall - Duration::from_secs(5), ..now };
        assert!(!now.is_fresh(set_back), "the wall clock was set back");
    }

    #[test]
    fn time_runs_on_from_the_moment_of_asking() {
        let asked = Asked::now();
        let reading = Reading { asked, database: Micros::new(1_700_000_000_000_000) };
        let later = Asked { monotonic: asked.monotonic + Duration::from_millis(250), wall: asked.wall };
        assert_eq!(reading.at(later), Micros::new(1_700_000_000_250_000));
    }
}
