//! `dinnerbell bench`

use clap::{Args, ValueEnum};
use tokio::sync::watch;

use super::run::stop_on_signals;
use super::{ConfigFile, Failure, Json, output, runtime};
use crate::bench::latency::Load;
use crate::bench::{self, BenchError, Plan, Scenario};

const HELP: &str = "\
Examples:
  dinnerbell bench -c dinnerbell.toml
  dinnerbell bench --scenario fanout --audience 1000000 --repeat 3
  dinnerbell bench --scenario latency --rate 50 --seconds 60 --json | jq .latency.p99_ms";

/// Measure what these servers can take, and the service against them
///
/// Runs against the servers of the configuration, in topics and a database of its own, which it drops at the end. The roofline is all the work
/// there is, without the service: one COPY of the same rows into an equal table, and one plain producer of the same messages, both at
/// the same time. The service runs as a process of its own, configured as yours is. Everything, the audience too, is in the feedback's server.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// What to measure
    #[arg(long, value_enum, default_value_t = Choice::All)]
    scenario: Choice,
    /// How often to measure each; the median is shown, and the extremes
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// fanout: subscribers of the campaign
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [200_000, 1_000_000],
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    audience: Vec<u32>,
    /// latency: campaigns a second
    #[arg(long, value_name = "NUMBER", default_value_t = 20.0, value_parser = positive)]
    rate: f64,
    /// latency: partitions of the campaigns topic
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
    lanes: i32,
    /// latency: for how many seconds
    #[arg(long, value_name = "NUMBER", default_value_t = 20.0, value_parser = positive)]
    seconds: f64,
    /// latency: subscribers of each campaign
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// Partitions of the topic of drafts
    #[arg(long, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Use this empty database of the feedback's server, instead of making one
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// What the names of topics, groups and the database begin with [default: dinnerbell-bench- and a random number]
    #[arg(long, value_name = "NAME", value_parser = prefix)]
    prefix: Option<String>,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// One campaign with a large audience, against the roofline
    Fanout,
    /// Small campaigns at a steady rate
    Latency,
    /// All of them
    All,
}

impl Arguments {
    /// Measures. The first signal clears away and ends, the second ends at once.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let plan = self.plan();
        let runtime = runtime()?;
        let ended = runtime.block_on(async {
            let (stop, mut stopped) = watch::channel(false);
            tokio::select! {
                biased;
                ended = bench::run(config, &plan, &mut stopped) => ended.map_err(Failure::from),
                failure = stop_on_signals(&stop) => Err(failure),
            }
        });
        // Threads that librdkafka blocks must not hold up the end.
        runtime.shutdown_background();
        let report = ended?;
        match self.json.json {
            true => output::print_json(&report),
            false => output::print(&report.text(&plan)),
        }
    }

    fn plan(&self) -> Plan {
        let Self { rate, lanes, seconds, size, .. } = *self;
        let scenarios = match self.scenario {
            Choice::Fanout => vec![Scenario::Fanout],
            Choice::Latency => vec![Scenario::Latency],
            Choice::All => vec![Scenario::Fanout, Scenario::Latency],
        };
        let random = uuid::Uuid::new_v4().simple().to_string();
        Plan {
            file: self.config.file.clone(),
            scenarios,
            repeat: self.repeat,
            partitions: self.partitions,
            prefix: self.prefix.clone().unwrap_or_else(|| format!("dinnerbell-bench-{}", &random[..8])),
            database: self.database.clone(),
            audiences: self.audience.iter().map(|audience| *audience as usize).collect(),
            latency: Load { rate, lanes, seconds, size },
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.01..=100_000.0).contains(number));
    number.ok_or_else(|| "must be a number between 0.01 and 100000".to_owned())
}

/// Something that topics, groups and databases may all be called.
fn prefix(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let valid = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 48 && text.chars().all(fits);
    let wrong = "must begin with a lower-case letter and hold at most 48 lower-case letters, digits, - and _";
    valid.then(|| text.to_owned()).ok_or_else(|| wrong.to_owned())
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        Self::Failed(error.to_string())
    }
}
