//! `dinnerbell verify`: compares the output topic and the feedback table, draft by draft, in memory that does not grow with them.
//!
//! It may run beside the service, because of the order in which it looks:
//!
//! 1. the messages up to an end `A` of the topic: each of them has its row in every later snapshot;
//! 2. a snapshot of table and ledger: rows, and which rounds may still be unpublished;
//! 3. the messages from `A` to a later end `B`: they can only explain rows, not miss any;
//!    Each end is that of the partitions which there are then: one that was added meanwhile is read from its beginning;
//! 4. what is left over is looked at again for a moment: what was in flight has landed by then.
//!
//! A row without a message is one of these; every other one *differs*:
//!
//! - *pending*: a round holds it that is not published, as Kafka's mark says;
//! - *kept*: somebody answered in it before its draft was withdrawn;
//! - *locked*: its draft was withdrawn while somebody's open transaction had it locked;
//! - *foreign*: an earlier job left it. It was there before the service read the client's page. Or the service never told anybody of that
//!   campaign, or not this client, who is on no page and was not late.

pub mod buckets;
pub mod compare;
mod gather;
mod report;

pub use report::{Example, Outcome, Report, VerifyError};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use uuid::Uuid;

use self::buckets::{Buckets, DraftSource, Entry};
use self::compare::{Comparison, Facts, Finding};
use self::gather::{Gathered, message, put};
use crate::operator;
use dinnerbell_config::Config;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::{Lane, Seconds, Seq};
use dinnerbell_core::ports::broker::{Broker, BrokerError};
use dinnerbell_core::recovery::found;
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::notifications::{Extent, Notifications, Offsets, Ours, Whose};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::output_topics;
use dinnerbell_postgres::ledger::snapshot::{CampaignCounts, LaneHead, Snapshot, rows_by_id};

/// How long what is left over may take to land.
const IN_FLIGHT: Duration = Duration::from_secs(3);
/// How often it is looked at.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Most rows without a message that one run has told once more.
const MAX_REPUBLISHED: usize = 1_000_000;
/// Most rows that are looked up in one statement.
const MAX_IDS: usize = 5_000;

/// Compares both sinks. With `since`, only drafts formed then or later.
pub async fn verify(config: &Config, since: Option<Seconds>, progress: &ProgressBar) -> Result<Report, VerifyError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let own_ledger = operator::find_own_ledger(&pool, &config.kafka).await?.map_err(VerifyError::Refused)?;
    let broker = KafkaBroker::connect(&config.kafka).await?;
    if let Some(own_ledger) = &own_ledger {
        own_ledger.check_cluster(broker.cluster_id()).map_err(VerifyError::Refused)?;
    }
    let ledger = own_ledger.map(|own_ledger| own_ledger.ledger);
    let kafka = config.kafka.clone();
    let notifications = off_runtime(move || Ok(Notifications::open(&kafka)?)).await?;
    let verification = Verification { config, pool, broker, ledger, since, progress };
    verification.run(notifications).await
}

struct Verification<'a> {
    config: &'a Config,
    pool: Pool,
    broker: KafkaBroker,
    ledger: Option<Uuid>,
    since: Option<Seconds>,
    progress: &'a ProgressBar,
}

