//! `dinnerbell doctor`

use clap::Args;

use crate::cli::output::plain;
use crate::cli::{ConfigFile, Failure, Json, block_on, output};
use crate::doctor::{self, Report, Status, grants};
use crate::postgres::connect::Pool;

const EXAMPLES: &str = "\
Examples:
  dinnerbell doctor
  dinnerbell doctor --json | jq '.findings[] | select(.status != \"ok\")'
  dinnerbell doctor --grants        the rights for the users of this configuration, as SQL and kafka-acls.sh

Exit status: 0 nothing is wrong, warnings allowed; 1 something is; 2 the configuration has mistakes.";

/// Check everything that the service needs, and say how to mend each
///
/// Changes nothing, and may be run beside the service at any time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Print the exact rights that the configured users need, and check nothing
    #[arg(long, conflicts_with = "json")]
    grants: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Does what is asked.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        if self.grants {
            let usual = grants::usual_sequence(&config.feedback.table);
            let sequence = block_on(async {
                let looked = async { grants::sequence(&Pool::open(&config.feedback, "feedback")?).await };
                // Before there is a database to ask, the usual name will do.
                Ok(looked.await.unwrap_or(Some(usual)))
            })?;
            return output::print(&grants::script(&config, sequence.as_deref()));
        }
        let report = block_on(async { Ok(doctor::examine(&config).await) })?;
        self.json.print(&report, text)?;
        if report.status == Status::Error { Err(Failure::Reported(1)) } else { Ok(()) }
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Error => "error",
        };
        text.push_str(&format!("{status:<8} {:<24} {}\n", finding.check, plain(&finding.found)));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:<8} {:<24} remedy: {}\n", "", "", plain(remedy)));
        }
    }
    let count = |status| report.findings.iter().filter(|finding| finding.status == status).count();
    text + &format!("{} errors, {} warnings\n", count(Status::Error), count(Status::Warning))
}
