//! The subscribers' database, for estimates of what is left to campaigns that run. It is opened by the first campaign that needs it, and kept: a
//! list that is read once a second connects once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use dinnerbell_config::{Config, Database};
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::{PostgresError, TIME_LIMIT};

/// How long opening the database may take: a connection and two questions.
const OPEN: Duration = TIME_LIMIT.saturating_mul(3);
/// How long a database that did not answer is not asked again.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Estimates of audiences, by one connection.
pub struct Audiences {
    database: Database,
    time_limit: Duration,
    size: OnceCell<AudienceSize>,
    failed: Mutex<Option<Instant>>,
}

impl Audiences {
    /// Contacts nobody.
    pub fn of(config: &Config) -> Self {
        let database = Database { max_connections: 1, ..config.subscribers.clone() };
        Self { database, time_limit: OPEN, size: OnceCell::new(), failed: Mutex::default() }
    }

    /// Opening the database may take no longer than this.
    pub fn opened_within(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// How large audiences are. None where the subscribers cannot be asked in time, and for 30 s afterwards.
    pub async fn size(&self) -> Option<&AudienceSize> {
        if let Some(size) = self.size.get() {
            return Some(size);
        }
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed().is_some_and(|at| at.elapsed() < RETRY_DELAY) {
            return None;
        }
        let opened = timeout(self.time_limit, self.size.get_or_try_init(|| self.open())).await;
        let size = opened.ok().and_then(Result::ok);
        *failed() = size.is_none().then(Instant::now);
        size
    }

    /// The same for whoever needs it: an error says why the subscribers cannot be asked.
    pub async fn opened(&self) -> Result<&AudienceSize, PostgresError> {
        self.size.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<AudienceSize, PostgresError> {
        AudienceSize::open(Pool::open(&self.database, "subscribers")?).await
    }
}
