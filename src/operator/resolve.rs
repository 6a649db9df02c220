//! `dinnerbell lane resolve`: mends what halted a lane, as its remedy says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::operator::{Claim, claim_of, hold};
use dinnerbell_config::Config;
use dinnerbell_core::guard::Guards;
use dinnerbell_core::lane::error::LaneError;
use dinnerbell_core::lane::takeover;
use dinnerbell_core::model::halt::{Halt, NOTIFICATIONS_REPLACED};
use dinnerbell_core::model::late::ToldAndRows;
use dinnerbell_core::model::mark::Committed;
use dinnerbell_core::model::ownership::{Entered, Ownership};
use dinnerbell_core::model::reconcile::{Contradiction, LedgerSide, Reconciled, reconcile};
use dinnerbell_core::model::record::Lane;
use dinnerbell_core::model::time::EpochSeconds;
use dinnerbell_core::ports::broker::{Broker, BrokerError};
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};
use dinnerbell_core::recovery::decide::{Assumed, Decision, Evidence, LastRound, decide};
use dinnerbell_core::recovery::found;
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::notifications::{Extent, Found, Notifications, Offsets};
use dinnerbell_postgres::clock::PostgresClock;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::resolve::{
    LaneRow, Mended, Repair, Restored, release, restart_at, retry, standing, without_row,
};
use dinnerbell_postgres::ledger::snapshot::Snapshot;
use dinnerbell_postgres::ledger::{PostgresLedger, outputs};

/// Drafts that are looked up or inserted in one statement.
const BATCH: usize = 1_000;
/// Batches that wait for the database while the topic is read on.
const BATCHES: usize = 2;
/// How often a mending is begun again, when an owner entered the lane meanwhile.
pub(super) const MOST_ATTEMPTS: u32 = 4;

/// The halt of a lane that a command is mending.
const BEING_RESOLVED: &str = "being-resolved";

/// What an operator decided.
#[derive(Debug, Clone, Copy)]
pub enum Resolution {
    /// What the lane failed at is mended: it tries again.
    Retry,
    /// Rows of campaigns that run were removed: those clients are told again.
    TellAgain,
    /// The last round, not yet published, becomes what is left of its rows.
    AcceptRows,
    /// The lane goes on at another position.
    RestartAt(Position),
    /// The output topic is right about what was told.
    FromKafka(FromKafka),
}

/// How the output topic is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct FromKafka {
    /// Messages of drafts formed earlier are not read.
    pub since: Option<EpochSeconds>,
    /// Of a round that the topic no longer tells about.
    pub assumed: Option<Assumed>,
}

/// Where a lane goes on.
#[derive(Debug, Clone, Copy)]
pub enum Position {
    /// At the first record that is there.
    Earliest,
    /// At the next record to come.
    Latest,
    /// At this offset.
    Offset(i64),
}

/// What is to be resolved.
#[derive(Debug, Clone)]
pub struct Request {
    /// The lane.
    pub lane: Lane,
    /// How.
    pub resolution: Resolution,
    /// Only look.
    pub dry_run: bool,
    /// Who resolves; kept in the ledger.
    pub by: String,
}

/// What was found and done.
#[derive(Debug, Clone, Serialize)]
pub struct Resolved {
    /// The lane.
    pub lane: Lane,
    /// The halt that stood; null where there was none.
    pub halted: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What was found.
    pub found: Vec<String>,
    /// What was done, or would have been.
    pub done: Vec<String>,
    /// What a mending from Kafka wrote.
    #[serde(flatten)]
    pub mended: Mended,
}

