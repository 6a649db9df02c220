//! The command line. `main` only dispatches: one file for each subcommand, each with its own `Arguments` and
//! `execute(self) -> Result<(), Failure>`. Set-up that can fail (arguments, configuration) comes before a runtime is started.
//!
//! To add a command: its file, its `mod` line here, its variant of [`Command`], its line in `Command::execute`.

pub mod audit;
pub mod bench;
pub mod campaign;
pub mod client;
pub mod config;
pub mod dead_letter;
pub mod demo;
pub mod doctor;
pub mod failure;
pub mod lane;
pub mod logging;
pub mod migrate;
pub mod output;
pub mod pause;
pub mod resume;
pub mod run;
pub mod time;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use failure::Failure;

use crate::service::startup::hostname;
use dinnerbell_config::{Config, Settings, environment, load, show};
use dinnerbell_core::model::audit::{Orderer, Origin};
use dinnerbell_postgres::connect::Pool;

/// A restaurant rings; everyone who favours it hears, once, while the offer lasts.
#[derive(Debug, Parser)]
#[command(
    name = "dinnerbell",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Example:\n  dinnerbell config reference > dinnerbell.toml && dinnerbell migrate && dinnerbell run"
)]
pub struct Cli {
    /// How the log on standard error is written; DINNERBELL_LOG chooses what is in it, as info or dinnerbell=debug,librdkafka=info
    #[arg(
        long,
        global = true,
        help_heading = "Logging",
        value_name = "FORMAT",
        env = "DINNERBELL_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Command,
}

/// Every command, in the order in which the help shows them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole service on this machine, with a PostgreSQL and a Kafka of its own, until Ctrl-C
    Demo(demo::Arguments),
    /// Run the service until SIGTERM or Ctrl-C
    Run(run::Arguments),
    /// Send, preview, list, show and cancel campaigns; say who was told
    Campaign(campaign::Arguments),
    /// Show what a client was told, or why not
    Client(client::Arguments),
    /// List, show and replay what could not become a campaign
    DeadLetter(dead_letter::Arguments),
    /// Make the ledger's tables and the indexes, or bring them up to date
    Migrate(migrate::Arguments),
    /// Check everything that the service needs, and print a remedy for each problem
    Doctor(doctor::Arguments),
    /// List lanes, and resolve what halted one
    Lane(lane::Arguments),
    /// Pause all sending, of every instance, until it is resumed
    Pause(pause::Arguments),
    /// Resume sending after a pause
    Resume(resume::Arguments),
    /// List orders: who gave which, when, and from where
    Audit(audit::Arguments),
    /// Compare the output topic and the feedback table, draft by draft
    Verify(verify::Arguments),
    /// Measure what these servers can take, and the service against them
    Bench(bench::Arguments),
    /// Show the configuration reference, the values in force, or all mistakes
    Config(config::Arguments),
}

impl Command {
    /// What is in the log unless DINNERBELL_LOG says otherwise.
    fn log(&self) -> &'static str {
        match self {
            // What they show is what they have to say.
            Self::Demo(_) | Self::Bench(_) => logging::QUIET,
            _ => logging::DEFAULT,
        }
    }

    fn execute(self) -> Result<(), Failure> {
        match self {
            Self::Demo(arguments) => arguments.execute(),
            Self::Run(arguments) => arguments.execute(),
            Self::Campaign(arguments) => arguments.execute(),
            Self::Client(arguments) => arguments.execute(),
            Self::DeadLetter(arguments) => arguments.execute(),
            Self::Migrate(arguments) => arguments.execute(),
            Self::Doctor(arguments) => arguments.execute(),
            Self::Lane(arguments) => arguments.execute(),
            Self::Pause(arguments) => arguments.execute(),
            Self::Resume(arguments) => arguments.execute(),
            Self::Audit(arguments) => arguments.execute(),
            Self::Verify(arguments) => arguments.execute(),
            Self::Bench(arguments) => arguments.execute(),
            Self::Config(arguments) => arguments.execute(),
        }
    }
}

/// Parses the command line and does what it says. Wrong usage prints how it is meant and exits 2.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match logging::start(cli.log_format, cli.command.log()).and_then(|()| cli.command.execute()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Stack of a worker thread, in bytes. Only what is used of it takes memory.
const STACK: usize = 8 << 20;

/// Runs a command's asynchronous part to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Without optimisation, the futures of an instance take more than the usual 2 MiB.
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot be started: {error}")))?;
    let done = runtime.block_on(work);
    // A call to a server that does not answer, and threads that librdkafka blocks, must not hold up the end.
    runtime.shutdown_background();
    done
}

/// `-c FILE`, for every command that needs the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigFile {
    /// The configuration file [default: ./dinnerbell.toml, else /etc/dinnerbell/dinnerbell.toml, else the environment alone]
    // Its own id: a command may have a FILE of another kind.
    #[arg(id = "config", short = 'c', long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl ConfigFile {
    /// The checked configuration, or all its mistakes.
    pub fn load(&self) -> Result<Config, Failure> {
        Ok(load(self.file.as_deref(), environment())?)
    }

    /// What is in force as text, secrets masked.
    pub fn shown(&self) -> String {
        show::show(&Settings::gather(self.file.as_deref(), environment()))
    }

    /// Loads the configuration and runs a command's work on the feedback database to its end. Returns what the work does.
    pub fn on_feedback<T>(&self, work: impl AsyncFnOnce(&Config, Pool) -> Result<T, Failure>) -> Result<T, Failure> {
        let config = self.load()?;
        block_on(async { work(&config, Pool::open(&config.feedback, "feedback")?).await })
    }
}

/// `--json`, for every command that prints data.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Json {
    /// Prints a value: as JSON if that is asked for, else as this text of it.
    pub fn print<T: serde::Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json { output::print_json(value) } else { output::print(&text(value)) }
    }
}

/// Who orders by this command, as the ledger keeps it.
pub fn operator(command: &str) -> Orderer {
    let named = |variable| std::env::var(variable).ok().filter(|name| !name.trim().is_empty());
    Orderer {
        who: named("SUDO_USER").or_else(|| named("USER")).unwrap_or_else(account),
        by: command.to_owned(),
        origin: Origin::CommandLine,
        host: hostname(),
    }
}

/// Whose account this process runs under: neither containers nor cron say it in the environment.
fn account() -> String {
    let id = || format!("uid {}@{}", rustix::process::geteuid().as_raw(), hostname());
    whoami::username().ok().filter(|name| !name.trim().is_empty()).unwrap_or_else(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that do something, by their names.
    fn leaves(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
        let path = format!("{path} {}", command.get_name());
        match command.get_subcommands().next() {
            None => vec![(path, command.clone())],
            Some(_) => command.get_subcommands().flat_map(|inner| leaves(inner, &path)).collect(),
        }
    }

    #[test]
    fn every_command_takes_a_configuration_file() {
        let commands = leaves(&<Cli as clap::CommandFactory>::command(), "");
        let takes_none = |command: &clap::Command| !command.get_arguments().any(|arg| arg.get_short() == Some('c'));
        let without: Vec<&String> =
            commands.iter().filter(|(_, command)| takes_none(command)).map(|(path, _)| path).collect();
        assert!(commands.len() > 25 && without.is_empty(), "{without:?} of {} take no -c", commands.len());
    }

    #[test]
    fn whose_account_it_is_is_known_without_the_environment() {
        let account = account();
        assert!(!account.trim().is_empty() && account != "unknown", "{account:?}");
    }
}
