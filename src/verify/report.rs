//! What a comparison of both sinks found, as it is printed.

use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::operator::republish;
use crate::operator::republish::Republished;
use crate::verify::compare::{Differences, Finding};
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::number::{Lane, Seconds};
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::audit::note_alone;

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both sinks hold the same drafts.
    Equal,
    /// They do not.
    Different,
    /// The topic no longer holds all that would have to be compared.
    NotCompared,
}

/// The comparison, as it is printed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What came out.
    pub result: Outcome,
    /// Why it could not be compared.
    pub reason: Option<String>,
    /// The output topic.
    pub topic: String,
    /// The feedback table.
    pub table: String,
    /// Drafts formed earlier were left out.
    pub since: Option<Seconds>,
    /// Messages read.
    pub messages: u64,
    /// Rows read.
    pub rows: u64,
    /// Drafts with one row and one message that agree.
    pub equal: u64,
    /// Rows of rounds that are recorded and not yet published.
    pub pending: u64,
    /// Rows of withdrawn drafts that stay because somebody answered in them.
    pub kept: u64,
    /// Rows of withdrawn drafts that somebody's open transaction has locked: they go when they are free.
    pub locked: u64,
    /// Rows that an earlier job left.
    pub foreign_rows: u64,
    /// Messages that are not the service's.
    pub foreign_messages: u64,
    /// What differs.
    pub differences: Differences,
    /// Some of what differs, and of the rows that were kept.
    pub examples: Vec<Example>,
    /// Lanes that stand still until they are resolved.
    pub halted_lanes: Vec<Lane>,
    /// What was ordered for rows without a message; null where nothing was.
    pub republished: Option<Republished>,
    /// Why none may be ordered, though the topic was compared.
    #[serde(skip)]
    pub not_to_be_republished: Option<String>,
    /// The rows without a message that were looked at twice.
    #[serde(skip)]
    pub unannounced: Vec<i64>,
}

impl Report {
    /// Has the clients of rows without a message told once more, while their campaigns last. Refused where the topic no longer holds all that was
    /// compared, or may have forgotten messages by their keys: what it deleted was told.
    pub async fn republish(&mut self, config: &Config, dry_run: bool, by: &Orderer) -> Result<(), VerifyError> {
        if let Some(reason) = self.reason.as_ref().or(self.not_to_be_republished.as_ref()) {
            return Err(VerifyError::Refused(reason.clone()));
        }
        let republished = republish::republish(config, &self.unannounced, dry_run, by).await;
        self.republished = Some(republished.map_err(|error| VerifyError::Refused(error.to_string()))?);
        Ok(())
    }

    /// Keeps that both sinks were compared, and what came out, with the orders: the page shows the last time.
    pub async fn keep(&self, config: &Config, by: &Orderer) -> Result<(), PostgresError> {
        let pool = Pool::open(&config.feedback, "feedback")?;
        note_alone(&pool, by, Action::Verified, Subject::FeedbackTable(&self.table), &self.outcome()).await
    }

    /// What came out, in one line that names nobody.
    fn outcome(&self) -> String {
        let time =
            |since: Seconds| Timestamp::from_second(since.get()).map_or(since.to_string(), |time| time.to_string());
        let since = self.since.map_or(String::new(), |since| format!(", formed since {}", time(since)));
        let places = match self.differences.total() {
            1 => "1 place".to_owned(),
            places => format!("{places} places"),
        };
        match self.result {
            Outcome::Equal => format!("equal: {} drafts are in both{since}", self.equal),
            Outcome::Different if self.is_mended() => {
                format!("different in {places}; those clients are told once more{since}")
            }
            Outcome::Different => format!("different in {places}{since}"),
            Outcome::NotCompared => format!("not compared: {}", self.reason.as_deref().unwrap_or("no reason is known")),
        }
    }

    /// The topic may have forgotten messages by their keys: nobody is told once more until the remedy was applied.
    pub fn refuse_to_republish(&mut self, what: &str, remedy: &str) {
        self.not_to_be_republished = Some(format!("{what}: nobody is told once more; {remedy}"));
    }

    /// Whether everything that differed is told once more.
    pub fn is_mended(&self) -> bool {
        self.republished.as_ref().is_some_and(|done| !done.dry_run && done.drafts == self.differences.total())
    }
}

/// One draft that differs, or is notable.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// What was found.
    pub finding: Finding,
    /// The campaign, where it could be read.
    pub adv_campaign_id: Option<String>,
    /// The client, where it could be read.
    pub client_id: Option<String>,
    /// The row's id.
    pub row: Option<i64>,
    /// The message's partition.
    pub partition: Option<i32>,
    /// The message's offset.
    pub offset: Option<i64>,
}

/// Why the two sinks could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Kafka.
    #[error("kafka: {0}")]
    Kafka(#[from] BrokerError),
    /// The feedback database.
    #[error("{0}")]
    Database(#[from] PostgresError),
    /// The temporary files.
    #[error("temporary files: {0}; set TMPDIR to a folder with more room")]
    Disk(#[from] io::Error),
    /// There is nothing to compare with.
    #[error("{0}")]
    Refused(String),
}
