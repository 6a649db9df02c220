//! `--watch`: what a command shows, again and again until Ctrl-C.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use crate::cli::{Failure, output};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What there is to see at a moment.
pub struct Frame {
    /// For a terminal, which it fills again each time.
    pub screen: String,
    /// For everything else: lines by what they are about. A line is printed when it is new or has changed.
    pub lines: Vec<(String, String)>,
}

/// Shows frames until Ctrl-C, or until nobody reads them any more. With `lines`, as lines on a terminal too.
pub async fn watch(lines: bool, mut frame: impl AsyncFnMut() -> Result<Frame, Failure>) -> Result<(), Failure> {
    let terminal = (!lines && io::stdout().is_terminal()).then(terminal);
    let watching = async {
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        // A server that is not there at the beginning is an error, and one that goes away meanwhile is waited for.
        let mut next = frame().await?;
        loop {
            match &terminal {
                Some(terminal) => terminal.set_message(next.screen),
                None => {
                    let new = next.lines.iter().filter(|(about, line)| shown.get(about) != Some(line));
                    output::print(&new.map(|(_, line)| format!("{line}\n")).collect::<String>())?;
                    shown = next.lines.into_iter().collect();
                }
            }
            next = loop {
                sleep(EVERY).await;
                match frame().await {
                    Ok(next) => break next,
                    Err(failure) => tracing::warn!("{failure}; trying again"),
                }
            };
        }
    };
    let ended = tokio::select! {
        ended = watching => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = reader_gone() => Ok(()),
    };
    if let Some(terminal) = terminal {
        terminal.abandon();
    }
    ended
}

/// Rewrites its message in place, cut off at the height of the terminal.
fn terminal() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}").expect("the template is well formed");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(style)
}

/// Completes when standard output is a pipe that nobody reads any more (`| head`): with nothing to say, writing would not find out.
#[expect(
    deprecated,
    reason = "unsound only for what does not own its descriptor, and its successor is unsafe; an OwnedFd does"
)]
async fn reader_gone() {
    // What cannot be watched, a file for instance, has no reader to lose.
    let output = io::stdout().as_fd().try_clone_to_owned();
    if let Ok(output) = output
        && let Ok(output) = AsyncFd::with_interest(output, Interest::ERROR)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    pending().await
}
