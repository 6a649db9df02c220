//! `dinnerbell campaign send`: makes a valid campaign and puts it on the campaigns topic, as a restaurant's app would.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::cli::{ConfigFile, Failure, Json, output, time};
use dinnerbell_config::{Kafka, Role};
use dinnerbell_core::model::input::{DecodedRecord, decode};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_kafka::client;
use dinnerbell_kafka::client::ClientEvents;

/// How long a delivery is waited for, a broker that is away included.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// After this long the user is told what is waited for.
const NOTICE: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  dinnerbell campaign send --restaurant 123e4567-e89b-12d3-a456-426614174000 \\
      --content 'Fig tart, 70% off until 14:00' --end +2h \\
      --owner 'Ivanov Ivan' --contact iiivanov@restaurant.ru
  dinnerbell campaign send --file samples/campaign.json --key first_message
  jq -c .offer order.json | dinnerbell campaign send --file -";

/// Make a campaign from flags or a file and put it on the campaigns topic
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The restaurant's id
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    restaurant: Option<String>,
    /// The text of the offer
    #[arg(long, value_name = "TEXT", required_unless_present = "file")]
    content: Option<String>,
    /// Who answers for it
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    owner: Option<String>,
    /// How to reach them
    #[arg(long, value_name = "CONTACT", required_unless_present = "file")]
    contact: Option<String>,
    /// When it begins: now, RFC 3339, epoch seconds, or from now, as +10m
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    start: String,
    /// When it ends: RFC 3339, epoch seconds, or from its start, as +2h
    #[arg(long, value_name = "TIME", default_value = "+2h", allow_hyphen_values = true)]
    end: String,
    /// The campaign's id; that of a campaign already sent updates it [default: a new UUID]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Send this file (- is standard input) as it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["restaurant", "content", "owner", "contact", "start", "end", "id"])]
    file: Option<PathBuf>,
    /// The key of the message [default: the campaign's id, so that all its versions take one lane]
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

/// A campaign as it travels, its fields in the order of the input.
#[derive(Debug, Serialize)]
struct Value<'a> {
    restaurant_id: &'a str,
    adv_campaign_id: &'a str,
    adv_campaign_content: &'a str,
    adv_campaign_owner: &'a str,
    adv_campaign_owner_contact: &'a str,
    adv_campaign_datetime_start: Seconds,
    adv_campaign_datetime_end: Seconds,
    datetime_created: Seconds,
}

impl Arguments {
    /// Does what is asked: all that can be wrong with the campaign or the configuration is found before anything is contacted.
    pub fn execute(self) -> Result<(), Failure> {
        let now = Seconds::new(Timestamp::now().as_second());
        let value = match &self.file {
            Some(file) => read(file)?,
            None => self.value(now)?,
        };
        let id = checked_id(&value)?;
        let config = self.config.load()?;
        let key = self.key.as_deref().unwrap_or(&id);
        let (partition, offset) = deliver(&config.kafka, key, &value)?;
        let topic = &config.kafka.topics.campaigns;
        if self.json.json {
            return output::print_json(
                &json!({ "adv_campaign_id": id, "topic": topic, "partition": partition, "offset": offset }),
            );
        }
        output::print(&format!("campaign {id} is in {topic}, partition {partition}, offset {offset}\n"))
    }

    fn value(&self, now: Seconds) -> Result<Vec<u8>, Failure> {
        let start = time::start(&self.start, now)?;
        let end = time::end(&self.end, start)?;
        let id = self.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let value = Value {
            restaurant_id: self.restaurant.as_deref().unwrap_or_default(),
            adv_campaign_id: &id,
            adv_campaign_content: self.content.as_deref().unwrap_or_default(),
            adv_campaign_owner: self.owner.as_deref().unwrap_or_default(),
            adv_campaign_owner_contact: self.contact.as_deref().unwrap_or_default(),
            adv_campaign_datetime_start: start,
            adv_campaign_datetime_end: end,
            datetime_created: now,
        };
        serde_json::to_vec(&value)
            .map_err(|error| Failure::Usage(format!("the campaign cannot be written as JSON: {error}")))
    }
}

/// The bytes of a campaign file; `-` is standard input.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| Failure::Usage(format!("cannot read the campaign from {}: {error}", file.display())))
}

/// The id of a campaign that keeps every rule, the very rules by which the service reads it.
fn checked_id(value: &[u8]) -> Result<String, Failure> {
    match decode(None, Some(value)) {
        DecodedRecord::Campaign(campaign) => Ok(campaign.adv_campaign_id),
        DecodedRecord::Cancellation { .. } => Err(Failure::Usage("the campaign is empty".to_owned())),
        DecodedRecord::DeadLetter(reason) => {
            Err(Failure::Usage(format!("this would be a dead letter, so it was not sent: {}", reason.reason)))
        }
    }
}

/// The outcome of the one message, and what librdkafka says outside of any call.
#[derive(Default)]
struct Fate {
    delivered: Mutex<Option<KafkaResult<(i32, i64)>>>,
    observer: ClientEvents,
}

impl Fate {
    fn take(&self) -> Option<KafkaResult<(i32, i64)>> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Fate {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, configured: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.observer.generate_oauth_token(configured)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }
}

impl ProducerContext for Fate {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let fate = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        *self.delivered.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
    }
}

/// Puts one message on the campaigns topic, partitioned by its key as the Java client does it, and waits for its delivery.
fn deliver(kafka: &Kafka, key: &str, value: &[u8]) -> Result<(i32, i64), Failure> {
    let topic = &kafka.topics.campaigns;
    let doing = format!("sending to topic {topic}");
    let settings = client::settings(
        kafka,
        Role::Producer,
        "send",
        &[("linger.ms", "0"), ("topic.metadata.propagation.max.ms", "5000")],
        &[
            ("enable.idempotence", "true"),
            ("partitioner", "murmur2_random"),
            ("message.timeout.ms", &TIME_LIMIT.as_millis().to_string()),
        ],
    );
    let fate = Fate { observer: ClientEvents::of(kafka), ..Fate::default() };
    let observer = fate.observer.clone();
    let failed = |error: &KafkaError| Failure::Failed(observer.explain(&doing, error).to_string());
    let producer: BaseProducer<Fate> = settings.create_with_context(fate).map_err(|error| failed(&error))?;
    producer.send(BaseRecord::to(topic).key(key).payload(value)).map_err(|(error, _)| failed(&error))?;
    // The delivery has its own time-out: this one is for a librdkafka that forgets it.
    let (begun, mut told) = (Instant::now(), false);
    while begun.elapsed() < TIME_LIMIT + Duration::from_secs(5) {
        producer.poll(Duration::from_millis(100));
        match (producer.context().take(), observer.refused(&doing)) {
            (Some(Ok(place)), _) => return Ok(place),
            (Some(Err(error)), _) => return Err(failed(&error)),
            (None, Some(refused)) => return Err(Failure::Failed(refused.to_string())),
            (None, None) if begun.elapsed() > NOTICE && !told => {
                told = true;
                tracing::info!("waiting for kafka at {}, at most {} s", kafka.bootstrap_servers, TIME_LIMIT.as_secs());
            }
            (None, None) => {}
        }
    }
    Err(failed(&KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)))
}