impl Verification<'_> {
    async fn run(self, notifications: Notifications) -> Result<Report, VerifyError> {
        let since = self.since;
        let (notifications, extent, from) = off_runtime(move || {
            let extent = notifications.extent()?;
            refuse_trimmed(&extent, since)?;
            let from = notifications.beginning(&extent, since)?;
            Ok((notifications, extent, from))
        })
        .await?;
        let mut uncovered = extent.uncovered(&from);
        let forgotten = self.broker.drafts_are_forgotten_by_key().await.unwrap_or_else(|error| {
            Some((format!("whether messages go by their keys is not known: {error}"), "run this once more".to_owned()))
        });
        if self.ledger.is_some()
            && let Some(replaced) = output_topics::known(&self.pool).await?.notifications_replaced
            && since.is_none_or(|since| since <= replaced)
        {
            // The ledger took a topic that was recreated.
            uncovered.extend(extent.low.keys());
        }
        let (notifications, gathered) = self.gather(notifications, &from, &extent).await?;
        self.progress.finish_and_clear();
        let (notifications, comparison, end_state) = self.compare(notifications, gathered).await?;
        let mut report = self.report(notifications, comparison, end_state, &uncovered).await?;
        if let Some((what, remedy)) = forgotten {
            report.refuse_to_republish(&what, &remedy);
        }
        Ok(report)
    }

    /// Messages, snapshot, later messages: in this order.
    async fn gather(
        &self,
        notifications: Notifications,
        from: &Offsets,
        extent: &Extent,
    ) -> Result<(Notifications, Gathered), VerifyError> {
        let expected: u64 = extent.high.iter().map(|(partition, high)| (high - from[partition]).unsigned_abs()).sum();
        let gathered = Gathered {
            buckets: Buckets::new(expected.saturating_mul(2)),
            comparison: Comparison::default(),
            messages: 0,
            rows: 0,
            lanes: Vec::new(),
            end: extent.high.clone(),
        };
        begin_progress(self.progress, "messages", expected);
        let (notifications, mut gathered) =
            self.read_messages(notifications, gathered, from.clone(), DraftSource::Message).await?;
        let snapshot = Snapshot::take(&self.pool).await?;
        begin_progress(self.progress, "rows", snapshot.estimate().await?);
        self.read_snapshot(&snapshot, &mut gathered).await?;
        snapshot.release().await?;
        let (notifications, later) = off_runtime(move || {
            let later = notifications.extent()?.high;
            Ok((notifications, later))
        })
        .await?;
        let from = std::mem::replace(&mut gathered.end, later);
        self.read_messages(notifications, gathered, from, DraftSource::LaterMessage).await
    }

    /// Reads the messages from an offset to `gathered.end`.
    async fn read_messages(
        &self,
        notifications: Notifications,
        mut gathered: Gathered,
        from: Offsets,
        kind: DraftSource,
    ) -> Result<(Notifications, Gathered), VerifyError> {
        let ours = Ours::new(&self.config.kafka);
        let (since, progress) = (self.since, self.progress.clone());
        off_runtime(move || {
            let end = gathered.end.clone();
            notifications.read(&from, &end, |found| {
                progress.inc(1);
                gathered.message(&found, kind, &ours, since)
            })?;
            Ok((notifications, gathered))
        })
        .await
    }

    async fn read_snapshot(&self, snapshot: &Snapshot, gathered: &mut Gathered) -> Result<(), VerifyError> {
        let Gathered { buckets, comparison, rows, lanes, .. } = gathered;
        let entry =
            |kind, key, campaign| Entry { key, kind, fingerprint: 0, campaign, partition: 0, place: 0, flag: false };
        *lanes = snapshot.lanes().await?;
        let mut cursors = HashMap::new();
        snapshot
            .campaigns(|id, CampaignCounts { told, kept, late, cursor }| {
                let id = found::campaign(id);
                comparison.campaigns.insert(id, Facts { told, kept, unknown_late: late });
                cursors.extend(cursor.map(|cursor| (id, cursor.to_owned())));
                Ok::<_, VerifyError>(())
            })
            .await?;
        snapshot
            .told_late(|campaign, client| {
                let (key, campaign) = (found::key(campaign, client), found::campaign(campaign));
                comparison.campaigns.entry(campaign).or_default().unknown_late -= 1;
                put(buckets, &entry(DraftSource::Late, key, campaign))
            })
            .await?;
        for lane in lanes.iter().filter(|lane| lane.published != Some(lane.seq)) {
            let held = |campaign: &str, client: &str| {
                let entry = entry(DraftSource::Recorded, found::key(campaign, client), found::campaign(campaign));
                put(buckets, &Entry { partition: lane.lane.get(), place: lane.seq.get(), ..entry })
            };
            snapshot.round(lane.lane, lane.seq, held).await?;
        }
        snapshot
            .locked_rows(|campaign, client| {
                put(buckets, &entry(DraftSource::Locked, found::key(campaign, client), found::campaign(campaign)))
            })
            .await?;
        snapshot
            .told_before(|campaign, client| {
                put(buckets, &entry(DraftSource::Before, found::key(campaign, client), found::campaign(campaign)))
            })
            .await?;
        snapshot
            .rows(self.since, |id, answered, draft| {
                *rows += 1;
                self.progress.inc(1);
                let (key, campaign) = (draft.key(), draft.campaign());
                let in_no_page = || cursors.get(&campaign).is_none_or(|cursor| *draft.client_id > **cursor);
                if comparison.campaigns.contains_key(&campaign) && in_no_page() {
                    put(buckets, &entry(DraftSource::BehindCursor, key, campaign))?;
                }
                let entry = entry(DraftSource::Row, key, campaign);
                put(buckets, &Entry { fingerprint: draft.fingerprint(), place: id, flag: answered, ..entry })
            })
            .await?;
        Ok(())
    }

    /// Compares the buckets, then looks again at what is left over.
    async fn compare(
        &self,
        notifications: Notifications,
        gathered: Gathered,
    ) -> Result<(Notifications, Comparison, EndState), VerifyError> {
        let Gathered { buckets, mut comparison, messages, rows, lanes, mut end } = gathered;
        for bucket in buckets.into_sorted() {
            comparison.take(&bucket?)?;
        }
        let mut notifications = notifications;
        let began = Instant::now();
        // A mark is read before the messages: whatever it says is published is to be found among them.
        let published = loop {
            let published = self.published(comparison.unsettled.lanes()).await;
            if comparison.unsettled.overdue(&published) == 0 {
                break published;
            }
            (notifications, comparison, end) = self.land(notifications, comparison, end).await?;
            if comparison.unsettled.overdue(&published) == 0 || began.elapsed() > IN_FLIGHT {
                break published;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        };
        let left = std::mem::take(&mut comparison.unsettled);
        let pending = left.pending(&published);
        let mut unannounced = Vec::new();
        for overdue in left.into_overdue(&published) {
            for row in self.still_there(&overdue?).await? {
                comparison.note(Finding::RowWithoutMessage, &row);
                if unannounced.len() < MAX_REPUBLISHED {
                    unannounced.push(row.place);
                }
            }
        }
        Ok((notifications, comparison, EndState { messages, rows, pending, unannounced, lanes }))
    }

    /// Reads what came since, and takes out what it explains.
    async fn land(
        &self,
        notifications: Notifications,
        mut comparison: Comparison,
        from: Offsets,
    ) -> Result<(Notifications, Comparison, Offsets), VerifyError> {
        let ours = Ours::new(&self.config.kafka);
        off_runtime(move || {
            let end = notifications.extent()?.high;
            notifications.read(&from, &end, |found| match found.value.and_then(FoundDraft::of_message) {
                Some(draft) if ours.whose(&found) != Whose::AnotherService => {
                    Ok::<_, VerifyError>(comparison.unsettled.message(&message(&found, &draft))?)
                }
                _ => Ok(()),
            })?;
            comparison.settle()?;
            Ok((notifications, comparison, end))
        })
        .await
    }

    /// The last round of each lane that Kafka's mark says is published.
    async fn published(&self, lanes: impl Iterator<Item = Lane>) -> BTreeMap<Lane, Seq> {
        let mut published = BTreeMap::new();
        for lane in lanes.collect::<BTreeSet<_>>() {
            if let Ok(CommittedOffset::Mark(mark)) = self.broker.committed(lane).await
                && Some(mark.ledger) == self.ledger
            {
                published.insert(lane, mark.version.seq);
            }
        }
        published
    }

    /// Those rows that were not withdrawn meanwhile.
    async fn still_there(&self, rows: &[Entry]) -> Result<Vec<Entry>, VerifyError> {
        let mut there = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(MAX_IDS) {
            let ids: Vec<i64> = chunk.iter().map(|row| row.place).collect();
            let found: BTreeSet<i64> = rows_by_id(&self.pool, &ids).await?.into_iter().map(|(id, _, _)| id).collect();
            there.extend(chunk.iter().filter(|row| found.contains(&row.place)));
        }
        Ok(there)
    }

    async fn report(
        &self,
        notifications: Notifications,
        comparison: Comparison,
        end: EndState,
        uncovered: &BTreeSet<i32>,
    ) -> Result<Report, VerifyError> {
        let topic = notifications.topic().to_owned();
        let trimmed = !uncovered.is_empty() && comparison.differences.rows_without_message > 0;
        let result = match comparison.differences.total() {
            0 => Outcome::Equal,
            n if trimmed && n == comparison.differences.rows_without_message => Outcome::NotCompared,
            _ => Outcome::Different,
        };
        let reason = trimmed.then(|| {
            format!(
                "{} rows have no message, but partitions {uncovered:?} of {topic} no longer hold everything since then; choose a later \
                 --since",
                comparison.differences.rows_without_message
            )
        });
        Ok(Report {
            result,
            reason,
            topic,
            table: format!("{}.{}", self.pool.table().schema, self.pool.table().table),
            since: self.since,
            messages: end.messages,
            rows: end.rows,
            equal: comparison.equal,
            pending: end.pending,
            kept: comparison.kept,
            locked: comparison.locked,
            foreign_rows: comparison.foreign_rows,
            foreign_messages: comparison.foreign_messages,
            differences: comparison.differences,
            examples: self.examples(notifications, &comparison.examples).await?,
            republished: None,
            not_to_be_republished: None,
            unannounced: end.unannounced,
            halted_lanes: end.lanes.iter().filter(|lane| lane.halted.is_some()).map(|lane| lane.lane).collect(),
        })
    }

    /// Reads the examples once more, to name campaign and client.
    async fn examples(
        &self,
        notifications: Notifications,
        found: &[(Finding, Entry)],
    ) -> Result<Vec<Example>, VerifyError> {
        let ids: Vec<i64> = found.iter().filter(|(_, e)| e.kind == DraftSource::Row).map(|(_, e)| e.place).collect();
        let rows: BTreeMap<i64, (String, String)> = rows_by_id(&self.pool, &ids)
            .await?
            .into_iter()
            .map(|(id, campaign, client)| (id, (campaign, client)))
            .collect();
        let wanted: Vec<(i32, i64)> =
            found.iter().filter(|(_, e)| e.kind != DraftSource::Row).map(|(_, e)| (e.partition, e.place)).collect();
        let messages = off_runtime(move || Ok(wanted.iter().map(|at| (*at, read_one(&notifications, *at))).collect()));
        let messages: BTreeMap<(i32, i64), Option<(String, String)>> = messages.await?;
        let example = |(finding, entry): &(Finding, Entry)| {
            let (names, row, at) = match entry.kind {
                DraftSource::Row => (rows.get(&entry.place).cloned(), Some(entry.place), None),
                _ => {
                    let at = (entry.partition, entry.place);
                    (messages.get(&at).cloned().flatten(), None, Some(at))
                }
            };
            let (adv_campaign_id, client_id) = names.unzip();
            let (partition, offset) = at.unzip();
            Example { finding: *finding, adv_campaign_id, client_id, row, partition, offset }
        };
        Ok(found.iter().map(example).collect())
    }
}

