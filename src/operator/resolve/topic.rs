//! Reads the output topic, once for all lanes that are put back from it.

use std::collections::{BTreeMap, HashMap};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use crate::operator::resolve::case::Case;
use crate::operator::resolve::outcome::ResolveError;
use crate::operator::resolve::spool::Spool;
use dinnerbell_config::Config;
use dinnerbell_core::model::number::{Lane, Seconds, Seq};
use dinnerbell_core::ports::broker::{Broker, BrokerError};
use dinnerbell_core::recovery::found;
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::notifications::{Extent, Found, Notifications, Offsets, Ours, Whose};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::output_topics;
use dinnerbell_postgres::ledger::resolve::without_row;
use dinnerbell_postgres::ledger::snapshot::Snapshot;

/// Drafts that are looked up in one statement.
const BATCH: usize = 1_000;
/// Batches that wait for the database while the topic is read on.
const BATCHES: usize = 2;

/// What reading the topic gave.
pub(super) struct Scanned {
    pub(super) newest: Seq,
    pub(super) messages: u64,
    pub(super) told: u64,
    /// Of the ledger's last round, those without a message, by campaign.
    pub(super) untold: BTreeMap<String, Vec<String>>,
    pub(super) missing: Spool,
}

/// Clients of the lanes' last rounds, each with its lane and campaign, by the draft's key.
type Clients = HashMap<u128, (Lane, String, String)>;

/// What reading the topic needs.
pub(super) struct Topic<'a> {
    pub(super) config: &'a Config,
    pub(super) pool: &'a Pool,
    pub(super) broker: &'a KafkaBroker,
    /// Messages of drafts formed earlier are not read.
    pub(super) since: Option<Seconds>,
    pub(super) progress: &'a ProgressBar,
}

impl Topic<'_> {
    /// What the topic holds of each lane, in the lanes' order; says in each case whether the topic tells everything about it.
    pub(super) async fn read(&self, cases: &mut [Case]) -> Result<Vec<Scanned>, ResolveError> {
        let (notifications, extent) = self.open_notifications().await?;
        let clients = self.clients(cases).await?;
        let (notifications, from) = self.beginning(notifications, &extent, cases, &clients).await?;
        self.scan(notifications, from, extent.high, cases, clients).await
    }

    async fn open_notifications(&self) -> Result<(Notifications, Extent), ResolveError> {
        let kafka = self.config.kafka.clone();
        off_runtime(move || {
            let notifications = Notifications::open(&kafka)?;
            let extent = notifications.extent()?;
            Ok((notifications, extent))
        })
        .await
    }

    /// Who is told by the last rounds of lanes whose ledger does not know them to be published.
    async fn clients(&self, cases: &[Case]) -> Result<Clients, ResolveError> {
        let snapshot = Snapshot::take(self.pool).await?;
        let mut clients = Clients::new();
        for Case { lane, lane_row, .. } in cases.iter().filter(|case| case.is_unsure()) {
            let insert = |campaign: &str, client: &str| {
                clients.insert(found::key(campaign, client), (*lane, campaign.to_owned(), client.to_owned()));
                Ok::<_, PostgresError>(())
            };
            snapshot.round(*lane, lane_row.head.seq, insert).await?;
        }
        snapshot.release().await?;
        Ok(clients)
    }

    /// Where to begin to read, and for each lane whether the topic holds everything since its last round was formed.
    async fn beginning(
        &self,
        notifications: Notifications,
        extent: &Extent,
        cases: &mut [Case],
        clients: &Clients,
    ) -> Result<(Notifications, Offsets), ResolveError> {
        let formed: Vec<Seconds> = cases.iter().map(|case| case.lane_row.trigger_datetime_created).collect();
        let needs = |case: &&Case| case.is_unsure() && clients.values().any(|(lane, ..)| *lane == case.lane);
        let earliest = cases.iter().filter(needs).map(|case| case.lane_row.trigger_datetime_created).min();
        if let (Some(since), Some(formed)) = (self.since, earliest)
            && since > formed
        {
            return Err(ResolveError::Refused(format!(
                "--since {since} is later than {formed}, when the ledger's last round was formed: begin there or earlier"
            )));
        }
        let (extent, since) = (extent.clone(), self.since);
        let (notifications, covered, from) = off_runtime(move || {
            let covered = formed.iter().map(|formed| {
                Ok::<_, BrokerError>(extent.uncovered(&notifications.beginning(&extent, Some(*formed))?).is_empty())
            });
            let covered: Vec<bool> = covered.collect::<Result<_, _>>()?;
            let from = notifications.beginning(&extent, since)?;
            Ok((notifications, covered, from))
        })
        .await?;
        // Of a topic that is compacted, or was recreated, what is not in it says nothing.
        let kept = self.broker.drafts_are_forgotten_by_key().await?.is_none();
        let begins = output_topics::known(self.pool).await?.drafts_begin(&self.broker.output_ids().await?);
        for (case, covered) in cases.iter_mut().zip(covered) {
            case.covered =
                covered && kept && begins.is_none_or(|begins| case.lane_row.trigger_datetime_created > begins);
        }
        Ok((notifications, from))
    }

    /// Reads the topic, once for all lanes. What has no row, or another one, is put aside; nothing is written yet.
    async fn scan(
        &self,
        notifications: Notifications,
        from: Offsets,
        to: Offsets,
        cases: &[Case],
        clients: Clients,
    ) -> Result<Vec<Scanned>, ResolveError> {
        let expected: i64 = to.iter().map(|(partition, to)| to - from.get(partition).unwrap_or(&0)).sum();
        begin_progress(self.progress, expected.unsigned_abs());
        let (send, mut receive) = mpsc::channel(BATCHES);
        let lanes = cases.iter().map(|case| (case.lane, OfLane::default())).collect();
        let ours = Ours::new(&self.config.kafka);
        let progress = self.progress.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut scan = Scan { lanes, ours, send, batch: Vec::new(), clients };
            notifications.read(&from, &to, |found| {
                progress.inc(1);
                scan.message(&found)
            })?;
            scan.flush()?;
            // Without the sender, whose end is the end of the batches.
            let Scan { lanes, clients, .. } = scan;
            Ok::<_, ResolveError>((lanes, clients))
        });
        let mut missing: BTreeMap<Lane, Spool> = BTreeMap::new();
        for case in cases {
            missing.insert(case.lane, Spool::new()?);
        }
        while let Some(batch) = receive.recv().await {
            let batch: Vec<(Lane, FoundDraft<'static>)> = batch;
            let (lanes, drafts): (Vec<Lane>, Vec<FoundDraft<'static>>) = batch.into_iter().unzip();
            for place in without_row(self.pool, &drafts).await? {
                if let Some(spool) = missing.get_mut(&lanes[place]) {
                    spool.push(&drafts[place])?;
                }
            }
        }
        let (lanes, clients): (BTreeMap<Lane, OfLane>, Clients) =
            reading.await.map_err(|error| ResolveError::Refused(format!("the reader ended early: {error}")))??;
        let mut untold: BTreeMap<Lane, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for (lane, campaign, client) in clients.into_values() {
            untold.entry(lane).or_default().entry(campaign).or_default().push(client);
        }
        let scanned = lanes.into_iter().zip(missing).map(|((lane, of_lane), (_, missing))| {
            let OfLane { newest, messages, told } = of_lane;
            Scanned { newest, messages, told, untold: untold.remove(&lane).unwrap_or_default(), missing }
        });
        Ok(scanned.collect())
    }
}

