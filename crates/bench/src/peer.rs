//! The same work as most people would write it, and the service beside it: one loop that inserts in batches and then produces.
//!
//! It is written to be fast for what it is: rows by the thousand in one statement, all messages of a batch in flight at once, the service's own
//! compression. It keeps no promise: killed, it forgets a campaign or tells some of it twice; it knows no window, and one campaign waits
//! for another.

use std::time::Duration;

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::audience::Audience;
use super::error::BenchError;
use super::fanout::{Service, service};
use super::figures::{self, Spread, rate, seconds};
use super::progress::{STANDSTILL, tell};
use super::roofline;
use crate::environment::{Ground, Stage};
use crate::sender::{Bell, campaign, warm_up};
use dinnerbell_config::Role;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::text_table::table;
use dinnerbell_kafka::client::{ClientEvents, settings};
use dinnerbell_kafka::producer::COMPRESSION;

/// Rows in one statement.
const BATCH: usize = 1_000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Subscribers of the campaign.
    pub audience: usize,
    /// How often.
    pub repeat: u32,
}

/// The peer and the service.
#[derive(Debug, Serialize)]
pub struct Peer {
    /// Subscribers of the campaign.
    pub audience: usize,
    /// Drafts a second of the peer.
    pub drafts_per_second: Spread,
    /// Drafts a second of the service.
    pub service_drafts_per_second: Spread,
    /// Throughput of the service over that of the peer, of each pair.
    pub ratio: Spread,
    /// Each pair.
    pub runs: Vec<PeerRun>,
}

/// One pair, one directly after the other.
#[derive(Debug, Serialize)]
pub struct PeerRun {
    /// What the peer took, from the append of the campaign until its last message was acknowledged.
    pub seconds: f64,
    /// Drafts a second of the peer.
    pub drafts_per_second: f64,
    /// The service.
    pub service: Service,
    /// Throughput of the service over that of the peer.
    pub ratio: f64,
}

/// As often as is wished.
pub async fn measure(ground: &Ground<'_>, wish: Params) -> Result<Peer, BenchError> {
    let mut runs = Vec::new();
    for number in 1..=wish.repeat {
        tell(&format!("the peer to {}, pair {number} of {}", wish.audience, wish.repeat));
        runs.push(once(ground, wish.audience, number).await?);
    }
    Ok(Peer::of(wish.audience, runs))
}

async fn once(ground: &Ground<'_>, subscribers: usize, number: u32) -> Result<PeerRun, BenchError> {
    let audience = Audience::of(subscribers);
    ground.room_for(subscribers).await?;
    let stage = ground.stage(1).await?;
    stage.seed(&audience).await?;
    // What comes second finds other servers than what came first, so they take turns.
    let (took, service) = if number % 2 == 1 {
        let took = peer(&stage, &audience).await?;
        (took, service(&stage, &audience).await?)
    } else {
        let service = service(&stage, &audience).await?;
        (peer(&stage, &audience).await?, service)
    };
    stage.end().await?;
    Ok(PeerRun::of(subscribers, took, service))
}

/// Runs it beside the stage: in a group and topics of its own, with the table of the roofline.
async fn peer(stage: &Stage<'_>, audience: &Audience) -> Result<Duration, BenchError> {
    let mut kafka = stage.config.kafka.clone();
    kafka.group_id.push_str(".peer");
    kafka.topics.campaigns = format!("{}.in", kafka.group_id);
    kafka.topics.notifications = format!("{}.out", kafka.group_id);
    stage.ground().make_topic(&kafka.topics.campaigns, 1).await?;
    stage.ground().make_topic(&kafka.topics.notifications, stage.partitions()).await?;
    stage.ground().will_make_group(&kafka.group_id);
    let observer = ClientEvents::of(&kafka);
    let promises = [("group.id", kafka.group_id.as_str()), ("auto.offset.reset", "earliest")];
    let consumer: StreamConsumer<ClientEvents> = settings(&kafka, Role::Consumer, "bench-peer", &[], &promises)
        .create_with_context(observer.clone())
        .map_err(|error| observer.explain("making the peer's consumer", &error))?;
    let producer = settings(&kafka, Role::Producer, "bench-peer", &[("compression.codec", COMPRESSION)], &[])
        .create_with_context(observer.clone())
        .map_err(|error| observer.explain("making the peer's producer", &error))?;
    consumer.subscribe(&[&kafka.topics.campaigns]).map_err(|error| observer.explain("subscribing", &error))?;
    let bell = Bell::new(&kafka)?;
    let connection = stage.pool.get().await?;
    let table = [stage.config.subscribers.table.sql(), stage.ground().roofline()];
    let peer = Simple { consumer, producer, database: connection.client(), table, topic: &kafka.topics.notifications };
    // Its first campaign finds it warm, as the service's does.
    bell.ring(&warm_up(0), Lane::new(0)).await?;
    peer.handle_next().await?;
    let began = Instant::now();
    bell.ring(&campaign("peer", &audience.restaurant), Lane::new(0)).await?;
    let told = peer.handle_next().await?;
    let took = began.elapsed();
    drop(peer);
    connection.release();
    if told != audience.subscribers {
        let wanted = audience.subscribers;
        return Err(BenchError::Failed(format!("the peer told {told} of {wanted}: nothing that was measured counts")));
    }
    stage.ground().drop_topics(&[&kafka.topics.campaigns, &kafka.topics.notifications]).await?;
    stage.ground().drop_group(&kafka.group_id).await?;
    roofline::empty(stage).await?;
    Ok(took)
}

