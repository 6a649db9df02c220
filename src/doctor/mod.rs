//! `dinnerbell doctor`: looks at everything that the service needs, tries what only a try can tell, and says how to mend each. It changes
//! nothing: see what a check of [`kafka`] leaves with the broker, and what [`dinnerbell_postgres::ledger::probe`] uses up.
//!
//! One file for each server and one for the ledger; [`grants`] prints the rights that they look for.

pub mod database;
pub mod grants;
pub mod http;
pub mod kafka;
pub mod ledger;

use serde::Serialize;
use utoipa::ToSchema;

use dinnerbell_config::Config;
pub use dinnerbell_core::model::finding::{Finding, Findings, Listener, Status};

/// Everything that was found.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Report {
    /// The worst of all.
    #[schema(value_type = String)]
    pub status: Status,
    /// In the order of the checks.
    #[schema(value_type = Vec<Object>)]
    pub findings: Vec<Finding>,
}

/// Looks at everything, and tells each finding as it is made. What cannot be contacted is a finding too.
pub async fn examine(config: &Config, listener: Listener) -> Report {
    let mut findings = Findings::told_to(listener);
    findings.ok("configuration", "it holds no mistake");
    http::check(&config.http, &mut findings);
    let nothing = findings.another();
    let databases = async {
        let mut found = nothing.clone();
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
    let ((databases, feedback), (kafka, cluster)) = tokio::join!(databases, kafka::examine(config, nothing.another()));
    findings.take(databases);
    findings.take(kafka);
    if let (Some(pool), Some(cluster)) = (feedback, cluster) {
        ledger::against_cluster(config, &pool, &cluster, &mut findings).await;
    }
    Report { status: findings.status(), findings: findings.into_all() }
}
