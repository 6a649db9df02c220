//! `dinnerbell bench`

use clap::{Args, ValueEnum};
use tokio::sync::watch;

use super::run::stop_on_signals;
use super::{ConfigFile, Failure, Json, block_on};
use dinnerbell_bench as bench;
use dinnerbell_bench::environment::Setup;
use dinnerbell_bench::error::BenchError;
use dinnerbell_bench::steady::Load;
use dinnerbell_bench::{Plan, Scenario, catch_up, fanout, lanes, latency, mixed, peer, take_over};

const HELP: &str = "\
Examples:
  dinnerbell bench -c dinnerbell.toml
  dinnerbell bench --scenario fanout --audience 1000000 --repeat 3
  dinnerbell bench --scenario latency,mixed --rate 50 --json | jq .mixed.p99_ms";

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
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',', default_values_t = [Choice::All])]
    scenario: Vec<Choice>,
    /// How often to measure each; the median is shown, and the extremes
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// fanout: subscribers of the campaign
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [200_000, 1_000_000],
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    audience: Vec<u32>,
    /// latency, mixed: campaigns a second
    #[arg(long, value_name = "NUMBER", default_value_t = 20.0, value_parser = positive)]
    rate: f64,
    /// latency, mixed, catch-up, take-over: partitions of the campaigns topic
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
    lanes: i32,
    /// latency: for how many seconds
    #[arg(long, value_name = "NUMBER", default_value_t = 20.0, value_parser = positive)]
    seconds: f64,
    /// latency, mixed: subscribers of each campaign
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// mixed: subscribers of the large campaign
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    giant: u32,
    /// lanes: numbers of lanes
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [1, 2, 4, 8],
          value_parser = clap::value_parser!(i32).range(1..=1000))]
    lane_counts: Vec<i32>,
    /// lanes: subscribers of each of its 24 campaigns
    #[arg(long, value_name = "NUMBER", default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    lane_size: u32,
    /// catch-up: campaigns that wait
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    backlog: u32,
    /// catch-up: subscribers of each of them
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    backlog_size: u32,
    /// take-over: how often an instance comes or goes in order
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    moves: u32,
    /// take-over: how often one is killed; each takes more than 10 s
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    kills: u32,
    /// peer: subscribers of the campaign
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    peer_audience: u32,
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
    /// Small campaigns at a steady rate while a large one runs in the same lanes
    Mixed,
    /// The same work over more and more lanes
    Lanes,
    /// A backlog of small campaigns after an outage
    CatchUp,
    /// Lanes that change hands between two instances, in order and after a kill -9
    TakeOver,
    /// The same work by one simple loop, as most people would write it, and by the service
    Peer,
    /// All of them
    All,
}

impl Choice {
    const EACH: [Self; 7] =
        [Self::Fanout, Self::Latency, Self::Mixed, Self::Lanes, Self::CatchUp, Self::TakeOver, Self::Peer];
}

impl Arguments {
    /// Measures. The first signal clears away and ends, the second ends at once.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let plan = self.plan();
        let report = block_on(async {
            let (stop, mut stopped) = watch::channel(false);
            tokio::select! {
                biased;
                ended = bench::run(config, &plan, &mut stopped) => ended.map_err(Failure::from),
                failure = stop_on_signals(&stop) => Err(failure),
            }
        })?;
        self.json.print(&report, |report| report.text())
    }

    fn plan(&self) -> Plan {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let setup = Setup {
            file: self.config.file.clone(),
            prefix: self.prefix.clone().unwrap_or_else(|| format!("dinnerbell-bench-{}", &random[..8])),
            database: self.database.clone(),
            partitions: self.partitions,
        };
        let wanted = |choice: &Choice| self.scenario.contains(choice) || self.scenario.contains(&Choice::All);
        let scenarios = Choice::EACH.into_iter().filter(wanted).filter_map(|choice| self.scenario(choice)).collect();
        Plan { setup, scenarios, repeat: self.repeat }
    }

    fn scenario(&self, choice: Choice) -> Option<Scenario> {
        let Self { repeat, rate, lanes, seconds, size, giant, moves, kills, .. } = *self;
        let load = Load { rate, lanes, size };
        let audiences = || self.audience.iter().map(|audience| *audience as usize).collect();
        Some(match choice {
            Choice::Fanout => Scenario::FanOut(fanout::Params { audiences: audiences(), repeat }),
            Choice::Latency => Scenario::Latency(latency::Params { load, seconds, repeat }),
            Choice::Mixed => Scenario::Mixed(mixed::Params { load, giant, repeat }),
            Choice::Lanes => {
                let (counts, size) = (self.lane_counts.clone(), self.lane_size as usize);
                Scenario::Lanes(lanes::Params { counts, size, repeat })
            }
            Choice::CatchUp => {
                let (backlog, size) = (self.backlog as usize, self.backlog_size);
                Scenario::CatchUp(catch_up::Params { backlog, size, lanes, repeat })
            }
            Choice::TakeOver => Scenario::TakeOver(take_over::Params { lanes, moves, kills }),
            Choice::Peer => Scenario::Peer(peer::Params { audience: self.peer_audience as usize, repeat }),
            Choice::All => return None,
        })
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
