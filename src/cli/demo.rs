//! `dinnerbell demo`

use clap::Args;
use tokio::sync::watch;

use super::run::stop_on_signals;
use super::{ConfigFile, Failure, block_on};
use crate::demo;
use crate::demo::DemoError;

const EXAMPLES: &str = "\
Examples:
  dinnerbell demo
  dinnerbell demo --once";

/// Run the whole service on this machine, with a PostgreSQL and a Kafka of its own, until Ctrl-C
///
/// PostgreSQL's programs must be installed; the cluster is a private one in a temporary folder. Kafka is librdkafka's in-process mock
/// broker: for looking at, not for proof. Nothing is left behind.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Stop when the first campaigns are done; exit status 0 only if both sinks agree
    #[arg(long)]
    once: bool,
    /// Taken as by every command; what the file holds changes nothing here
    #[command(flatten)]
    _config: ConfigFile,
}

impl Arguments {
    /// Runs the demo. The first signal ends it in order, the second at once.
    pub fn execute(self) -> Result<(), Failure> {
        let broker = demo::broker()
            .map_err(|error| Failure::Failed(format!("the in-process broker cannot be started: {error}")))?;
        let bootstrap_servers = broker.bootstrap_servers();
        block_on(async {
            let (stop, _) = watch::channel(false);
            tokio::select! {
                // First: from the moment at which something is started, a signal ends it in order.
                biased;
                failure = stop_on_signals(&stop) => Err(failure),
                ended = demo::run(&bootstrap_servers, self.once, &stop) => ended.map_err(Failure::from),
            }
        })
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Failed(text) => Self::Failed(text),
            DemoError::Different(_) => Self::Different(error.to_string()),
            DemoError::Service(error) => error.into(),
        }
    }
}
