//! Who is told what: the subscribers' restaurants, and the campaigns that are rung for them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::audience::Audience;
use super::error::BenchError;
use dinnerbell_config as config;
use dinnerbell_config::Role;
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::input::encode;
use dinnerbell_core::model::number::{Lane, Seconds};
use dinnerbell_kafka::client::{ClientEvents, settings};

/// How long a campaign lasts.
const LASTS: i64 = 2 * 60 * 60;
/// About as long as what people write: a message of some 450 bytes.
const CONTENT: &str =
    "A dish that is not on the menu, 70% off until two o'clock: come and try it, tell us what you think";
/// How long the delivery of a campaign may take.
const DELIVERY: Duration = Duration::from_secs(30);

/// A campaign that has just begun.
pub fn campaign(id: &str, restaurant: &str) -> Campaign {
    #[expect(clippy::disallowed_methods, reason = "a restaurant has the machine's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let now = Seconds::new(now);
    Campaign {
        restaurant_id: restaurant.to_owned(),
        adv_campaign_id: id.to_owned(),
        adv_campaign_content: CONTENT.to_owned(),
        adv_campaign_owner: "dinnerbell bench".to_owned(),
        adv_campaign_owner_contact: "bench@restaurant.example".to_owned(),
        // Clocks may differ a little.
        window: Window { start: now - 60, end: now + LASTS },
        datetime_created: now - 60,
    }
}

/// Puts campaigns on a topic.
pub struct Bell {
    topic: String,
    producer: FutureProducer<ClientEvents>,
    observer: ClientEvents,
}

impl Bell {
    /// A bell for the campaigns topic of this configuration.
    pub fn new(kafka: &config::Kafka) -> Result<Self, BenchError> {
        let observer = ClientEvents::of(kafka);
        let timeout = DELIVERY.as_millis().to_string();
        let promises = [("acks", "all"), ("message.timeout.ms", timeout.as_str())];
        let producer = settings(kafka, Role::Producer, "bench-bell", &[("linger.ms", "0")], &promises)
            .create_with_context(observer.clone())
            .map_err(|error| observer.explain("making the bell", &error))?;
        Ok(Self { topic: kafka.topics.campaigns.clone(), producer, observer })
    }

    /// Hands a campaign over for a lane; the delivery is still to be waited for.
    pub fn send(&self, campaign: &Campaign, lane: Lane) -> Result<DeliveryFuture, BenchError> {
        let value = encode(campaign);
        let record = FutureRecord::to(&self.topic).key(&campaign.adv_campaign_id).payload(&value).partition(lane.get());
        self.producer.send_result(record).map_err(|(error, _)| self.failed(&error))
    }

    /// Waits until it is delivered.
    pub async fn delivered(&self, delivery: DeliveryFuture) -> Result<(), BenchError> {
        match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(self.failed(&error)),
            Err(_) => Err(BenchError::Failed(format!("ringing in {}: the producer ended", self.topic))),
        }
    }

    /// Rings, and waits until the campaign is delivered.
    pub async fn ring(&self, campaign: &Campaign, lane: Lane) -> Result<(), BenchError> {
        self.delivered(self.send(campaign, lane)?).await
    }

    fn failed(&self, error: &rdkafka::error::KafkaError) -> BenchError {
        self.observer.explain(&format!("ringing in {}", self.topic), error).into()
    }
}

/// A campaign that warms an instance up before anything is measured.
pub fn warm_up(number: usize) -> Campaign {
    campaign(&format!("warm-up-{number}"), &Audience::warm_up().restaurant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::model::input::{DecodedRecord, decode};

    #[test]
    fn what_is_rung_is_a_campaign_by_the_services_own_rules() {
        let rung = campaign("bench-1", "audience-1000");
        assert_eq!(decode(None, Some(&encode(&rung))), DecodedRecord::Campaign(rung));
    }
}
