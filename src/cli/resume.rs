//! `dinnerbell resume`

use clap::Args;

use super::pause::{described, unclaimed};
use crate::cli::{ConfigFile, Failure, Json, operator};
use crate::operator::pause;
use crate::operator::pause::Resumed;
use dinnerbell_core::text_table::{or_dash, plain};

/// Resume sending after `dinnerbell pause`
///
/// What waits is sent at once, as far as its campaigns still last.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell resume")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let resumed = self.config.on_feedback(async |_, pool| Ok(pause::resume(&pool, &operator("resume")).await?))?;
        let resumed = resumed.ok_or_else(unclaimed)?;
        self.json.print(&resumed, text)
    }
}

fn text(resumed: &Resumed) -> String {
    match (&resumed.ended, &resumed.resumed_at) {
        (Some(ended), _) => format!("sending goes on; it was paused {}\n", described(ended)),
        (None, Some(at)) => {
            format!("nothing is paused; resumed last at {at} by {}\n", plain(&or_dash(resumed.resumed_by.as_ref())))
        }
        (None, None) => "nothing is paused\n".to_owned(),
    }
}
