//! Who favours what in the demo, and what is rung.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use serde_json::json;
use tokio_postgres::types::Type;

use dinnerbell_config as config;
use dinnerbell_config::Role;
use dinnerbell_kafka::client::{ClientEvents, REQUEST_TIMEOUT, settings};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;

/// How long one of the first campaigns lasts.
const LASTS: i64 = 2 * 60 * 60;
/// How long one of those lasts that are rung afterwards: then it can be seen how a campaign ends.
const LASTS_AFTERWARDS: i64 = 90;
/// How soon the one starts that has not started when it is rung.
const LATER: i64 = 5;
/// How long a delivery may take.
const DELIVERY: Duration = Duration::from_secs(10);

/// A restaurant of the demo.
#[derive(Debug)]
pub struct Restaurant {
    /// Its id, as the tables hold it.
    pub id: &'static str,
    /// How many users favour it; one of them twice.
    pub favourites: u32,
    /// What it offers; also names the campaign.
    offer: &'static str,
    /// Whether its campaign starts in a while.
    later: bool,
}

/// All of them, from a handful of favourites to many. The in-process broker holds 5 MB a partition: these are a tenth of that.
pub const RESTAURANTS: [Restaurant; 4] = [
    Restaurant { id: "corner-deli", favourites: 3, offer: "fig-tart", later: false },
    Restaurant { id: "pizzeria", favourites: 1_000, offer: "truffle-pizza", later: false },
    Restaurant { id: "sushi-wok", favourites: 20_000, offer: "salmon-poke", later: false },
    Restaurant { id: "night-bakery", favourites: 250, offer: "warm-bagels", later: true },
];

/// Fills the table of favourites. Everybody's first one stands there twice: they are told once.
pub async fn seed(subscribers: &Pool) -> Result<(), PostgresError> {
    let table = subscribers.table().sql();
    let insert = format!(
        "insert into {table} (client_id, restaurant_id) \
         select md5($1 || least(n, $2))::uuid::text, $1 from generate_series(1, $2 + 1) n"
    );
    for Restaurant { id, favourites, .. } in &RESTAURANTS {
        subscribers.query(&insert, &[(id, Type::TEXT), (&i64::from(*favourites), Type::INT8)]).await?;
    }
    subscribers.query(&format!("analyze {table}"), &[]).await?;
    Ok(())
}

/// What was rung: when, and to how many.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    /// When it was put on the topic, or its start if that is later.
    pub at: SystemTime,
    /// How many users there are to tell.
    pub audience: u32,
}

/// What campaigns are rung with.
pub struct Bell {
    producer: FutureProducer<ClientEvents>,
    observer: ClientEvents,
    topic: String,
}

impl Bell {
    /// Connects to the broker.
    pub async fn hang(kafka: &config::Kafka) -> Result<Self, String> {
        let observer = ClientEvents::default();
        let failed = |doing: &str, error: &KafkaError| observer.explain(doing, error).to_string();
        let settings =
            settings(kafka, Role::Producer, "bell", &[("linger.ms", "0")], &[("partitioner", "murmur2_random")]);
        let producer: FutureProducer<ClientEvents> =
            settings.create_with_context(observer.clone()).map_err(|error| failed("making the bell", &error))?;
        let topic = kafka.topics.campaigns.clone();
        let producer = warm(producer, &topic).await.map_err(|error| failed("reaching the broker", &error))?;
        Ok(Self { producer, observer, topic })
    }

    /// Rings for every restaurant, for one of them twice, and once in a way that nobody can understand. Returns the campaigns.
    pub async fn ring(&self) -> Result<BTreeMap<String, Rung>, String> {
        let (now, seconds) = now();
        let mut values = Vec::new();
        let mut rung = BTreeMap::new();
        for restaurant in &RESTAURANTS {
            let start = if restaurant.later { seconds + LATER } else { seconds };
            values.push(campaign(restaurant, restaurant.offer, (start, start + LASTS), seconds));
            let begins = UNIX_EPOCH + Duration::from_secs(start.unsigned_abs());
            rung.insert(restaurant.offer.to_owned(), Rung { at: now.max(begins), audience: restaurant.favourites });
        }
        let [first, second, ..] = &RESTAURANTS;
        values.push(campaign(first, first.offer, (seconds, seconds + LASTS), seconds));
        // The mistake that senders make most often.
        let start = seconds * 1_000;
        values.push(campaign(second, second.offer, (start, start + LASTS), seconds));
        self.send(values).await?;
        Ok(rung)
    }

    /// Rings one more campaign, each time of another restaurant. It starts in a moment, and does not last long.
    pub async fn ring_again(&self, number: usize) -> Result<(), String> {
        let restaurant = &RESTAURANTS[number % RESTAURANTS.len()];
        let (_, seconds) = now();
        let id = format!("{}-{}", restaurant.offer, number + 2);
        let start = seconds + if restaurant.later { LATER } else { 1 };
        self.send(vec![campaign(restaurant, &id, (start, start + LASTS_AFTERWARDS), seconds)]).await
    }

    async fn send(&self, values: Vec<serde_json::Value>) -> Result<(), String> {
        let Self { producer, observer, topic } = self;
        let deliveries = values.iter().map(|value| {
            let key = value["adv_campaign_id"].as_str().unwrap_or_default();
            let (key, payload) = (key.to_owned(), value.to_string());
            async move {
                let sent = producer.send(FutureRecord::to(topic).key(&key).payload(&payload), DELIVERY).await;
                sent.map(drop).map_err(|(error, _)| error)
            }
        });
        for delivered in futures_util::future::join_all(deliveries).await {
            delivered.map_err(|error| observer.explain(&format!("ringing in {topic}"), &error).to_string())?;
        }
        Ok(())
    }
}

/// The machine's clock, also in whole seconds.
fn now() -> (SystemTime, i64) {
    #[expect(clippy::disallowed_methods, reason = "a restaurant has the machine's clock")]
    let now = SystemTime::now();
    (now, now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed()))
}

/// Connects before the bell is rung: what is shown is how long a campaign takes.
async fn warm(producer: FutureProducer<ClientEvents>, topic: &str) -> KafkaResult<FutureProducer<ClientEvents>> {
    let topic = topic.to_owned();
    let warmed = tokio::task::spawn_blocking(move || {
        producer.client().fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
        Ok(producer)
    });
    warmed.await.unwrap_or(Err(KafkaError::Canceled))
}

fn campaign(restaurant: &Restaurant, id: &str, (start, end): (i64, i64), now: i64) -> serde_json::Value {
    json!({
        "restaurant_id": restaurant.id,
        "adv_campaign_id": id,
        "adv_campaign_content": format!("{}: 70% off for a short while, tell us what you think", restaurant.offer),
        "adv_campaign_owner": "dinnerbell demo",
        "adv_campaign_owner_contact": format!("{}@example.com", restaurant.id),
        "adv_campaign_datetime_start": start,
        "adv_campaign_datetime_end": end,
        "datetime_created": now,
    })
}
