//! `dinnerbell campaign told`

use clap::Args;

use super::show::unknown;
use crate::cli::{ConfigFile, Failure, Json};
use crate::operator::audiences::Audiences;
use crate::operator::told::{Answer, told};
use dinnerbell_core::text_table::plain;

const HELP: &str = "\
Exit status: 0 also where the client was not told; 1 there is no such campaign, or a server refused.

Examples:
  dinnerbell campaign told 123e4567-e89b-12d3-a456-426614174003 --client 223e4567-e89b-12d3-a456-426614174000
  dinnerbell campaign told 123e4567-e89b-12d3-a456-426614174003 --client 4711 --json | jq -r '.told, .reason'";

/// Say whether a client was told of a campaign, when and how, or why not
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// The campaign's id
    #[arg(value_name = "CAMPAIGN")]
    id: String,
    /// The client's id
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    client: String,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let answer = self
            .config
            .on_feedback(async |config, pool| {
                Ok(told(config, &Audiences::of(config), pool, &self.id, &self.client).await?)
            })?
            .ok_or_else(|| unknown(&self.id))?;
        self.json.print(&answer, text)
    }
}

fn text(answer: &Answer) -> String {
    let was = if answer.told { "was told" } else { "was not told" };
    format!(
        "client {} {was} of campaign {} ({}): {}\n",
        plain(&answer.client_id),
        plain(&answer.adv_campaign_id),
        answer.state,
        answer.explanation
    )
}
