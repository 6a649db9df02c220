//! What rounds and idle lanes cost on a real Kafka: figures, no promises.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::draft::DraftBatch;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::ports::broker::{Broker, Input, Producer};

use super::{SOON, Scene, template};

/// How fast one producer publishes, in time and in this process's own processor time. With MEASURE="compression.codec=zstd ..." under other settings:
/// `cargo test --workspace --release --features fail-points --test servers -- --ignored --nocapture measure_rounds`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_rounds() {
    let mut scene = Scene::new(1);
    let settings = std::env::var("MEASURE").unwrap_or_default();
    let settings = settings.split_whitespace().filter_map(|setting| setting.split_once('='));
    scene.kafka.client = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let broker = scene.broker().await;
    let mut producer = broker.producer(Lane::new(0)).await.unwrap();
    let clients = |count: usize| -> Clients {
        let ids: Vec<String> = (0..count).map(|n| format!("{n:08}-e89b-12d3-a456-426614174000")).collect();
        ids.iter().map(String::as_str).collect()
    };
    let template = template(&scene.kafka.group_id);
    let batch = |count| DraftBatch { template: Arc::clone(&template), clients: clients(count) };
    let mut seq = 0;
    let mut small = Vec::new();
    for _ in 0..100 {
        let round = scene.round(Lane::new(0), seq, vec![batch(100)]);
        seq += 1;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let began = Instant::now();
        producer = producer.publish(&round).await.unwrap().unwrap();
        small.push(began.elapsed());
    }
    small.sort();
    println!("100 drafts: p50 {:?}, p90 {:?}", small[50], small[90]);
    let mut at_once = Vec::new();
    for _ in 0..200 {
        let round = scene.round(Lane::new(0), seq, vec![batch(100)]);
        seq += 1;
        let began = Instant::now();
        producer = producer.publish(&round).await.unwrap().unwrap();
        at_once.push(began.elapsed());
    }
    at_once.sort();
    println!(
        "100 drafts, one round right after the other: p50 {:?}, p90 {:?}, p99 {:?}",
        at_once[100], at_once[180], at_once[198]
    );
    let rounds: Vec<_> = (0..25).map(|n| scene.round(Lane::new(0), seq + n, vec![batch(20_000)])).collect();
    let (began, cpu) = (Instant::now(), processor_time());
    for round in &rounds {
        producer = producer.publish(round).await.unwrap().unwrap();
    }
    let (elapsed, cpu) = (began.elapsed(), processor_time() - cpu);
    let rate = 500_000.0 / elapsed.as_secs_f64();
    println!("500,000 drafts in rounds of 20,000: {elapsed:?}, {rate:.0} a second, {cpu:?} of processor time");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

/// What this process has used.
pub(super) fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// `cargo test --workspace --release --features fail-points --test servers -- --ignored --nocapture measure_idle`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_idle_lanes() {
    let scene = Scene::new(12);
    let broker = scene.broker().await;
    let membership = broker.join().unwrap();
    let mut held = membership.assignments();
    timeout(SOON, held.wait_for(|held| held.len() == 12)).await.unwrap().unwrap();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..12 {
        let producer = broker.producer(Lane::new(lane)).await.unwrap();
        let producer =
            producer.publish(&scene.round(Lane::new(lane), 0, vec![scene.drafts(&["anna"])])).await.unwrap().unwrap();
        let mut input = broker.open(Lane::new(lane), Offset::new(0), None).await.unwrap();
        lanes.spawn(async move { (input.next(10).await.map(drop), producer) });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = (thread_times(), processor_time());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let used = processor_time() - before.1;
    println!("12 idle lanes: {used:?} of processor time in 30 s, {:.2} % of a core", used.as_secs_f64() / 0.3);
    for (name, ticks) in thread_times() {
        let ticks = ticks - before.0.get(&name).copied().unwrap_or(0);
        if ticks > 0 {
            println!("  {name}: {ticks} ms");
        }
    }
}

/// Milliseconds that the threads of each name ran on a processor.
pub(super) fn thread_times() -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanos: u64 = read("schedstat").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        *times.entry(read("comm").trim().to_owned()).or_default() += nanos / 1_000_000;
    }
    times
}