/// Why a lane was not resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Kafka.
    #[error("kafka: {0}")]
    Kafka(#[from] BrokerError),
    /// The feedback database.
    #[error("{0}")]
    Database(#[from] PostgresError),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// Temporary files.
    #[error("temporary files: {0}; set TMPDIR to a folder with more room")]
    Disk(#[from] io::Error),
    /// It makes no sense as the lane stands.
    #[error("{0}")]
    Refused(String),
}

/// Every lane that lost commits, or is halted because it contradicts Kafka, is mended by what Kafka holds: the topic is read once for all of
/// them. While all is held, every other lane that was not compared with Kafka is compared, whoever owns it, or nobody. What was found and done in
/// each lane; those that stand well are left alone.
pub async fn resolve_all(
    config: &Config,
    resolution: FromKafka,
    dry_run: bool,
    by: &str,
    progress: &ProgressBar,
) -> Result<Vec<Resolved>, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let Some(claim) = claim_of(&pool, &config.kafka).await?.map_err(ResolveError::Refused)? else {
        return Err(unknown(0));
    };
    let broker = connect(config, &claim).await?;
    let held: BTreeSet<Lane> = hold::standing(&pool).await?.map_or_else(BTreeSet::new, |hold| hold.lanes().collect());
    let (mut lost, mut waiting) = (Vec::new(), Vec::new());
    for lane in 0..broker.lanes().await? {
        // Read first: a ledger that lost nothing is never behind a mark that was read before it.
        let theirs = broker.committed(lane).await?;
        let Some(found) = standing(&pool, lane).await? else { continue };
        if found.halted.as_deref().is_some_and(|halt| way_out(halt) == Some(FROM_KAFKA))
            || is_behind(&ledger_side(claim.ledger, &found), &theirs)
        {
            lost.push((lane, found));
        } else if held.contains(&lane) {
            waiting.push((lane, found));
        }
    }
    let writer = writer(config, &pool, by).await?;
    let mender = LedgerRepair { config, pool, broker, writer, ledger: claim.ledger, resolution, dry_run, by, progress };
    mender.run(lost, waiting).await
}

/// The ledger takes the output topic that is there, and every lane that is halted because of it goes on.
pub async fn accept_topic(config: &Config, dry_run: bool, by: &str) -> Result<Vec<Resolved>, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    if claim_of(&pool, &config.kafka).await?.map_err(ResolveError::Refused)?.is_none() {
        return Err(unknown(0));
    }
    let mut resolutions = Vec::new();
    for lane in outputs::replaced(&pool).await? {
        let Some(found) = standing(&pool, lane).await? else { continue };
        let mut outcome = resolved(lane, dry_run, &found);
        outcome.found.push(format!("the lane is halted: {NOTIFICATIONS_REPLACED}"));
        outcome.done.push(format!("its drafts go to topic {} as it is now", config.kafka.topics.notifications));
        resolutions.push(outcome);
    }
    if !dry_run && !resolutions.is_empty() {
        outputs::accept(&pool, by).await?;
    }
    Ok(resolutions)
}

/// Whether the ledger lost commits, though no lane may have halted yet.
fn is_behind(ours: &LedgerSide, theirs: &Committed) -> bool {
    use Contradiction::{KafkaAhead, OtherContent, OtherLedger};
    matches!(reconcile(ours, theirs), Reconciled::Contradiction(KafkaAhead | OtherContent | OtherLedger))
}

fn ledger_side(ledger: uuid::Uuid, standing: &LaneRow) -> LedgerSide {
    LedgerSide { ledger, head: standing.head, previous: standing.previous, published: standing.published }
}

/// Resolves a lane.
pub async fn resolve(config: &Config, request: &Request, progress: &ProgressBar) -> Result<Resolved, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let claimed = claim_of(&pool, &config.kafka).await?.map_err(ResolveError::Refused)?;
    let lane = request.lane;
    let (Some(claim), Some(found)) = (claimed, standing(&pool, lane).await?) else {
        return Err(unknown(lane));
    };
    match request.resolution {
        Resolution::Retry => try_again(&pool, request, &found).await,
        Resolution::TellAgain => tell_again(config, &pool, request, &found).await,
        Resolution::AcceptRows => accept(config, &pool, request, &found).await,
        Resolution::RestartAt(position) => move_to(config, &pool, &claim, request, &found, position).await,
        Resolution::FromKafka(resolution) => {
            let broker = connect(config, &claim).await?;
            let (ledger, dry_run, by) = (claim.ledger, request.dry_run, request.by.as_str());
            let writer = writer(config, &pool, by).await?;
            let mender = LedgerRepair { config, pool, broker, writer, ledger, resolution, dry_run, by, progress };
            mender.run(vec![(lane, found)], Vec::new()).await?.pop().ok_or_else(|| unknown(lane))
        }
    }
}

