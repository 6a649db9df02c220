//! What the bench is busy with, and how long it waits for anything.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

/// How long anything that is waited for may stand still.
pub const STANDSTILL: Duration = Duration::from_secs(60);

/// Says what it is busy with, on standard error.
pub fn tell(what: &str) {
    eprintln!("bench: {what}");
}

/// A bar on a terminal, nothing elsewhere.
pub fn bar(what: &str, length: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg} {bar:30} {human_pos} of {human_len}")
        .expect("the template is well formed");
    ProgressBar::new(length as u64).with_style(style).with_message(what.to_owned())
}
