//! `dinnerbell run`

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{ConfigFile, Failure, block_on};
use crate::service;
use crate::service::{ServiceError, Setup};

/// Run the service until SIGTERM or Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell run -c dinnerbell.toml")]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

impl Arguments {
    /// Runs an instance. The first signal finishes the round in flight and leaves the group, the second ends the process at once.
    pub fn execute(self) -> Result<(), Failure> {
        let (config, shown) = (self.file.load()?, self.file.shown());
        let setup = Setup { config, shown, admits: None };
        block_on(async {
            let (stop, stopped) = watch::channel(false);
            tokio::select! {
                biased;
                // First, so that signals are heard before the service begins.
                failure = stop_on_signals(&stop) => Err(failure),
                ended = service::run(setup, stopped) => ended.map_err(Failure::from),
            }
        })
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(text) => Self::Failed(text),
            ServiceError::Watchdog(text) => Self::Watchdog(text),
        }
    }
}

/// The one place for signals. Returns with the second one.
pub async fn stop_on_signals(stop: &watch::Sender<bool>) -> Failure {
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => return Failure::Failed(format!("signals cannot be received: {error}")),
    };
    let first = next(&mut interrupt, &mut terminate).await;
    tracing::info!(signal = first, "finishing the rounds in flight; a second signal ends at once");
    stop.send_replace(true);
    Failure::Signal(next(&mut interrupt, &mut terminate).await)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> u8 {
    tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    }
}