/// Why nothing can be done about a lane that the ledger does not have.
pub(super) fn unknown(lane: Lane) -> ResolveError {
    ResolveError::Refused(format!(
        "there is no lane {lane} in the ledger: `dinnerbell lane list` shows those that are, and `dinnerbell run` makes them"
    ))
}

/// The cluster of the ledger.
pub(super) async fn connect(config: &Config, claim: &Claim) -> Result<KafkaBroker, ResolveError> {
    let broker = KafkaBroker::connect(&config.kafka).await?;
    claim.check_cluster(broker.cluster_id()).map_err(ResolveError::Refused)?;
    Ok(broker)
}

/// The ledger, for an owner that only resolves.
pub(super) async fn writer(config: &Config, pool: &Pool, by: &str) -> Result<PostgresLedger, ResolveError> {
    let clock = PostgresClock::start(pool.clone()).await?;
    Ok(PostgresLedger::new(pool.clone(), clock, by.to_owned(), config.kafka.group_id.clone(), false))
}

fn resolved(lane: Lane, dry_run: bool, standing: &LaneRow) -> Resolved {
    Resolved {
        lane,
        halted: standing.halted.clone(),
        dry_run,
        found: Vec::new(),
        done: Vec::new(),
        mended: Mended::default(),
    }
}

async fn try_again(pool: &Pool, request: &Request, standing: &LaneRow) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    let Some(name) = &standing.halted else {
        return Err(ResolveError::Refused(format!("lane {lane} is not halted: there is nothing to try again")));
    };
    if let Some(way) = way_out(name) {
        let way = if name == NOTIFICATIONS_REPLACED { way.to_owned() } else { format!("{lane} {way}") };
        return Err(ResolveError::Refused(format!(
            "lane {lane} is halted as {name}: it would find the same again; what resolves that is: dinnerbell lane resolve {way}"
        )));
    }
    let mut outcome = resolved(request.lane, request.dry_run, standing);
    outcome.found.push(format!("the lane is halted: {name}"));
    outcome.done.push("the halt is cleared; whoever owns the lane enters it again".to_owned());
    if !request.dry_run {
        retry(pool, lane, &request.by).await?;
    }
    Ok(outcome)
}

/// What resolves a halt that is about what the servers hold, which trying again does not change.
fn way_out(halt: &str) -> Option<&'static str> {
    match halt {
        "topic-replaced" | "input-truncated" | "input-trimmed" => {
            Some("--restart-at earliest (or latest, or an offset)")
        }
        "kafka-ahead" | "kafka-behind" | "mark-missing" | "other-content" | "other-ledger" | "foreign-offset" => {
            Some(FROM_KAFKA)
        }
        NOTIFICATIONS_REPLACED => Some("--all --accept-topic"),
        _ => None,
    }
}

async fn tell_again(
    config: &Config,
    pool: &Pool,
    request: &Request,
    standing: &LaneRow,
) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    if standing.halted.as_deref() != Some("rows-removed") {
        return Err(ResolveError::Refused(format!(
            "lane {lane} is not halted as rows-removed: nobody is to be told again"
        )));
    }
    let writer = writer(config, pool, &request.by).await?;
    let mut outcome = resolved(request.lane, request.dry_run, standing);
    let removed = writer.removed(lane).await?;
    for (id, ToldAndRows { told, rows }) in &removed {
        outcome.found.push(format!("campaign {id} has told {told}, and has {rows} rows"));
    }
    outcome.done.push("whoever of them favours the restaurant and has no row is told again".to_owned());
    if !request.dry_run {
        let own = writer.bump(lane, None).await?.ownership;
        writer.tell_again(own, &removed, &request.by).await?;
    }
    Ok(outcome)
}

