//! `dinnerbell doctor`: looks at everything that the service needs, and says how to mend each. It changes nothing: see what a check of
//! [`kafka`] leaves with the broker.
//!
//! One file for each server and one for the ledger; [`grants`] prints the rights that they look for.

pub mod database;
pub mod grants;
pub mod kafka;
pub mod ledger;

use serde::Serialize;

use crate::config::Config;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// The service works, and somebody should look at it.
    Warning,
    /// The service cannot keep its promises, or cannot work.
    Error,
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The check; its name stays the same from version to version.
    pub check: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// How to mend it; null where nothing is to be mended.
    pub remedy: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The worst of all.
    pub status: Status,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, status: Status::Ok, found: found.into(), remedy: None });
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Status::Warning, found, remedy);
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Status::Error, found, remedy);
    }

    fn add(&mut self, check: &'static str, status: Status, found: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { check, status, found: found.into(), remedy: Some(remedy.into()) });
    }

    /// An error of a server: its text names the setting to change, if it is one.
    fn refused(&mut self, check: &'static str, error: impl ToString) {
        let text = error.to_string();
        self.0.push(Finding { check, status: Status::Error, found: text, remedy: None });
    }
}

/// Looks at everything. What cannot be contacted is a finding too.
pub async fn examine(config: &Config) -> Report {
    let mut findings = Findings::default();
    findings.ok("configuration", "it holds no mistake");
    let databases = async {
        let mut found = Findings::default();
        let feedback = database::feedback(config, &mut found).await;
        if let Some(pool) = &feedback {
            ledger::examine(config, pool, &mut found).await;
        }
        let subscribers = database::subscribers(config, &mut found).await;
        if let (Some(feedback), Some(subscribers)) = (&feedback, &subscribers) {
            database::headroom(feedback, subscribers, &mut found).await;
        }
        (found, feedback)
    };
    let ((databases, feedback), (kafka, cluster)) = tokio::join!(databases, kafka::examine(config));
    findings.0.extend(databases.0);
    findings.0.extend(kafka.0);
    if let (Some(pool), Some((cluster, lanes))) = (feedback, cluster) {
        ledger::against_cluster(config, &pool, &cluster, lanes, &mut findings).await;
    }
    let status = findings.0.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
    Report { status, findings: findings.0 }
}
