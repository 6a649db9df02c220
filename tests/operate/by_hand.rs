//! States of ledger, table and topic that are made by hand: no service is involved.

use std::fmt::Write;
use std::process::Output;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

use crate::support::{Campaign, Setting, Stage};

/// The ledger that the hand-made marks name.
pub const LEDGER: &str = "00000000-0000-0000-0000-000000000001";

/// A stage with a claimed ledger and lane 0, of which rounds 1 and up are made by hand.
pub struct ByHand {
    pub stage: Stage,
    pub campaign: Campaign,
}

impl ByHand {
    /// One campaign that runs, and nothing told.
    pub fn new() -> Self {
        Self::with_lanes(1)
    }

    /// The same, with more lanes, which have told nothing.
    pub fn with_lanes(lanes: i32) -> Self {
        let stage = Stage::with(Setting { lanes, notification_partitions: 2, ..Setting::default() });
        stage.migrate();
        let campaign = Campaign::now("offer", "pizzeria");
        let by_hand = Self { stage, campaign };
        let Stage { group, campaigns, notifications, kafka, .. } = &by_hand.stage;
        let client: BaseConsumer = kafka.client().create().expect("the settings are right");
        let cluster = client.client().fetch_cluster_id(Duration::from_secs(30)).expect("the broker answers");
        by_hand.execute(&format!(
            "insert into dinnerbell.service (ledger, cluster_id, group_id, campaigns_topic, notifications_topic)
             values ('{LEDGER}', '{cluster}', '{group}', '{campaigns}', '{notifications}');
             insert into dinnerbell.lane (lane, lock_key, position, published_seq) select n, 4711 + n, 0, 0 from generate_series(0, {lanes} - 1) n;
             insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created)
             select lane, 0, 0, 0, 0, 0 from dinnerbell.lane;"
        ));
        by_hand.receive(&by_hand.campaign);
        by_hand
    }

    /// The ledger knows a campaign.
    pub fn receive(&self, campaign: &Campaign) {
        let Campaign { restaurant_id, adv_campaign_id, adv_campaign_content, .. } = campaign;
        self.execute(&format!(
            "insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created)
             values ('{adv_campaign_id}', 0, 'active', '{restaurant_id}', $${adv_campaign_content}$$, '{}', '{}', {}, {}, {})",
            campaign.adv_campaign_owner,
            campaign.adv_campaign_owner_contact,
            campaign.adv_campaign_datetime_start,
            campaign.adv_campaign_datetime_end,
            campaign.datetime_created
        ));
    }

    /// Round `seq` is recorded, with a page of these clients, in order; the rows are inserted.
    pub fn record(&self, seq: i64, clients: &[&str]) {
        let (id, now) = (&self.campaign.adv_campaign_id, self.formed());
        let cursor = clients.last().expect("a page has clients");
        self.execute(&format!(
            "insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created)
             values (0, {seq}, {}, {drafts}, 0, {now});
             insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, after_client, upto_client,
             last_page, drafts, checksum)
             select 0, {seq}, 0, adv_campaign_id, 1, true, cursor, '{cursor}', false, {drafts}, 0 from dinnerbell.campaign
             where adv_campaign_id = '{id}';
             update dinnerbell.campaign set cursor = '{cursor}', told = told + {drafts} where adv_campaign_id = '{id}';
             update dinnerbell.lane set seq = {seq}, published_seq = {seq} - 1 where lane = 0;",
            100 + seq,
            drafts = clients.len(),
        ));
        for client in clients {
            self.row(&self.campaign, client);
        }
    }

    /// Round `seq` is recorded, with a page of so many clients; the rows are inserted.
    pub fn record_many(&self, seq: i64, clients: usize) {
        let last = format!("{clients:07}");
        self.record(seq, &[&last]);
        let id = &self.campaign.adv_campaign_id;
        self.execute(&format!(
            "update dinnerbell.round set drafts = {clients} where seq = {seq};
             update dinnerbell.round_part set drafts = {clients} where seq = {seq};
             update dinnerbell.campaign set told = told + {clients} - 1 where adv_campaign_id = '{id}';
             insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id,
             trigger_datetime_created) select restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, to_char(n, 'FM0000000'),
             trigger_datetime_created from public.subscribers_feedback, generate_series(1, {clients} - 1) n where client_id = '{last}'"
        ));
    }

    /// Round `seq` is published: its messages and its mark are in Kafka, and the ledger knows.
    pub fn publish(&self, seq: i64, clients: &[&str]) {
        for client in clients {
            self.message(&self.campaign, client, Some(seq));
        }
        self.mark(seq, 0, 100 + seq);
        self.execute(&format!("update dinnerbell.lane set published_seq = {seq} where lane = 0"));
    }

    /// The mark of a round, as the group's committed metadata.
    pub fn mark(&self, seq: i64, revision: i32, checksum: i64) {
        let mark = format!("dinnerbell/1 {} {seq} {revision} {checksum:016x}", LEDGER.replace('-', ""));
        self.stage.kafka.commit(&self.stage.group, &self.stage.campaigns, 0, 0, &mark);
    }

    /// A feedback row; its id.
    pub fn row(&self, campaign: &Campaign, client: &str) -> i64 {
        let Campaign { restaurant_id, adv_campaign_id, adv_campaign_content, .. } = campaign;
        self.stage.feedback.number(&format!(
            "insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id,
             trigger_datetime_created) values ('{restaurant_id}', '{adv_campaign_id}', $${adv_campaign_content}$$, '{}', '{}', {}, {}, {},
             '{client}', {}) returning id",
            campaign.adv_campaign_owner,
            campaign.adv_campaign_owner_contact,
            campaign.adv_campaign_datetime_start,
            campaign.adv_campaign_datetime_end,
            campaign.datetime_created,
            self.formed()
        ))
    }

    /// A message; its partition and offset. Without a round it has no header of ours.
    pub fn message(&self, campaign: &Campaign, client: &str, seq: Option<i64>) -> (i32, i64) {
        self.message_to(None, &self.stage.group, campaign, client, seq)
    }

    /// The same, in this partition, by the service of this group.
    pub fn message_to(
        &self,
        partition: Option<i32>,
        group: &str,
        campaign: &Campaign,
        client: &str,
        seq: Option<i64>,
    ) -> (i32, i64) {
        let named = seq.map(|seq| {
            let round = format!("{}/0/{seq}", self.stage.campaigns);
            [("ce_source", format!("/dinnerbell/{group}")), ("dinnerbell_round", round)]
        });
        let headers: Vec<(&str, &[u8])> =
            named.iter().flatten().map(|(name, value)| (*name, value.as_bytes())).collect();
        let value = self.value(campaign, client).to_string();
        let topic = &self.stage.notifications;
        self.stage.kafka.produce(topic, partition, Some(client.as_bytes()), Some(value.as_bytes()), &headers)
    }

    fn value(&self, campaign: &Campaign, client: &str) -> Value {
        let mut value: Value = serde_json::to_value(campaign).expect("a campaign is JSON");
        value["client_id"] = json!(client);
        value["trigger_datetime_created"] = json!(self.formed());
        value
    }

    /// When all drafts were formed.
    pub fn formed(&self) -> i64 {
        self.campaign.datetime_created + 100
    }

    pub fn execute(&self, sql: &str) {
        self.stage.feedback.execute(sql);
    }

    /// The clients that have a row, in order.
    pub fn clients(&self) -> Vec<String> {
        let rows = self.stage.feedback.query("select client_id from public.subscribers_feedback order by client_id");
        rows.iter().map(|row| row["client_id"].as_str().expect("ids are text").to_owned()).collect()
    }

    /// The lane's row.
    pub fn lane(&self) -> Value {
        self.stage.feedback.query("select * from dinnerbell.lane where lane = 0").remove(0)
    }

    /// The campaign's row.
    pub fn ledger_campaign(&self) -> Value {
        let id = &self.campaign.adv_campaign_id;
        self.stage
            .feedback
            .query(&format!("select * from dinnerbell.campaign where adv_campaign_id = '{id}'"))
            .remove(0)
    }
}

/// Runs a command with `--json`; its exit status and what it printed.
pub fn json_of(stage: &Stage, args: &[&str]) -> (i32, Value) {
    let output = stage.dinnerbell(&[args, &["--json"]].concat());
    let printed = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (status(&output), printed)
}

/// The exit status; what went wrong is shown if the test fails.
pub fn status(output: &Output) -> i32 {
    let mut shown = String::new();
    let _ = write!(shown, "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{shown}");
    output.status.code().expect("the command ended by itself")
}