const FROM_KAFKA: &str = "--from-kafka";

async fn accept(config: &Config, pool: &Pool, request: &Request, standing: &LaneRow) -> Result<Resolved, ResolveError> {
    let (lane, seq) = (request.lane, standing.head.seq);
    if standing.halted.as_deref() != Some("round-damaged") || standing.published == Some(seq) {
        return Err(ResolveError::Refused(format!(
            "lane {lane} is not halted as round-damaged with a round that is still to be published"
        )));
    }
    let mut outcome = resolved(request.lane, request.dry_run, standing);
    outcome.found.push(format!("rows of round {seq} were changed or removed before it was published"));
    if request.dry_run {
        outcome.done.push(format!("round {seq} becomes what its rows are now"));
        return Ok(outcome);
    }
    let writer = writer(config, pool, &request.by).await?;
    let own = writer.bump(lane, None).await?.ownership;
    let (held, holds) = writer.accept_rows(own, standing, &request.by).await?;
    outcome.done.push(format!(
        "round {seq} held {held} drafts and holds the {holds} whose rows are there; a later round tells the others, as far as their \
         campaigns run"
    ));
    Ok(outcome)
}

async fn move_to(
    config: &Config,
    pool: &Pool,
    claim: &Claim,
    request: &Request,
    standing: &LaneRow,
    position: Position,
) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    let refused = || {
        ResolveError::Refused(format!(
            "lane {lane} is {}: a position is set only where a lane is halted as topic-replaced, input-truncated, input-trimmed or input-unreadable, because what is \
             skipped is lost and what is read again was judged already",
            standing.halted.as_deref().map_or("not halted".to_owned(), |name| format!("halted as {name}"))
        ))
    };
    if !matches!(
        standing.halted.as_deref(),
        Some("topic-replaced" | "input-truncated" | "input-trimmed" | "input-unreadable")
    ) {
        return Err(refused());
    }
    let broker = connect(config, claim).await?;
    let (low, high) = broker.watermarks(lane).await?;
    let to = match position {
        Position::Earliest => low,
        Position::Latest => high,
        Position::Offset(offset) if (low..=high).contains(&offset) => offset,
        Position::Offset(offset) => {
            return Err(ResolveError::Refused(format!(
                "offset {offset} is not in the topic: partition {lane} holds {low} up to {high}"
            )));
        }
    };
    let mut outcome = resolved(request.lane, request.dry_run, standing);
    outcome
        .found
        .push(format!("the lane's position is {}; the topic holds offsets {low} up to {high}", standing.position));
    outcome.done.push(format!("the lane goes on at offset {to}; campaigns that are read again are known by their ids"));
    if !request.dry_run && !restart_at(pool, lane, to, &request.by).await? {
        return Err(refused());
    }
    Ok(outcome)
}

/// Mends the ledger by what the output topic holds.
struct LedgerRepair<'a> {
    config: &'a Config,
    pool: Pool,
    broker: KafkaBroker,
    writer: PostgresLedger,
    ledger: uuid::Uuid,
    resolution: FromKafka,
    dry_run: bool,
    by: &'a str,
    progress: &'a ProgressBar,
}

/// A lane that is being mended.
struct Case {
    lane: Lane,
    /// As it was found first.
    before: LaneRow,
    /// None where nothing is to be written.
    own: Option<Own>,
    /// As it stands behind its former owners.
    standing: LaneRow,
    theirs: Committed,
    /// Whether the topic holds everything since the last round was formed.
    covered: bool,
}

