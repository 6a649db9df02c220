//! `dinnerbell lane list`

use clap::Args;

use crate::cli::{ConfigFile, Failure, Json, output, pause};
use crate::operator::lanes;
use crate::operator::lanes::LaneStatus;
use dinnerbell_core::text_table::{Fit, or_dash, plain};

/// List lanes: who owns them, how far they are, what halted them and what to do
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell lane list --json | jq '.[] | select(.halted) | .halted.remedy'")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let lanes = self.config.on_feedback(async |config, pool| {
            pause::note(&pool).await?;
            Ok(lanes::list_with_lag(&pool, &config.kafka).await?)
        })?;
        self.json.print(lanes.as_slice(), text)
    }
}

fn text(lanes: &[LaneStatus]) -> String {
    let head =
        ["LANE", "STATE", "OWNER", "LAG", "EPOCH", "ROUND", "PUBLISHED", "POSITION", "CAMPAIGNS", "DEAD LETTERS"];
    let cells = |lane: &LaneStatus| {
        [
            lane.lane.to_string(),
            lane.halted.as_ref().map_or_else(|| lane.state.to_owned(), |halted| halted.name.clone()),
            or_dash(lane.owner.as_ref()),
            or_dash(lane.lag),
            lane.epoch.to_string(),
            lane.seq.to_string(),
            or_dash(lane.published_seq),
            lane.position.to_string(),
            lane.counts.campaigns.to_string(),
            lane.counts.dead_letters.to_string(),
        ]
    };
    let fit = Fit { width: output::width(), flexible: &[(2, 16), (1, 16)], optional: &[] };
    let mut text = fit.table(head, lanes.iter().map(cells));
    for lane in lanes {
        for wait in &lane.waits {
            let since = or_dash(wait.since.as_ref());
            let part = &wait.part;
            text.push_str(&format!(
                "\nlane {} waits for a lock ({part}) since {since}: {}\n",
                lane.lane,
                plain(&wait.found)
            ));
        }
        let Some(halted) = &lane.halted else { continue };
        let since = or_dash(halted.since.as_ref());
        text.push_str(&format!(
            "\nlane {} has stood still since {since}: {}\n  found   {}\n  remedy  {}\n",
            lane.lane,
            plain(&halted.name),
            plain(&halted.found),
            plain(&halted.remedy)
        ));
    }
    text
}
