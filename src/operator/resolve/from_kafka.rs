//! `--from-kafka`: the output topic is right about what was told, and the ledger is put back by it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::operator::resolve::access::MAX_ATTEMPTS;
use crate::operator::resolve::case::{Case, Own};
use crate::operator::resolve::compare::compare;
use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::report::{announced, described};
use crate::operator::resolve::request::FromKafka;
use crate::operator::resolve::spool::Spool;
use crate::operator::resolve::topic::{Scanned, Topic};
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::halt::{Halt, HaltKind};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::ownership::AcquiredLane;
use dinnerbell_core::model::reconcile::LedgerSide;
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};
use dinnerbell_core::recovery::decide::{Decision, Evidence, decide};
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::PostgresLedger;
use dinnerbell_postgres::ledger::resolve::{LaneRow, Mended, Repair, lane_row, release};

/// Drafts that are inserted in one statement.
const BATCH: usize = 1_000;

/// The outcome of a lane.
pub(super) type Outcome = (Lane, Result<Resolved, ResolveError>);

/// Mends the ledger by what the output topic holds.
pub(super) struct LedgerRepair<'a> {
    pub(super) config: &'a Config,
    pub(super) pool: Pool,
    pub(super) broker: KafkaBroker,
    pub(super) writer: PostgresLedger,
    pub(super) ledger: uuid::Uuid,
    pub(super) resolution: FromKafka,
    pub(super) dry_run: bool,
    pub(super) by: &'a Orderer,
    pub(super) progress: &'a ProgressBar,
}

