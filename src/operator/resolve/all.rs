//! `--all --from-kafka`: every lane that lost commits is mended, and while all is held, every other one is compared.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::ProgressBar;

use crate::operator::resolve::access::{connect, writer};
use crate::operator::resolve::from_kafka::{LedgerRepair, Outcome, ledger_side};
use crate::operator::resolve::outcome::{ResolveError, Resolved, unknown};
use crate::operator::resolve::request::FromKafka;
use crate::operator::{find_own_ledger, hold};
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::halt::{CommitLoss, HaltKind, HaltResolution};
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::reconcile::{LedgerSide, Reconciled, reconcile};
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::lane_row;

/// Mends by what Kafka holds every lane that lost commits, contradicts Kafka, or was halted by a command that ended early. The topic is read once for
/// all of them. While all is held, every other lane that was not compared with Kafka is compared, with an owner or without. What was found and done
/// in each lane; those that stand well are left alone. Fails where a lane could not be mended or compared, and names each: the others are done.
pub async fn resolve_all(
    config: &Config,
    resolution: FromKafka,
    dry_run: bool,
    by: &Orderer,
    progress: &ProgressBar,
) -> Result<Vec<Resolved>, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let Some(own_ledger) = find_own_ledger(&pool, &config.kafka).await?.map_err(ResolveError::Refused)? else {
        return Err(unknown(Lane::new(0)));
    };
    let broker = connect(config, &own_ledger).await?;
    let held: BTreeSet<Lane> = hold::current(&pool).await?.map_or_else(BTreeSet::new, |hold| hold.lanes().collect());
    let (mut lost, mut waiting) = (Vec::new(), Vec::new());
    for lane in Lane::all(broker.lanes().await?) {
        // Read first: a ledger that lost nothing is never behind a mark that was read before it.
        let theirs = broker.committed(lane).await?;
        let Some(found) = lane_row(&pool, lane).await? else { continue };
        let is_held = held.contains(&lane);
        let ours = LedgerSide { compared: !is_held, ..ledger_side(own_ledger.ledger, &found) };
        if found.halted.as_ref().is_some_and(is_mended_from_kafka) || lost_commits(&ours, &theirs, is_held) {
            lost.push((lane, found));
        } else if is_held {
            waiting.push((lane, found));
        }
    }
    let writer = writer(config, &pool, by).await?;
    let repair =
        LedgerRepair { config, pool, broker, writer, ledger: own_ledger.ledger, resolution, dry_run, by, progress };
    all_of(repair.run(lost, waiting).await)
}

/// Whether this command ends the halt. If another one is at work in a lane that is being resolved, the later one of the two finds the lane changed.
fn is_mended_from_kafka(halt: &HaltKind) -> bool {
    halt.only_resolution() == Some(HaltResolution::FromKafka) || *halt == HaltKind::BeingResolved
}

/// The outcome of all lanes; fails where one was not resolved, and names each such.
fn all_of(lanes: Vec<Outcome>) -> Result<Vec<Resolved>, ResolveError> {
    let mut resolved = Vec::new();
    let mut failed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (lane, outcome) in lanes {
        match outcome {
            Ok(outcome) => resolved.push(outcome),
            Err(error) => failed.entry(error.to_string()).or_default().push(format!("lane {lane}")),
        }
    }
    let said: Vec<String> = failed.into_iter().map(|(why, lanes)| format!("{}: {why}", lanes.join(", "))).collect();
    if said.is_empty() { Ok(resolved) } else { Err(ResolveError::Refused(said.join("; "))) }
}

/// Whether the ledger lost commits, though no lane may have halted yet. While all is held, it is enough that it may have lost some.
fn lost_commits(ours: &LedgerSide, theirs: &CommittedOffset, is_held: bool) -> bool {
    let Reconciled::Contradiction(kind) = reconcile(ours, theirs) else { return false };
    match kind.halt().commit_loss() {
        CommitLoss::Certain => true,
        CommitLoss::Possible => is_held,
        CommitLoss::Nothing => false,
    }
}