/// A lane that was taken.
#[derive(Clone)]
struct Own {
    own: Ownership,
    /// The comparison that stood then.
    comparison: String,
}

impl Case {
    /// Whether the ledger does not know its last round to be published.
    fn is_unsure(&self) -> bool {
        self.standing.published != Some(self.standing.head.seq)
    }
}

/// Clients of the lanes' last rounds, each with its lane and campaign, by the draft's key.
type Clients = HashMap<u128, (Lane, String, String)>;

impl LedgerRepair<'_> {
    /// Mends the first, and compares the second. What fails in one lane is said when all others were done.
    async fn run(
        self,
        lost: Vec<(Lane, LaneRow)>,
        waiting: Vec<(Lane, LaneRow)>,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let mut compared = Vec::new();
        for (lane, before) in &waiting {
            compared.push(self.compare(*lane, before).await);
        }
        let mended = self.hold_and_mend(&lost).await;
        self.progress.finish_and_clear();
        self.broker.close(Duration::from_secs(1)).await;
        let mut resolved = mended?;
        for compared in compared {
            resolved.push(compared?);
        }
        Ok(resolved)
    }

    /// Compares a lane as its way in does, without any of what else that needs: nobody waits for it any more.
    async fn compare(&self, lane: Lane, before: &LaneRow) -> Result<Resolved, ResolveError> {
        let mut outcome = resolved(lane, self.dry_run, before);
        outcome
            .done
            .push("it is compared with what Kafka holds: the other lanes do not wait for it any more".to_owned());
        if self.dry_run {
            return Ok(outcome);
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let entered = self.writer.bump(lane, None).await?;
            match takeover::compare_only(&self.broker, &self.writer, Guards::default(), &entered).await {
                Ok(None) => return Ok(outcome),
                Ok(Some(Halt { name, found, .. })) => {
                    return Err(ResolveError::Refused(format!(
                        "lane {lane}: {name}: {found}; commits of it may be missing: dinnerbell lane resolve {lane} --from-kafka"
                    )));
                }
                // Its owner entered it meanwhile.
                Err(LaneError::TakenOver | LaneError::Ledger(LedgerError::NotMine(_))) if attempts < MOST_ATTEMPTS => {}
                Err(error) => return Err(ResolveError::Refused(format!("lane {lane} was not compared: {error}"))),
            }
        }
    }

    /// Makes the lanes stand still, whoever owns them, and lets those go again that were not halted and cannot be mended.
    async fn hold_and_mend(&self, lanes: &[(Lane, LaneRow)]) -> Result<Vec<Resolved>, ResolveError> {
        let mended = self.mend(lanes).await;
        if mended.is_err() && !self.dry_run {
            for (lane, _) in lanes.iter().filter(|(_, before)| before.halted.is_none()) {
                // Only what is still held by this command; if this fails too, the halt's remedy says what to do.
                let _ = release(&self.pool, *lane, BEING_RESOLVED, self.by).await;
            }
        }
        mended
    }

    /// Takes the lane, and halts it unless it is. An owner that was sent away enters again at once, and may come in between.
    async fn hold(&self, lane: Lane) -> Result<Entered, ResolveError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let entered = self.writer.bump(lane, None).await?;
            if entered.halt.is_some() {
                return Ok(entered);
            }
            let halt = Halt {
                name: BEING_RESOLVED.to_owned(),
                found: format!("{} looks at what Kafka holds of the lane", self.by),
                remedy: format!("wait for it; if it ended early: dinnerbell lane resolve {lane} --retry"),
            };
            match self.writer.halt(entered.ownership, halt).await {
                Err(LedgerError::NotMine(_)) if attempts < MOST_ATTEMPTS => {}
                halted => return Ok(halted.map(|()| entered)?),
            }
        }
    }

    async fn mend(&self, lanes: &[(Lane, LaneRow)]) -> Result<Vec<Resolved>, ResolveError> {
        let mut held = Vec::new();
        for (lane, before) in lanes {
            let own = match self.dry_run {
                true => None,
                false => {
                    let Entered { ownership, comparison, .. } = self.hold(*lane).await?;
                    Some(Own { own: ownership, comparison })
                }
            };
            if own.is_some() {
                // Fences former owners' producers: when this returns, none of their transactions is open or about to be committed.
                drop(self.broker.producer(*lane).await?);
            }
            let theirs = self.broker.committed(*lane).await?;
            let standing = standing(&self.pool, *lane).await?.ok_or_else(|| moved(*lane))?;
            held.push(Case { lane: *lane, before: before.clone(), own, standing, theirs, covered: true });
        }
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let (notifications, extent) = self.open_notifications().await?;
        let clients = self.clients(&held).await?;
        let (notifications, from) = self.beginning(notifications, &extent, &mut held, &clients).await?;
        let found = self.scan(notifications, from, extent.high, &held, clients).await?;
        let (mut outcomes, mut refused) = (Vec::new(), Vec::new());
        for (case, scanned) in held.iter().zip(found) {
            match self.settle(case, scanned).await {
                Ok(outcome) => outcomes.push(outcome),
                // The others are put back all the same.
                Err(ResolveError::Refused(why)) if lanes.len() > 1 => {
                    refused.push(format!("lane {}: {why}", case.lane))
                }
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() { Ok(outcomes) } else { Err(ResolveError::Refused(refused.join("; "))) }
    }

    /// Decides about a lane by what was found, and writes it.
    async fn settle(&self, case: &Case, scanned: Scanned) -> Result<Resolved, ResolveError> {
        let evidence = Evidence {
            ours: ledger_side(self.ledger, &case.standing),
            theirs: case.theirs.clone(),
            newest_in_topic: scanned.newest,
            told: scanned.told,
            untold: scanned.untold.values().map(|clients| clients.len() as u64).sum(),
            covered: case.covered,
            assumed: self.resolution.assumed,
        };
        let decision = decide(&evidence).map_err(|untold| ResolveError::Refused(untold.to_string()))?;
        let mut outcome = resolved(case.lane, self.dry_run, &case.before);
        outcome.found = described(&evidence, &scanned);
        outcome.done = announced(&decision, &evidence, &scanned);
        if let Some(own) = case.own.clone() {
            outcome.mended = self.write(own, &case.standing, &decision, scanned).await?;
        }
        Ok(outcome)
    }

    async fn open_notifications(&self) -> Result<(Notifications, Extent), ResolveError> {
        let topics = self.broker.topics().await?;
        let kafka = self.config.kafka.clone();
        let topic = topics.iter().find(|topic| topic.name == kafka.topics.notifications);
        let partitions = topic.map_or(0, |topic| topic.partitions);
        off_runtime(move || {
            let notifications = Notifications::open(&kafka, partitions)?;
            let extent = notifications.extent()?;
            Ok((notifications, extent))
        })
        .await
    }

    /// Who is told by the last rounds of lanes whose ledger does not know them to be published.
    async fn clients(&self, cases: &[Case]) -> Result<Clients, ResolveError> {
        let snapshot = Snapshot::take(&self.pool).await?;
        let mut clients = Clients::new();
        for Case { lane, standing, .. } in cases.iter().filter(|case| case.is_unsure()) {
            let insert = |campaign: &str, client: &str| {
                clients.insert(found::key(campaign, client), (*lane, campaign.to_owned(), client.to_owned()));
                Ok::<_, PostgresError>(())
            };
            snapshot.round(*lane, standing.head.seq, insert).await?;
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
        let formed: Vec<EpochSeconds> = cases.iter().map(|case| case.standing.trigger_datetime_created).collect();
        let needs = |case: &&Case| case.is_unsure() && clients.values().any(|(lane, ..)| *lane == case.lane);
        let earliest = cases.iter().filter(needs).map(|case| case.standing.trigger_datetime_created).min();
        if let (Some(since), Some(formed)) = (self.resolution.since, earliest)
            && since > formed
        {
            return Err(ResolveError::Refused(format!(
                "--since {since} is later than {formed}, when the ledger's last round was formed: begin there or earlier"
            )));
        }
        let (extent, since) = (extent.clone(), self.resolution.since);
        let (notifications, covered, from) = off_runtime(move || {
            let covered = formed.iter().map(|formed| {
                Ok::<_, BrokerError>(extent.uncovered(&notifications.beginning(&extent, Some(*formed))?).is_empty())
            });
            let covered: Vec<bool> = covered.collect::<Result<_, _>>()?;
            let from = notifications.beginning(&extent, since)?;
            Ok((notifications, covered, from))
        })
        .await?;
        // Of a topic that was created anew, what is not in it says nothing.
        let begins = outputs::known(&self.pool).await?.drafts_begin(&self.broker.output_ids().await?);
        for (case, covered) in cases.iter_mut().zip(covered) {
            case.covered = covered && begins.is_none_or(|begins| case.standing.trigger_datetime_created > begins);
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
        let topic = self.config.kafka.topics.campaigns.clone();
        let progress = self.progress.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut scan = Scan { lanes, topic, send, batch: Vec::new(), clients };
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
            for place in without_row(&self.pool, &drafts).await? {
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

    /// Writes it, as often as an owner enters the lane meanwhile and leaves it as it was.
    async fn write(
        &self,
        mut own: Own,
        standing: &LaneRow,
        decision: &Decision,
        mut scanned: Scanned,
    ) -> Result<Mended, ResolveError> {
        let untold = std::mem::take(&mut scanned.untold);
        let lanes = self.broker.lanes().await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.write_once(&own, lanes, standing, decision, &untold, &mut scanned.missing).await {
                Err(ResolveError::Ledger(LedgerError::NotMine(_) | LedgerError::Passing(_)))
                    if attempts < MOST_ATTEMPTS =>
                {
                    // What was read of Kafka was read in the comparison of before.
                    own.own = self.writer.bump(own.own.lane, None).await?.ownership;
                }
                written => return written,
            }
        }
    }

    async fn write_once(
        &self,
        own: &Own,
        lanes: Lane,
        standing: &LaneRow,
        decision: &Decision,
        untold: &BTreeMap<String, Vec<String>>,
        missing: &mut Spool,
    ) -> Result<Mended, ResolveError> {
        let mut mending = self.writer.begin_mending(own.own, standing).await?;
        let mut drafts = missing.read()?;
        loop {
            let batch: Vec<FoundDraft<'static>> = drafts.by_ref().take(BATCH).collect::<io::Result<_>>()?;
            if batch.is_empty() {
                break;
            }
            mending.restore(&batch).await?;
        }
        drop(drafts);
        let campaigns = &missing.campaigns;
        let compared = (own.comparison.as_str(), lanes);
        Ok(mending.commit(&Repair { standing, decision, campaigns, untold, by: self.by, compared }).await?)
    }
}

/// What reading the topic gave.
struct Scanned {
    newest: i64,
    messages: u64,
    told: u64,
    /// Of the ledger's last round, those without a message, by campaign.
    untold: BTreeMap<String, Vec<String>>,
    missing: Spool,
}

/// What the topic holds of a lane.
#[derive(Debug, Default)]
struct OfLane {
    newest: i64,
    messages: u64,
    /// Drafts of the ledger's last round.
    told: u64,
}

/// The topic being read.
struct Scan {
    lanes: BTreeMap<Lane, OfLane>,
    topic: String,
    send: mpsc::Sender<Vec<(Lane, FoundDraft<'static>)>>,
    batch: Vec<(Lane, FoundDraft<'static>)>,
    clients: Clients,
}

impl Scan {
    fn message(&mut self, found: &Found<'_>) -> Result<(), ResolveError> {
        let Some(round) = found.round.filter(|round| round.topic == self.topic) else { return Ok(()) };
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

fn moved(lane: Lane) -> ResolveError {
    ResolveError::Refused(format!("lane {lane} changed meanwhile: look at `dinnerbell lane list`"))
}

/// Drafts whose rows are missing, in a temporary file without a name: there may be many.
struct Spool {
    file: BufWriter<File>,
    drafts: u64,
    campaigns: BTreeMap<String, Restored>,
}

impl Spool {
    fn new() -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile()?), drafts: 0, campaigns: BTreeMap::new() })
    }

    fn push(&mut self, draft: &FoundDraft<'static>) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, draft)?;
        self.file.write_all(b"\n")?;
        self.drafts += 1;
        let formed = draft.trigger_datetime_created;
        match self.campaigns.get_mut(&*draft.adv_campaign_id) {
            Some(known) => {
                known.first = known.first.min(formed);
                known.last = known.last.max(formed);
                if known.newest.datetime_created < draft.datetime_created {
                    known.newest = draft.clone();
                }
            }
            None => {
                let restored = Restored { newest: draft.clone(), first: formed, last: formed };
                self.campaigns.insert(draft.adv_campaign_id.clone().into_owned(), restored);
            }
        }
        Ok(())
    }

    /// The drafts from the first on.
    fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<FoundDraft<'static>>>> {
        self.file.flush()?;
        let mut file = self.file.get_ref().try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let lines = BufReader::new(file).lines();
        Ok(lines.map(|line| Ok(serde_json::from_str::<FoundDraft<'_>>(&line?)?.into_owned())))
    }
}

fn described(evidence: &Evidence, scanned: &Scanned) -> Vec<String> {
    let ours = &evidence.ours;
    let published = match ours.published {
        Some(seq) if seq == ours.head.seq => "known to be published".to_owned(),
        Some(seq) => format!("published at least up to {seq}"),
        None => "not known to be published".to_owned(),
    };
    let mut found = vec![
        format!("the ledger's last round is {}, {published}", ours.head.seq),
        match &evidence.theirs {
            Committed::None => "kafka holds no mark".to_owned(),
            Committed::Mark(mark) if mark.ledger == ours.ledger => {
                format!("kafka's mark is of round {}, revision {}", mark.head.seq, mark.head.revision)
            }
            Committed::Mark(mark) => format!("kafka's mark is of round {} of another ledger", mark.head.seq),
            Committed::Foreign(text) => format!("kafka's mark was written by something else: {text}"),
        },
        format!("the topic holds {} drafts of this lane, up to round {}", scanned.messages, scanned.newest),
        format!(
            "{} of them have no row, or another one, of {} campaigns",
            scanned.missing.drafts,
            scanned.missing.campaigns.len()
        ),
    ];
    if evidence.told + evidence.untold > 0 {
        found.push(format!(
            "of the ledger's last round, {} drafts are in the topic and {} are not",
            evidence.told, evidence.untold
        ));
    }
    found
}

fn announced(decision: &Decision, evidence: &Evidence, scanned: &Scanned) -> Vec<String> {
    let seq = evidence.ours.head.seq;
    let mut done = Vec::new();
    if scanned.missing.drafts > 0 {
        done.push(format!("{} rows are written as their messages say", scanned.missing.drafts));
    }
    done.push(match decision.last {
        LastRound::Published => format!("round {seq} is published"),
        LastRound::PublishedInPart => format!(
            "round {seq} is published but for {} drafts, which are taken back: a later round tells those clients, as far as their campaigns run",
            evidence.untold
        ),
        LastRound::Unpublished => format!("round {seq} is not published: the lane publishes it when it is entered"),
    });
    if decision.head.seq > seq {
        done.push(format!("the lane goes on behind round {}", decision.head.seq));
    }
    if decision.overrule {
        done.push("the lane writes its mark anew when it is entered".to_owned());
    }
    done
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