impl LedgerRepair<'_> {
    /// Mends the first, and compares the second. The outcome of each lane: what fails in one ends none of the others.
    pub(super) async fn run(self, lost: Vec<(Lane, LaneRow)>, waiting: Vec<(Lane, LaneRow)>) -> Vec<Outcome> {
        let mut compared = Vec::new();
        for (lane, before) in &waiting {
            compared.push((*lane, self.compare(*lane, before).await));
        }
        let mut outcomes = self.hold_and_mend(lost).await;
        self.progress.finish_and_clear();
        self.broker.close(Duration::from_secs(1)).await;
        outcomes.extend(compared);
        outcomes
    }

    /// Compares a lane: nobody waits for it any more.
    async fn compare(&self, lane: Lane, before: &LaneRow) -> Result<Resolved, ResolveError> {
        let mut outcome = Resolved::begin(lane, self.dry_run, before);
        outcome
            .done
            .push("it is compared with what Kafka holds: the other lanes do not wait for it any more".to_owned());
        if self.dry_run {
            return Ok(outcome);
        }
        compare(&self.broker, &self.writer, lane).await?;
        Ok(outcome)
    }

    /// Makes the lanes stand still, their owners included, mends them, and lets those go again that this command halted and could not mend.
    async fn hold_and_mend(&self, lanes: Vec<(Lane, LaneRow)>) -> Vec<Outcome> {
        let mut halted = BTreeSet::new();
        let (mut held, mut outcomes) = (Vec::new(), Vec::new());
        for (lane, before) in lanes {
            match self.case(lane, before, &mut halted).await {
                Ok(case) => held.push(case),
                Err(error) => outcomes.push((lane, Err(error))),
            }
        }
        outcomes.extend(self.mend(held).await);
        outcomes.sort_by_key(|(lane, _)| *lane);
        for (lane, _) in outcomes.iter().filter(|(lane, done)| done.is_err() && halted.contains(lane)) {
            // Only what is still held by this command; if this fails too, the halt's remedy says what to do.
            let _ = release(&self.pool, *lane, &HaltKind::BeingResolved, &self.by.to_string()).await;
        }
        outcomes
    }

    /// Takes the lane unless this is a dry run, and looks at both sides. Adds the lane to `halted` where this halts it.
    async fn case(&self, lane: Lane, before: LaneRow, halted: &mut BTreeSet<Lane>) -> Result<Case, ResolveError> {
        let own = match self.dry_run {
            true => None,
            false => {
                let AcquiredLane { ownership, comparison, .. } = self.hold(lane, halted).await?;
                // Fences former owners' producers: when this returns, none of their transactions is open or about to be committed.
                drop(self.broker.producer(lane).await?);
                Some(Own { own: ownership, comparison })
            }
        };
        let theirs = self.broker.committed(lane).await?;
        let lane_row = lane_row(&self.pool, lane).await?.ok_or_else(|| moved(lane))?;
        Ok(Case { lane, before, own, lane_row, theirs, covered: true })
    }

    /// Takes the lane, and halts it unless it is. An owner that was sent away takes it over again at once, and may come in between.
    async fn hold(&self, lane: Lane, halted: &mut BTreeSet<Lane>) -> Result<AcquiredLane, ResolveError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let acquired = self.writer.acquire(lane, None).await?;
            if acquired.halt.is_some() {
                return Ok(acquired);
            }
            let found = format!("{} looks at what Kafka holds of the lane", self.by);
            let halt = Halt::new(HaltKind::BeingResolved, lane, found);
            match self.writer.halt(acquired.ownership, halt).await {
                Err(LedgerError::NotMine(_)) if attempts < MAX_ATTEMPTS => {}
                Err(error @ LedgerError::NotMine(_)) => return Err(error.into()),
                written => {
                    // It may be written though the answer did not come.
                    halted.insert(lane);
                    return Ok(written.map(|()| acquired)?);
                }
            }
        }
    }

    /// Reads the topic, once for all lanes that are held, and mends each of them.
    async fn mend(&self, mut held: Vec<Case>) -> Vec<Outcome> {
        if held.is_empty() {
            return Vec::new();
        }
        let topic = Topic {
            config: self.config,
            pool: &self.pool,
            broker: &self.broker,
            since: self.resolution.since,
            progress: self.progress,
        };
        let found = match topic.read(&mut held).await {
            Ok(found) => found,
            Err(error) => return all_failed(&held, error),
        };
        let mut outcomes = Vec::new();
        for (case, scanned) in held.iter().zip(found) {
            outcomes.push((case.lane, self.apply_decision(case, scanned).await));
        }
        outcomes
    }

    /// Decides about a lane by what was found, and writes it.
    async fn apply_decision(&self, case: &Case, scanned: Scanned) -> Result<Resolved, ResolveError> {
        let evidence = Evidence {
            ours: ledger_side(self.ledger, &case.lane_row),
            theirs: case.theirs.clone(),
            newest_in_topic: scanned.newest,
            told: scanned.told,
            untold: scanned.untold.values().map(|clients| clients.len() as u64).sum(),
            covered: case.covered,
            assumed: self.resolution.assumed,
        };
        let decision = decide(&evidence).map_err(|untold| ResolveError::Refused(untold.to_string()))?;
        let mut outcome = Resolved::begin(case.lane, self.dry_run, &case.before);
        outcome.found = described(&evidence, &scanned);
        outcome.done = announced(&decision, &evidence, &scanned);
        if let Some(own) = case.own.clone() {
            outcome.mended = self.write(own, &case.lane_row, &decision, scanned).await?;
        }
        Ok(outcome)
    }

    /// Writes it, as often as an owner takes the lane over meanwhile and leaves it as it was.
    async fn write(
        &self,
        mut own: Own,
        lane_row: &LaneRow,
        decision: &Decision,
        mut scanned: Scanned,
    ) -> Result<Mended, ResolveError> {
        let untold = std::mem::take(&mut scanned.untold);
        let lanes = self.broker.lanes().await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.write_once(&own, lanes, lane_row, decision, &untold, &mut scanned.missing).await {
                Err(ResolveError::Ledger(error))
                    if error.failure_kind() != FailureKind::Refused && attempts < MAX_ATTEMPTS =>
                {
                    // What was read of Kafka was read in the comparison of before.
                    own.own = self.writer.acquire(own.own.lane, None).await?.ownership;
                }
                written => return written,
            }
        }
    }

    async fn write_once(
        &self,
        own: &Own,
        lanes: i32,
        lane_row: &LaneRow,
        decision: &Decision,
        untold: &BTreeMap<String, Vec<String>>,
        missing: &mut Spool,
    ) -> Result<Mended, ResolveError> {
        let mut mending = self.writer.begin_mending(own.own, lane_row).await?;
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
        Ok(mending
            .commit(&Repair { lane_row, decision, campaigns, untold, by: &self.by.to_string(), compared })
            .await?)
    }
}

/// The ledger's side of the comparison.
pub(super) fn ledger_side(ledger: uuid::Uuid, lane_row: &LaneRow) -> LedgerSide {
    // The topic is read, whatever the ledger knows.
    let LaneRow { head, previous, published, .. } = *lane_row;
    LedgerSide { ledger, head, previous, published, compared: true }
}

/// The topic could not be read: none of these lanes is mended.
fn all_failed(held: &[Case], error: ResolveError) -> Vec<Outcome> {
    let why = error.to_string();
    held.iter().map(|case| (case.lane, Err(ResolveError::Refused(why.clone())))).collect()
}

fn moved(lane: Lane) -> ResolveError {
    ResolveError::Refused(format!("lane {lane} changed meanwhile: look at `dinnerbell lane list`"))
}
