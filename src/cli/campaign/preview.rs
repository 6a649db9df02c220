//! `dinnerbell campaign preview`

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::list::moment;
use super::send::read;
use crate::cli::{ConfigFile, Failure, Json, block_on, output};
use crate::operator::preview::{PaceFrom, Preview, Subject, preview};
use dinnerbell_core::model::input;
use dinnerbell_core::text_table::{or_dash, plain};

const HELP: &str = "\
Nothing is written, and Kafka is not asked.

Exit status: 0 it can be sent; 1 a server refused or failed; 2 it would be a dead letter.

Examples:
  dinnerbell campaign preview --restaurant 123e4567-e89b-12d3-a456-426614174000
  dinnerbell campaign preview --file samples/campaign.json --sample 20
  jq -c .offer order.json | dinnerbell campaign preview --file - --json";

/// Say who would be told, how long that takes, and what is wrong, before a campaign is sent
#[derive(Debug, Args)]
#[command(after_help = HELP, group = ArgGroup::new("subject").required(true).args(["restaurant", "file"]))]
pub struct Arguments {
    /// The restaurant's id
    #[arg(long, value_name = "ID")]
    restaurant: Option<String>,
    /// The campaign as it would be sent (- is standard input)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many of those who would be told are named
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=1000))]
    sample: u16,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let subject = match (&self.restaurant, &self.file) {
            (Some(restaurant), _) => input::restaurant(restaurant)
                .map(|()| Subject::Restaurant(restaurant.clone()))
                .map_err(|reason| vec![reason]),
            (None, Some(file)) => input::campaign(&read(file)?).map(|campaign| Subject::Campaign(Box::new(campaign))),
            (None, None) => return Err(Failure::Usage("--restaurant or --file is needed".to_owned())),
        };
        let config = self.config.load()?;
        let preview = match subject {
            Err(broken) => Preview::refused(broken),
            Ok(subject) => {
                let progress = output::spinner();
                let asked = block_on(async {
                    let asked = preview(&config, &subject, self.sample.into(), &progress).await;
                    asked.map_err(|error| Failure::Failed(error.to_string()))
                });
                progress.finish_and_clear();
                asked?
            }
        };
        match self.json.json {
            true => output::print_json(&preview)?,
            false if preview.audience.is_some() => output::print(&text(&preview))?,
            false => {}
        }
        if preview.mistakes.is_empty() {
            return Ok(());
        }
        let mistakes: String =
            preview.mistakes.iter().map(|mistake| format!("\n  {}", plain(&mistake.reason))).collect();
        Err(Failure::Usage(format!("this would be a dead letter:{mistakes}")))
    }
}

fn text(preview: &Preview) -> String {
    let pace = match (preview.pace, preview.pace_from) {
        (Some(pace), Some(PaceFrom::RateLimit)) => format!("{pace:.0} drafts a second, by fanout.rate_limit"),
        (Some(pace), _) => format!("{pace:.0} drafts a second, as recent rounds were"),
        (None, _) => "unlimited, and not measured yet".to_owned(),
    };
    let audience = format!(
        "{} clients, {} of them have a draft already",
        or_dash(preview.audience),
        or_dash(preview.already_told)
    );
    let mut lines = vec![
        ("restaurant", or_dash(preview.restaurant_id.as_ref())),
        ("audience", audience),
        ("will be told", or_dash(preview.will_be_told)),
        ("pace", pace),
        ("takes", preview.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"))),
    ];
    if preview.adv_campaign_id.is_some() {
        lines.insert(0, ("campaign", or_dash(preview.adv_campaign_id.as_ref())));
        lines.push(("start", moment(preview.adv_campaign_datetime_start)));
        lines.push(("end", moment(preview.adv_campaign_datetime_end)));
    }
    lines.extend(preview.sample.iter().map(|client| ("for instance", client.clone())));
    lines.extend(preview.warnings.iter().map(|warning| ("note", warning.clone())));
    lines.iter().map(|(name, value)| format!("{name:12}  {}\n", plain(value))).collect()
}
