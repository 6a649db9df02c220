//! A lane's producer against a broker: times of small transactions, and what a large campaign costs.
//!
//!     cargo run --release -p dinnerbell-wire --example trial -- 127.0.0.1:9092 [drafts] [small transactions]
//!
//! It makes a topic of its own, and leaves it there.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::draft::DraftTemplate;
use dinnerbell_core::model::number::Seconds;
use dinnerbell_wire::cluster::{Cluster, ClusterSettings, MOST_IDLE};
use dinnerbell_wire::compression::Compression;
use dinnerbell_wire::connection::Connection;
use dinnerbell_wire::dial::Dial;
use dinnerbell_wire::producer::{Identity, Producer};
use dinnerbell_wire::round::{RoundEncoder, RoundFormat};
use dinnerbell_wire::security::Security;
use dinnerbell_wire::transaction::{BrokerBatches, GroupOffset, OffsetCommit, Target, Transaction, by_broker};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

type Failed = Box<dyn Error>;

const ROUND: usize = 20_000;
const SMALL: usize = 100;

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

struct Trial {
    cluster: Cluster,
    topic: String,
    template: DraftTemplate,
    clients: Vec<String>,
}

impl Trial {
    async fn begin(address: &str) -> Result<Self, Failed> {
        let topic = format!("trial-{}", std::process::id());
        let security = Security::default();
        let mut admin = Connection::open(address, "trial", &security, Dial::default(), deadline()).await?;
        let create = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.clone())))
            .with_num_partitions(3)
            .with_replication_factor(1);
        let create = CreateTopicsRequest::default().with_timeout_ms(5_000).with_topics(vec![create]);
        admin.ask("creating a topic", &create, 5, deadline()).await?;
        let clients = (0..ROUND).map(|n| format!("client-{n:08}-{:08x}", n.wrapping_mul(2_654_435_761))).collect();
        let longest_use = Duration::from_secs(60);
        let settings = ClusterSettings {
            bootstrap: vec![address.to_owned()],
            client_id: "trial".into(),
            security,
            longest_use,
            most_idle: MOST_IDLE,
            dial: Dial::default(),
        };
        Ok(Self { cluster: Cluster::new(settings), topic, template: template()?, clients })
    }

    async fn producer(&self) -> Result<Producer, Failed> {
        let identity = Identity {
            transactional_id: self.topic.clone(),
            group: self.topic.clone(),
            transaction_time: Duration::from_secs(60),
        };
        Ok(Producer::initialise(self.cluster.clone(), identity, deadline()).await?)
    }

    async fn group_offset(&self, producer: Producer) -> Result<(Producer, Option<GroupOffset>), Failed> {
        let metadata = "never seen".to_owned();
        let probe = OffsetCommit { topic: self.topic.clone(), partition: 0, offset: 0, metadata };
        Ok(Transaction::new(producer, deadline()).abort_for_group_offset(&probe).await?)
    }

    async fn publish(&self, producer: Producer, drafts: usize, n: i64) -> Result<Producer, Failed> {
        let described = self.cluster.topic(&self.topic, Duration::from_secs(10), deadline()).await?;
        let target = Target { name: self.topic.clone(), id: described.id };
        let leaders = described.leaders;
        let partitions = u32::try_from(leaders.len())?;
        let format = RoundFormat { partitions, batch_bytes: 1_000_000, compression: Compression::Lz4, time: n };
        let mut batches = Vec::new();
        let mut encoder = RoundEncoder::new(format, "promo.in/0/7");
        encoder.push(&self.template, self.clients[..drafts].iter().map(String::as_str), |batch| batches.push(batch))?;
        encoder.finish(|batch| batches.push(batch))?;
        let all = (0..i32::try_from(partitions)?).collect();
        let mut transaction = Transaction::new(producer, deadline());
        let commit =
            OffsetCommit { topic: self.topic.clone(), partition: 0, offset: n, metadata: "a round's mark".into() };
        transaction.begin(&commit, &vec![(self.topic.clone(), all)], &|| true).await?;
        let mut led = Vec::new();
        for found in batches {
            let leader = leaders[found.partition as usize].as_deref().ok_or("a partition has no leader")?;
            led.push((leader, found));
        }
        for BrokerBatches { leader, batches } in by_broker(led) {
            transaction.send_batches(&target, leader, batches).await?;
        }
        transaction.acknowledged().await?;
        Ok(transaction.commit().await?)
    }
}

fn template() -> Result<DraftTemplate, Failed> {
    let campaign = Campaign {
        restaurant_id: "123e4567-e89b-12d3-a456-426614174000".into(),
        adv_campaign_id: "123e4567-e89b-12d3-a456-426614174003".into(),
        adv_campaign_content: "First dish for free, and a glass of wine with it".into(),
        adv_campaign_owner: "Ivanov Ivan Ivanovich".into(),
        adv_campaign_owner_contact: "iiivanov@restaurant.example".into(),
        window: Window { start: Seconds::new(1_700_000_000), end: Seconds::new(1_900_003_600) },
        datetime_created: Seconds::new(1_699_999_000),
    };
    Ok(DraftTemplate::new(Arc::new(campaign), Seconds::new(1_800_000_000), "dinnerbell")?)
}

/// The processor's time of this process so far.
fn processor_time() -> Result<Duration, Failed> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().collect();
    let address = arguments.get(1).ok_or("an address of a broker is needed")?;
    let drafts: usize = arguments.get(2).map_or(Ok(1_000_000), |text| text.parse())?;
    let small: i64 = arguments.get(3).map_or(Ok(500), |text| text.parse())?;
    let trial = Trial::begin(address).await?;
    let (taken, nothing) = trial.group_offset(trial.producer().await?).await?;
    println!("transactions {:?}", taken.version());
    // A topic that has just been made may have no leaders yet.
    let mut first = trial.publish(taken, SMALL, 7).await;
    while let Err(error) = &first {
        println!("again: {error}");
        first = trial.publish(trial.producer().await?, SMALL, 7).await;
    }
    let mut producer = first?;
    let found;
    (producer, found) = trial.group_offset(producer).await?;
    println!("the group's offset before {nothing:?} and behind the first transaction {found:?}");
    let mut times = Vec::new();
    for n in 0..small {
        let began = Instant::now();
        producer = trial.publish(producer, SMALL, n).await?;
        times.push(began.elapsed());
    }
    times.sort();
    if let Some(last) = times.len().checked_sub(1) {
        println!("{SMALL} drafts: p50 {:?} p95 {:?}", times[last / 2], times[last * 95 / 100]);
    }
    let (before, began) = (processor_time()?, Instant::now());
    for n in 0..drafts / ROUND {
        producer = trial.publish(producer, ROUND, i64::try_from(n)?).await?;
    }
    println!("{drafts} drafts in {:?}, CPU {:?}", began.elapsed(), processor_time()? - before);
    Ok(())
}