/// What is known at the end besides the comparison.
struct EndState {
    messages: u64,
    rows: u64,
    pending: u64,
    /// Rows that have no message.
    unannounced: Vec<i64>,
    lanes: Vec<LaneHead>,
}

/// Without `since`, everything must still be there.
fn refuse_trimmed(extent: &Extent, since: Option<Seconds>) -> Result<(), VerifyError> {
    match extent.low.iter().find(|(_, low)| **low > 0) {
        Some((partition, low)) if since.is_none() => Err(VerifyError::Refused(format!(
            "partition {partition} of the output topic begins at offset {low}: what was before is deleted and cannot be compared; compare \
             what is younger than the topic's retention, for instance with --since=-24h"
        ))),
        _ => Ok(()),
    }
}

fn read_one(notifications: &Notifications, (partition, offset): (i32, i64)) -> Option<(String, String)> {
    let mut names = None;
    let (from, to) = (Offsets::from([(partition, offset)]), Offsets::from([(partition, offset + 1)]));
    let read = notifications.read(&from, &to, |found| {
        let draft = found.value.and_then(FoundDraft::of_message);
        names = draft.map(|draft| (draft.adv_campaign_id.into_owned(), draft.client_id.into_owned()));
        Ok::<_, BrokerError>(())
    });
    // An example without names is still an example.
    read.ok().and(names)
}

fn begin_progress(progress: &ProgressBar, what: &'static str, expected: u64) {
    let style = ProgressStyle::with_template("{msg:9} {bar:40} {human_pos} of about {human_len}, {per_sec}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.set_message(what);
    progress.set_length(expected);
    progress.set_position(0);
}

async fn off_runtime<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, VerifyError> + Send + 'static,
) -> Result<T, VerifyError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) => Err(VerifyError::Refused(format!("a reader ended early: {error}"))),
    }
}
