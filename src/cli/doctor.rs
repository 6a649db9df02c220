//! `dinnerbell doctor`

use std::sync::Arc;

use clap::Args;

use crate::cli::{ConfigFile, Failure, Json, block_on, output};
use crate::doctor;
use crate::doctor::{Finding, Listener, Report, Status, grants};
use dinnerbell_core::text_table::plain;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::sequence;
use dinnerbell_postgres::sequence::Sequence;

const EXAMPLES: &str = "\
Examples:
  dinnerbell doctor
  dinnerbell doctor --json | jq '.findings[] | select(.status != \"ok\")'
  dinnerbell doctor --grants        the rights for the users of this configuration, as SQL and kafka-acls.sh
  dinnerbell doctor --grants --operator anna

Exit status: 0 nothing is wrong, warnings allowed; 1 something is; 2 the configuration has mistakes.";

/// Check everything that the service needs, and print a remedy for each problem
///
/// Changes nothing, and may be run beside the service at any time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Print the exact rights that the configured users need, and check nothing
    #[arg(long, conflicts_with = "json")]
    grants: bool,
    /// With --grants: the login of the operators, in the databases and in Kafka
    #[arg(long, value_name = "USER", requires = "grants", default_value = grants::OPERATOR)]
    operator: String,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        if self.grants {
            let usual = grants::usual_sequence(&config.feedback.table);
            let sequence = block_on(async {
                let looked = async { sequence::of_ids(&Pool::open(&config.feedback, "feedback")?).await };
                // An identity needs no right. Before there is a database to ask, the usual name will do.
                let named = |found: Option<Sequence>| found.filter(|found| !found.is_identity).map(|found| found.name);
                Ok(looked.await.map_or(Some(usual), named))
            })?;
            return output::print(&grants::script(&config, sequence.as_deref(), &self.operator));
        }
        let progress = output::spinner();
        let (json, shown) = (self.json.json, progress.clone());
        let listener: Listener = Arc::new(move |finding| {
            shown.set_message(format!("{} was looked at", finding.check));
            if !json {
                // Nobody reads any more: the status is still worth something.
                shown.suspend(|| drop(output::print(&line(finding))));
            }
        });
        let report = block_on(async { Ok(doctor::examine(&config, listener).await) });
        progress.finish_and_clear();
        let report = report?;
        self.json.print(&report, summary)?;
        if report.status == Status::Error { Err(Failure::Reported(1)) } else { Ok(()) }
    }
}

/// A finding, with what mends it below.
fn line(finding: &Finding) -> String {
    let status = match finding.status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Error => "error",
    };
    let mut text = format!("{status:<8} {:<24} {}\n", finding.check, plain(&finding.found));
    if let Some(remedy) = &finding.remedy {
        text.push_str(&format!("{:<8} {:<24} remedy: {}\n", "", "", plain(remedy)));
    }
    text
}

/// What comes last: the findings were printed as they were made.
fn summary(report: &Report) -> String {
    let count = |status| report.findings.iter().filter(|finding| finding.status == status).count();
    format!("{} errors, {} warnings\n", count(Status::Error), count(Status::Warning))
}
