//! `dinnerbell campaign cancel`

use std::time::Duration;

use clap::Args;

use crate::cli::{ConfigFile, Failure, Json, block_on, operator, output};
use crate::operator::cancel::{Cancellation, Request, cancel};
use dinnerbell_core::text_table::plain;

const HELP: &str = "\
Exit status: 0 nobody is told any more, or no instance runs and nobody will be when one does; 1 there is no such campaign, a server
refused, or the time ran out (the cancellation stays recorded).

Examples:
  dinnerbell campaign cancel 123e4567-e89b-12d3-a456-426614174003
  dinnerbell campaign cancel 123e4567-e89b-12d3-a456-426614174003 --timeout 5 --json | jq .told";

/// Cancel a campaign, for ever, and wait until nobody is told any more
///
/// Those who were told stay told. One that has ended can be cancelled too: then no update extends it. Cancelling twice is no error.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// The campaign's id
    #[arg(value_name = "CAMPAIGN")]
    id: String,
    /// How many seconds to wait for the effect
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    timeout: u64,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let request = Request {
            adv_campaign_id: self.id,
            by: operator("campaign cancel"),
            timeout: Duration::from_secs(self.timeout),
        };
        let progress = output::spinner();
        let cancelled = block_on(async { Ok(cancel(&config, &request, &progress).await?) });
        progress.finish_and_clear();
        let Some(cancelled) = cancelled? else {
            return Err(Failure::Failed(format!(
                "there is no campaign {}: `dinnerbell campaign list` shows those that arrived. To cancel one before it arrives, send a \
                 record with this key and a null value to the campaigns topic",
                plain(&request.adv_campaign_id)
            )));
        };
        match self.json.json {
            true => output::print_json(&cancelled)?,
            false if cancelled.in_effect => output::print(&text(&cancelled))?,
            false => {}
        }
        match &cancelled.waits_for {
            Some(waits_for) if !cancelled.no_instance => Err(Failure::Failed(format!(
                "the cancellation of campaign {} is recorded and not yet in effect: {}; {} told so far",
                plain(&cancelled.adv_campaign_id),
                plain(waits_for),
                cancelled.told
            ))),
            Some(waits_for) if !self.json.json => output::print(&format!(
                "the cancellation of campaign {} is recorded: {}; {} told so far\n",
                plain(&cancelled.adv_campaign_id),
                plain(waits_for),
                cancelled.told
            )),
            _ => Ok(()),
        }
    }
}

fn text(cancelled: &Cancellation) -> String {
    let told = format!("{} told, {} of them late subscribers", cancelled.told, cancelled.late);
    let id = plain(&cancelled.adv_campaign_id);
    match cancelled.state_before.as_str() {
        "cancelled" => format!("campaign {id} was cancelled before: {told}\n"),
        "scheduled" => format!("campaign {id} is cancelled before its start: {told}\n"),
        "closed" | "expired" => {
            format!("campaign {id} had ended, and is cancelled now: no update extends it; {told}\n")
        }
        _ => format!("campaign {id} is cancelled: {told}\n"),
    }
}
