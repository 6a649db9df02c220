//! `dinnerbell lane adopt`

use clap::Args;
use clap::builder::TypedValueParser;
use dinnerbell_core::model::number::Lane;

use crate::cli::{ConfigFile, Failure, Json, block_on, operator};
use crate::operator::adopt::{Adoption, Request, adopt};

const EXAMPLES: &str = "\
Examples:
  dinnerbell lane adopt 11 --into 3 --dry-run       the topic was recreated with fewer partitions
  dinnerbell lane adopt 11 --into 3";

/// Let another lane go on with the campaigns of a lane whose partition is gone
///
/// Campaigns, changes that nobody has applied and dead letters that are still to be published move, in one transaction. A round that is recorded and
/// was never published is withdrawn first, and the adopting lane tells those clients again. The service may run: the owner of the adopting lane
/// notices and goes on. Refused while the partition exists, and while nobody knows whether the last round was published.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The lane whose partition is gone
    #[arg(value_name = "LANE", value_parser = clap::value_parser!(i32).range(0..).map(Lane::new))]
    lane: Lane,
    /// The lane that goes on with what it held
    #[arg(long, value_name = "LANE", value_parser = clap::value_parser!(i32).range(0..).map(Lane::new))]
    into: Lane,
    /// Only say what would be moved
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let Self { lane, into, dry_run, .. } = self;
        if lane == into {
            return Err(Failure::Usage(format!("lane {lane} cannot adopt itself: --into names another lane")));
        }
        let config = self.config.load()?;
        let request = Request { lane, into, dry_run, by: operator("lane adopt") };
        let adoption = block_on(async { Ok(adopt(&config, &request).await?) })?;
        self.json.print(&adoption, text)
    }
}

fn text(adoption: &Adoption) -> String {
    let Adoption { lane, into, campaigns, changes, dead_letters, .. } = adoption;
    let (goes, is) = if adoption.dry_run { ("would go", "would be") } else { ("goes", "is") };
    let mut text = String::new();
    if let Some(round) = adoption.withdrawn_round {
        let kept = match adoption.rows_kept {
            Some(kept) if kept > 0 => format!("; {kept} rows stay, because somebody answered in them"),
            _ => String::new(),
        };
        let locked = match adoption.rows_locked {
            Some(locked) if locked > 0 => {
                format!("; {locked} rows are locked by somebody's open transaction, and go when they are free")
            }
            _ => String::new(),
        };
        text.push_str(&format!(
            "round {round} of lane {lane} was never published: it {is} withdrawn, {} drafts{kept}{locked}\n",
            adoption.rows_withdrawn
        ));
    }
    text.push_str(&format!(
        "lane {into} {goes} on with {campaigns} campaigns, {changes} changes and {dead_letters} dead letters of lane {lane}\n"
    ));
    if adoption.dry_run {
        text.push_str("nothing was changed\n");
    }
    text
}
