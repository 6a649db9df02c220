//! An instance of twelve lanes that has nothing to do, and one with ten thousand campaigns that wait for their start.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Database, Security, Service, Setting, Stage, wait_until};

const LANES: i32 = 12;
const WAITING: usize = 10_000;
/// How long is measured.
const WINDOW: Duration = Duration::from_secs(30);
/// What the takeover, and the first looks, leave behind is over by then.
const SETTLE: Duration = Duration::from_secs(10);

/// What an instance used while nothing happened.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// Of one core, in percent.
    cpu: f64,
    /// Transactions a second in the database of both tables, the measurement's own left out.
    transactions: f64,
}

impl Idle {
    fn measure(service: &Service, database: &Database) -> Self {
        std::thread::sleep(SETTLE);
        let (began, cpu, transactions) = (Instant::now(), cpu_ticks(service.pid()), transactions(database));
        std::thread::sleep(WINDOW);
        let seconds = began.elapsed().as_secs_f64();
        let cpu = (cpu_ticks(service.pid()) - cpu) as f64 / seconds;
        Self { cpu, transactions: (transactions_since(database, transactions)) / seconds }
    }
}

/// User and system time, in hundredths of a second: so a tick a second is a percent of a core.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Sessions report what they did at most once a second.
fn transactions(database: &Database) -> i64 {
    let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
    std::thread::sleep(Duration::from_millis(1_500));
    database.number(sql)
}

fn transactions_since(database: &Database, before: i64) -> f64 {
    // The first reading's own.
    (transactions(database) - before - 1) as f64
}

fn wait_until_all_run(stage: &Stage) {
    let entered = "select count(*) from dinnerbell.lane where owner is not null and published_seq is not null";
    wait_until("all lanes run", Duration::from_secs(60), || stage.feedback.number(entered) == i64::from(LANES));
}

/// Sends many campaigns to a lane at once.
fn send_all(stage: &Stage, lane: i32, campaigns: impl Iterator<Item = Campaign>) {
    let lines: String = campaigns.map(|campaign| campaign.json() + "\n").collect();
    let mut kcat = stage.kafka.kcat(Security::Plaintext);
    kcat.args(["-P", "-t", &stage.campaigns, "-p", &lane.to_string()]).stdin(Stdio::piped());
    let mut kcat = kcat.spawn().unwrap();
    kcat.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
}

#[test]
#[ignore = "takes two minutes; the machine must have nothing else to do"]
fn an_idle_instance_of_twelve_lanes_costs_next_to_nothing_and_waiting_campaigns_nothing_more() {
    let stage = Stage::with(Setting { lanes: LANES, ..Setting::default() });
    stage.migrate();
    let service = stage.start();
    wait_until_all_run(&stage);
    let idle = Idle::measure(&service, &stage.feedback);
    println!("idle: {:.2} % of a core, {:.1} transactions a second", idle.cpu, idle.transactions);
    let start = epoch_seconds() + 86_400;
    for lane in 0..LANES {
        let of_lane = (0..WAITING as i32).filter(|number| number % LANES == lane);
        let campaigns =
            of_lane.map(|number| Campaign::now(&format!("c{number}"), "nowhere").lasting(start, start + 3_600));
        send_all(&stage, lane, campaigns);
    }
    let scheduled = "select count(*) from dinnerbell.campaign where state = 'scheduled'";
    wait_until("all campaigns wait", Duration::from_secs(120), || stage.feedback.number(scheduled) == WAITING as i64);
    let waiting = Idle::measure(&service, &stage.feedback);
    println!("10,000 waiting: {:.2} % of a core, {:.1} transactions a second", waiting.cpu, waiting.transactions);
    service.stop();
    assert!(idle.cpu <= 2.0, "{idle:?}");
    assert!(waiting.transactions < idle.transactions * 1.1, "{idle:?} {waiting:?}");
    // A tick of the kernel's clock is a hundredth of a second: three of them in half a minute are noise.
    assert!(waiting.cpu < idle.cpu * 1.1 + 0.1, "{idle:?} {waiting:?}");
}