/// A campaign, and with a client a draft.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Draft {
    restaurant_id: String,
    adv_campaign_id: String,
    adv_campaign_content: String,
    adv_campaign_owner: String,
    adv_campaign_owner_contact: String,
    adv_campaign_datetime_start: i64,
    adv_campaign_datetime_end: i64,
    #[serde(default)]
    client_id: String,
    datetime_created: i64,
    #[serde(default)]
    trigger_datetime_created: i32,
}

/// The loop's belongings.
struct Simple<'a> {
    consumer: StreamConsumer<ClientEvents>,
    producer: FutureProducer<ClientEvents>,
    database: &'a Client,
    /// Of the subscribers, and of the feedback.
    table: [String; 2],
    topic: &'a str,
}

impl Simple<'_> {
    /// Receives a campaign and tells everyone. Returns how many.
    async fn handle_next(&self) -> Result<usize, BenchError> {
        let message = timeout(STANDSTILL, self.consumer.recv()).await;
        let message = message.map_err(|_| failed("nothing was received"))?.map_err(|error| failed(&error))?;
        let mut draft: Draft =
            serde_json::from_slice(message.payload().unwrap_or_default()).map_err(|error| failed(&error))?;
        draft.trigger_datetime_created = i32::try_from(jiff::Timestamp::now().as_second()).unwrap_or(i32::MAX);
        let [subscribers, _] = &self.table;
        let select = format!("select distinct client_id::text from {subscribers} where restaurant_id = $1");
        let rows = self.database.query(&select, &[&draft.restaurant_id]).await.map_err(|error| failed(&error))?;
        let clients: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for batch in clients.chunks(BATCH) {
            self.insert(&draft, batch).await?;
            self.produce(&mut draft, batch).await?;
        }
        Ok(clients.len())
    }

    async fn insert(&self, draft: &Draft, clients: &[String]) -> Result<(), BenchError> {
        let [_, feedback] = &self.table;
        let insert = format!(
            "insert into {feedback} (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, \
             adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, trigger_datetime_created, client_id) \
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, client_id from unnest($10::text[]) client_id on conflict do nothing"
        );
        let parameters: [&(dyn ToSql + Sync); 10] = [
            &draft.restaurant_id,
            &draft.adv_campaign_id,
            &draft.adv_campaign_content,
            &draft.adv_campaign_owner,
            &draft.adv_campaign_owner_contact,
            &draft.adv_campaign_datetime_start,
            &draft.adv_campaign_datetime_end,
            &draft.datetime_created,
            &draft.trigger_datetime_created,
            &clients,
        ];
        let inserted = self.database.execute(&insert, &parameters);
        inserted.await.map(drop).map_err(|error| failed(&error))
    }

    async fn produce(&self, draft: &mut Draft, clients: &[String]) -> Result<(), BenchError> {
        let mut deliveries = Vec::with_capacity(clients.len());
        for client in clients {
            draft.client_id.clone_from(client);
            let value = serde_json::to_vec(&draft).map_err(|error| failed(&error))?;
            let record = FutureRecord::to(self.topic).key(client).payload(&value);
            deliveries.push(self.producer.send_result(record).map_err(|(error, _)| failed(&error))?);
        }
        for delivery in deliveries {
            let delivered = delivery.await.map_err(|_| failed("the producer ended"))?;
            delivered.map_err(|(error, _)| failed(&error))?;
        }
        Ok(())
    }
}

fn failed(why: &(impl std::fmt::Display + ?Sized)) -> BenchError {
    BenchError::Failed(format!("the peer: {why}"))
}

impl PeerRun {
    fn of(audience: usize, took: Duration, service: Service) -> Self {
        let seconds = took.as_secs_f64();
        let ratio = seconds / service.seconds;
        Self { seconds, drafts_per_second: audience as f64 / seconds, service, ratio }
    }
}

impl Peer {
    fn of(audience: usize, runs: Vec<PeerRun>) -> Self {
        Self {
            audience,
            drafts_per_second: Spread::of(runs.iter().map(|run| run.drafts_per_second)),
            service_drafts_per_second: Spread::of(runs.iter().map(|run| run.service.drafts_per_second)),
            ratio: Spread::of(runs.iter().map(|run| run.ratio)),
            runs,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "\npeer: one campaign to {}, by one loop that inserts {BATCH} rows at a time and then produces them, and by the service\n\n",
            self.audience
        );
        let rows = self.runs.iter().map(|run| {
            [
                seconds(run.seconds),
                rate(run.drafts_per_second),
                seconds(run.service.seconds),
                rate(run.service.drafts_per_second),
                figures::ratio(run.ratio),
            ]
        });
        text.push_str(&table(["PEER", "DRAFTS/S", "SERVICE", "DRAFTS/S", "TIMES AS FAST"], rows));
        text.push_str(&format!("\nthe service is {} times as fast\n", self.ratio.show(figures::ratio)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_of_the_peer_has_the_fields_of_the_output() {
        let sample: Draft = serde_json::from_str(include_str!("../../../samples/campaign.json")).unwrap();
        let draft = serde_json::to_value(Draft { client_id: "c".to_owned(), ..sample }).unwrap();
        let fields: Vec<&str> = dinnerbell_core::model::draft::FEEDBACK_COLUMNS.split(',').map(str::trim).collect();
        assert!(fields.iter().all(|field| draft.get(field).is_some()), "{draft}");
    }
}
