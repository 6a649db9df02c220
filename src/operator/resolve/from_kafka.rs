//! `--from-kafka`: the output topic is right about what was told, and the ledger is put back by it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::operator::resolve::access::MOST_ATTEMPTS;
use crate::operator::resolve::case::{Case, Own};
use crate::operator::resolve::compare::compare;
use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::report::{announced, described};
use crate::operator::resolve::request::FromKafka;
use crate::operator::resolve::spool::Spool;
use crate::operator::resolve::topic::{Scanned, Topic};
use dinnerbell_config::Config;
use dinnerbell_core::model::halt::{Halt, HaltKind};
use dinnerbell_core::model::ownership::Entered;
use dinnerbell_core::model::reconcile::LedgerSide;
use dinnerbell_core::model::record::Lane;
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};
use dinnerbell_core::recovery::decide::{Decision, Evidence, decide};
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::PostgresLedger;
use dinnerbell_postgres::ledger::resolve::{LaneRow, Mended, Repair, release, standing};

/// Drafts that are inserted in one statement.
const BATCH: usize = 1_000;

/// Mends the ledger by what the output topic holds.
pub(super) struct LedgerRepair<'a> {
    pub(super) config: &'a Config,
    pub(super) pool: Pool,
    pub(super) broker: KafkaBroker,
    pub(super) writer: PostgresLedger,
    pub(super) ledger: uuid::Uuid,
    pub(super) resolution: FromKafka,
    pub(super) dry_run: bool,
    pub(super) by: &'a str,
    pub(super) progress: &'a ProgressBar,
}

impl LedgerRepair<'_> {
    /// Mends the first, and compares the second. What fails in one lane is said when all others were done.
    pub(super) async fn run(
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

    /// Makes the lanes stand still, whoever owns them, and lets those go again that were not halted and cannot be mended.
    async fn hold_and_mend(&self, lanes: &[(Lane, LaneRow)]) -> Result<Vec<Resolved>, ResolveError> {
        let mended = self.mend(lanes).await;
        if mended.is_err() && !self.dry_run {
            for (lane, _) in lanes.iter().filter(|(_, before)| before.halted.is_none()) {
                // Only what is still held by this command; if this fails too, the halt's remedy says what to do.
                let _ = release(&self.pool, *lane, &HaltKind::BeingResolved, self.by).await;
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
            let found = format!("{} looks at what Kafka holds of the lane", self.by);
            let halt = Halt::new(HaltKind::BeingResolved, lane, found);
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
        let topic = Topic {
            config: self.config,
            pool: &self.pool,
            broker: &self.broker,
            since: self.resolution.since,
            progress: self.progress,
        };
        let found = topic.read(&mut held).await?;
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
        let mut outcome = Resolved::begin(case.lane, self.dry_run, &case.before);
        outcome.found = described(&evidence, &scanned);
        outcome.done = announced(&decision, &evidence, &scanned);
        if let Some(own) = case.own.clone() {
            outcome.mended = self.write(own, &case.standing, &decision, scanned).await?;
        }
        Ok(outcome)
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
                Err(ResolveError::Ledger(error))
                    if error.failure_kind() != FailureKind::Refused && attempts < MOST_ATTEMPTS =>
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

/// The ledger's side of the comparison.
pub(super) fn ledger_side(ledger: uuid::Uuid, standing: &LaneRow) -> LedgerSide {
    // The topic is read, whatever the ledger knows.
    let LaneRow { head, previous, published, .. } = *standing;
    LedgerSide { ledger, head, previous, published, compared: true }
}

fn moved(lane: Lane) -> ResolveError {
    ResolveError::Refused(format!("lane {lane} changed meanwhile: look at `dinnerbell lane list`"))
}
