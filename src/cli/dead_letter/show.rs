//! `dinnerbell dead-letter show`

use clap::Args;

use crate::cli::{ConfigFile, Failure, Json, output};
use crate::operator::dead_letters;
use crate::operator::dead_letters::{Bytes, Details};
use dinnerbell_core::text_table::{or_dash, plain, readable};

/// So much of a key, a value or a header is shown.
const SHOWN: usize = 4_096;

const EXAMPLES: &str = "\
Examples:
  dinnerbell dead-letter show 4711
  dinnerbell dead-letter show 4711 --value > campaign.json      to mend it, and send it with `campaign send --file`";

/// Show one dead letter with its key, value and headers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Its id, as `dead-letter list` shows it
    #[arg(value_name = "ID")]
    id: i64,
    /// Print the value alone, byte for byte
    #[arg(long, conflicts_with = "json")]
    value: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let letter = self.config.on_feedback(async |_, pool| Ok(dead_letters::show(&pool, self.id).await?))?;
        let Some(letter) = letter else {
            return Err(Failure::Failed(format!(
                "there is no dead letter {}: `dinnerbell dead-letter list` shows those that are kept",
                self.id
            )));
        };
        match self.value {
            true => output::print_bytes(letter.value.as_ref().map_or(&[], Bytes::raw)),
            false => self.json.print(&letter, text),
        }
    }
}

fn text(letter: &Details) -> String {
    let summary = &letter.summary;
    let replayed = match (&summary.in_doubt_since, &summary.replayed_at) {
        (Some(since), _) => format!(
            "in doubt since {since}, claimed by {}: look for it in the topic; if it is not there, `dead-letter replay {} --again`",
            or_dash(summary.in_doubt_by.as_ref()),
            summary.id
        ),
        (None, Some(at)) => format!("{at} by {}", or_dash(summary.replayed_by.as_ref())),
        (None, None) => "no".to_owned(),
    };
    let published = summary.round.map_or("in no round yet".to_owned(), |round| format!("round {round}"));
    let mut lines = vec![
        ("id", summary.id.to_string()),
        (
            "arrived",
            format!("{} in lane {}, offset {}", or_dash(summary.arrived_at.as_ref()), summary.lane, summary.offset),
        ),
        ("field", or_dash(summary.field.as_ref())),
        ("reason", plain(&summary.reason)),
        ("published", format!("lane {}, {published}", summary.publishing_lane)),
        ("replayed", plain(&replayed)),
    ];
    if !letter.left_out.is_empty() {
        lines.push(("not kept", not_kept(letter)));
    }
    lines.extend([("key", part(letter.key.as_ref())), ("value", part(letter.value.as_ref()))]);
    for header in &letter.headers {
        lines.push(("header", format!("{}: {}", plain(&header.name), part(header.value.as_ref()))));
    }
    lines.into_iter().map(|(what, line)| format!("{what:<10} {line}\n")).collect()
}

/// Which parts of the record are not kept, and what is known of them.
fn not_kept(letter: &Details) -> String {
    let parts = letter.left_out.join(", ");
    match (letter.value_size, &letter.value_sha256) {
        (Some(size), Some(sha256)) => format!("{parts}; the value took {size} bytes, SHA-256 {sha256}"),
        _ => parts,
    }
}

/// Bytes on one line; what would steer a terminal, or is not UTF-8, as escapes.
fn part(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else { return "(null)".to_owned() };
    let raw = bytes.raw();
    match raw.len().checked_sub(SHOWN) {
        None | Some(0) => readable(raw),
        Some(more) => format!("{} ... and {more} bytes more", readable(&raw[..SHOWN])),
    }
}