/// What the topic holds of a lane.
#[derive(Debug, Default)]
struct OfLane {
    newest: Seq,
    messages: u64,
    /// Drafts of the ledger's last round.
    told: u64,
}

/// The topic being read.
struct Scan {
    lanes: BTreeMap<Lane, OfLane>,
    ours: Ours,
    send: mpsc::Sender<Vec<(Lane, FoundDraft<'static>)>>,
    batch: Vec<(Lane, FoundDraft<'static>)>,
    clients: Clients,
}

impl Scan {
    fn message(&mut self, found: &Found<'_>) -> Result<(), ResolveError> {
        let Some(round) = found.round.filter(|_| self.ours.whose(found) == Whose::Ours) else { return Ok(()) };
        let Some(draft) = found.value.and_then(FoundDraft::of_message) else { return Ok(()) };
        // By whichever lane: a campaign can have been adopted by another.
        if let Some((lane, ..)) = self.clients.remove(&draft.key())
            && let Some(of_lane) = self.lanes.get_mut(&lane)
        {
            of_lane.told += 1;
        }
        if let Some(of_lane) = self.lanes.get_mut(&round.lane) {
            of_lane.newest = of_lane.newest.max(round.seq);
            of_lane.messages += 1;
            self.batch.push((round.lane, draft.into_owned()));
            if self.batch.len() >= BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ResolveError> {
        let batch = std::mem::take(&mut self.batch);
        let sent = self.send.blocking_send(batch);
        sent.map_err(|_| ResolveError::Refused("the feedback database could not be read".to_owned()))
    }
}

fn begin_progress(progress: &ProgressBar, expected: u64) {
    let style = ProgressStyle::with_template("messages  {bar:40} {human_pos} of about {human_len}, {per_sec}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.set_length(expected);
    progress.set_position(0);
}

async fn off_runtime<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, ResolveError> + Send + 'static,
) -> Result<T, ResolveError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) => Err(ResolveError::Refused(format!("a reader ended early: {error}"))),
    }
}
