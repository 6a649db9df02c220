//! `dinnerbell pause`, and the note that other commands print while all sending is paused.

use clap::Args;

use crate::cli::failure::remark;
use crate::cli::{ConfigFile, Failure, Json, operator};
use crate::operator::pause::{Pause, Paused};
use crate::operator::{hold, pause};
use dinnerbell_core::text_table::{or_dash, plain};
use dinnerbell_postgres::connect::Pool;

const EXAMPLES: &str = "\
Examples:
  dinnerbell pause --reason 'wrong price in the app'
  dinnerbell lane list          says who paused, when and why
  dinnerbell resume";

/// Pause all sending, of every instance, until it is resumed
///
/// When the command returns, no publication is begun any more; one that was under way is committed or given up. While
/// paused, campaigns are still received, and start and end on time; one that ends during the pause is not sent. A pause
/// outlives restarts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Why: it is shown to everyone who looks
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let paused = self
            .config
            .on_feedback(async |_, pool| Ok(pause::pause(&pool, &operator("pause"), self.reason.as_deref()).await?))?;
        let paused = paused.ok_or_else(unclaimed)?;
        self.json.print(&paused, text)
    }
}

/// The ledger has no row to write the order into.
pub(super) fn unclaimed() -> Failure {
    Failure::Failed("no service has used this ledger yet: `dinnerbell run` claims it when it first starts".to_owned())
}

/// Who paused, when and why, in words.
pub(super) fn described(pause: &Pause) -> String {
    let why = pause.reason.as_ref().map_or(String::new(), |reason| format!(": {}", plain(reason)));
    format!("since {} by {}{why}", or_dash(pause.since.as_ref()), plain(&or_dash(pause.by.as_ref())))
}

fn text(paused: &Paused) -> String {
    let what = if paused.changed { "all sending is paused" } else { "all sending was paused before, and stays so," };
    let mut text = format!("{what} {}\n", described(&paused.pause));
    for waiting in &paused.waiting {
        text.push_str(&format!(
            "lane {}: round {} with {} drafts is recorded and not known to be published\n",
            waiting.lane, waiting.round, waiting.drafts
        ));
    }
    text + "`dinnerbell resume` lets it go on\n"
}

/// Says on standard error that all sending is paused or held, if it is: what a list shows moves no further then.
pub async fn note(pool: &Pool) -> Result<(), Failure> {
    if let Some(hold) = hold::current(pool).await? {
        let remedy = match hold.is_young && !hold.needs_somebody() {
            true => "it ends by itself when an instance has taken them over".to_owned(),
            false => hold.remedy(),
        };
        remark(&format_args!("{hold}; {remedy}"));
    }
    if let Some(pause) = pause::current(pool).await? {
        remark(&format_args!("all sending is paused {}; `dinnerbell resume` lets it go on", described(&pause)));
    }
    Ok(())
}
