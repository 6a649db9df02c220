//! `lane adopt`: another lane goes on with what a lane held whose partition is gone.
//!
//! A recorded round of it is settled as at the takeover: its producer is fenced, then Kafka's mark is read, which may still be there.
//! Only publishing it is impossible, since its mark would be the gone partition's: it is withdrawn, and the adopting lane tells those clients
//! again. Where nobody knows whether it was published, nothing is done.

use std::time::Duration;

use serde::Serialize;

use crate::operator::resolve::{MAX_ATTEMPTS, ResolveError, connect, unknown, writer};
use crate::operator::{OwnLedger, find_own_ledger, hold};
use dinnerbell_config::Config;
use dinnerbell_core::fail_point::fail_point;
use dinnerbell_core::lane::error_policy;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::mark::{CommittedOffset, RoundVersion};
use dinnerbell_core::model::number::{Epoch, Lane, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::reconcile::{Contradiction, LedgerSide, Reconciled, reconcile};
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::PostgresLedger;
use dinnerbell_postgres::ledger::adopt::{LastRound, Leaving, Moved, is_empty, overruled_in, would_move};
use dinnerbell_postgres::ledger::resolve::lane_row;

/// What is to be adopted.
#[derive(Debug, Clone)]
pub struct Request {
    /// The lane whose partition is gone.
    pub lane: Lane,
    /// The lane that goes on.
    pub into: Lane,
    /// Only look.
    pub dry_run: bool,
    /// Who asks; kept in the ledger.
    pub by: Orderer,
}

/// What was moved, or would have been.
#[derive(Debug, Clone, Serialize)]
pub struct Adoption {
    /// The lane whose partition is gone.
    pub lane: Lane,
    /// The lane that goes on.
    pub into: Lane,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Campaigns, those that are over included.
    pub campaigns: i64,
    /// Changes about them that were still to be applied.
    pub changes: i64,
    /// Dead letters that were still to be published.
    pub dead_letters: i64,
    /// The round that was recorded and never published; null where there was none.
    pub withdrawn_round: Option<Seq>,
    /// Its drafts.
    pub rows_withdrawn: i64,
    /// Those whose row stays, because somebody answered in it; null in a dry run.
    pub rows_kept: Option<i64>,
    /// Those among them whose row somebody's open transaction has locked: it goes when it is free. Null in a dry run.
    pub rows_locked: Option<i64>,
}

/// Has a lane adopt what another one held. The service may run: the adopting lane's owner notices and takes it over again.
pub async fn adopt(config: &Config, request: &Request) -> Result<Adoption, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let claimed = find_own_ledger(&pool, &config.kafka).await?.map_err(ResolveError::Refused)?;
    let Some(own_ledger) = claimed else { return Err(unknown(request.lane)) };
    for lane in [request.lane, request.into] {
        lane_row(&pool, lane).await?.ok_or_else(|| unknown(lane))?;
    }
    let broker = connect(config, &own_ledger).await?;
    let adopter = Adopter { config, pool, own_ledger, broker, request };
    let adopted = adopter.run().await;
    adopter.broker.close(Duration::from_secs(1)).await;
    adopted
}

struct Adopter<'a> {
    config: &'a Config,
    pool: Pool,
    own_ledger: OwnLedger,
    broker: KafkaBroker,
    request: &'a Request,
}

impl Adopter<'_> {
    async fn run(&self) -> Result<Adoption, ResolveError> {
        self.check_partitions().await?;
        self.check_hold().await?;
        let overruled_in = overruled_in(&self.pool, self.request.lane).await?;
        match self.request.dry_run {
            true => self.preview(overruled_in.is_some()).await,
            false => self.adopt(overruled_in).await,
        }
    }

    async fn check_partitions(&self) -> Result<(), ResolveError> {
        let Request { lane, into, .. } = *self.request;
        let topic = &self.config.kafka.topics.campaigns;
        let partitions = self.broker.lanes().await?;
        if lane.get() < partitions {
            return Err(ResolveError::Refused(format!(
                "partition {lane} of topic {topic} exists, so its lane goes on by itself; `dinnerbell lane list` says whether it is halted, \
                 and what mends it"
            )));
        }
        if into.get() >= partitions {
            return Err(ResolveError::Refused(format!(
                "topic {topic} has {partitions} partitions, numbered from 0: nobody would run lane {into} either"
            )));
        }
        Ok(())
    }

    /// While all is held, the ledger may know less than was told, of either lane.
    async fn check_hold(&self) -> Result<(), ResolveError> {
        match hold::current(&self.pool).await? {
            None => Ok(()),
            Some(hold) => Err(ResolveError::Refused(format!(
                "nothing is adopted now: {hold}; {}; then adopt again",
                hold.remedy()
            ))),
        }
    }

    /// Says what would be moved as things stand now.
    async fn preview(&self, overruled: bool) -> Result<Adoption, ResolveError> {
        let (head, last) = self.settle_last_round(overruled).await?;
        let moved = would_move(&self.pool, self.request.lane, head, last).await?;
        Ok(self.adoption(moved, head, last))
    }

    /// Takes the lane and moves what it holds. An owner that was sent away may take it over again in between.
    async fn adopt(&self, overruled_in: Option<Epoch>) -> Result<Adoption, ResolveError> {
        let writer = writer(self.config, &self.pool, &self.request.by).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let own = writer.acquire(self.request.lane, None).await?.ownership;
            // Anyone who took it over in between may have published what the operator took for unpublished.
            let overruled = overruled_in.is_some_and(|epoch| own.epoch == epoch.after(attempts));
            match self.adopt_once(&writer, own, overruled).await {
                Err(ResolveError::Ledger(error @ LedgerError::OnHold)) => {
                    self.check_hold().await?;
                    return Err(error.into());
                }
                Err(ResolveError::Ledger(error))
                    if error.failure_kind() != FailureKind::Refused && attempts < MAX_ATTEMPTS => {}
                adopted => return adopted,
            }
        }
    }

    async fn adopt_once(
        &self,
        writer: &PostgresLedger,
        own: Ownership,
        overruled: bool,
    ) -> Result<Adoption, ResolveError> {
        // Fences former owners' producers: when this returns, none of their transactions is open or about to be committed.
        drop(self.broker.producer(own.lane).await?);
        let (head, last) = self.settle_last_round(overruled).await?;
        fail_point("adopt.settled");
        let moved = writer.adopt(&Leaving { own, head, last }, self.request.into, &self.noted()).await?;
        Ok(self.adoption(moved, head, last))
    }

    /// As what the ledger keeps it.
    fn noted(&self) -> String {
        let Request { lane, into, by, .. } = self.request;
        format!("{by} {lane} --into {into}")
    }

    /// The outcome of the lane's last round.
    async fn settle_last_round(&self, overruled: bool) -> Result<(RoundVersion, LastRound), ResolveError> {
        let lane = self.request.lane;
        let theirs = self.broker.committed(lane).await?;
        let found = lane_row(&self.pool, lane).await?.ok_or_else(|| unknown(lane))?;
        let head = found.head;
        let ours = LedgerSide {
            ledger: self.own_ledger.ledger,
            head,
            previous: found.previous,
            published: found.published,
            compared: found.compared,
        };
        let empty = is_empty(&self.pool, lane, head.seq).await?;
        let last = last_round(&ours, &theirs, overruled, empty).map_err(|kind| {
            let halt = error_policy::contradiction(lane, &kind, &ours, &theirs);
            ResolveError::Refused(format!(
                "nobody knows what was published of round {} of lane {lane}: {}; {}; then adopt again",
                head.seq, halt.found, halt.remedy
            ))
        })?;
        Ok((head, last))
    }

    fn adoption(&self, moved: Moved, head: RoundVersion, last: LastRound) -> Adoption {
        let Request { lane, into, dry_run, .. } = *self.request;
        Adoption {
            lane,
            into,
            dry_run,
            campaigns: moved.campaigns,
            changes: moved.changes,
            dead_letters: moved.dead_letters,
            withdrawn_round: (last == LastRound::Unpublished && moved.withdrawn > 0).then_some(head.seq),
            rows_withdrawn: moved.withdrawn,
            rows_kept: (!dry_run).then_some(moved.kept),
            rows_locked: (!dry_run).then_some(moved.locked),
        }
    }
}

/// Whether the last round was published. `overruled`: an operator decided that the ledger is right, whatever Kafka holds. `empty`: there is
/// nothing in it to publish. A ledger that may be an older state of itself, without a mark that it can be compared with, does not even know
/// which round was the last.
fn last_round(
    ours: &LedgerSide,
    theirs: &CommittedOffset,
    overruled: bool,
    empty: bool,
) -> Result<LastRound, Contradiction> {
    if !ours.compared && matches!(theirs, CommittedOffset::None) {
        return Err(Contradiction::MarkMissing);
    }
    match reconcile(ours, theirs) {
        Reconciled::Equal | Reconciled::RestoreMark => Ok(LastRound::Published),
        Reconciled::PublishRecorded => Ok(LastRound::Unpublished),
        Reconciled::Contradiction(_) if overruled && ours.published == Some(ours.head.seq) => Ok(LastRound::Published),
        Reconciled::Contradiction(_) if overruled => Ok(LastRound::Unpublished),
        Reconciled::Contradiction(Contradiction::MarkMissing) if empty => Ok(LastRound::Unpublished),
        Reconciled::Contradiction(kind) => Err(kind),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use dinnerbell_core::model::mark::CommittedMark;

    const LEDGER: Uuid = Uuid::from_u128(1);

    fn head(seq: i64) -> RoundVersion {
        RoundVersion { seq: Seq::new(seq), revision: 0, checksum: 100 + seq }
    }

    fn mark(seq: i64) -> CommittedOffset {
        CommittedOffset::Mark(CommittedMark { ledger: LEDGER, version: head(seq) })
    }

    /// The ledger recorded round 5 and knows of the publication of this one.
    fn ours(published: i64) -> LedgerSide {
        LedgerSide {
            ledger: LEDGER,
            head: head(5),
            previous: Some(head(4)),
            published: Some(Seq::new(published)),
            compared: true,
        }
    }

    #[test]
    fn kafkas_mark_decides_while_it_is_there() {
        assert_eq!(last_round(&ours(4), &mark(5), false, false), Ok(LastRound::Published));
        assert_eq!(last_round(&ours(4), &mark(4), false, false), Ok(LastRound::Unpublished));
    }

    #[test]
    fn without_a_mark_only_a_round_that_is_known_to_be_published_or_empty_is_settled() {
        assert_eq!(last_round(&ours(5), &CommittedOffset::None, false, false), Ok(LastRound::Published));
        assert_eq!(last_round(&ours(4), &CommittedOffset::None, false, true), Ok(LastRound::Unpublished));
        assert_eq!(last_round(&ours(4), &CommittedOffset::None, false, false), Err(Contradiction::MarkMissing));
    }

    #[test]
    fn a_lane_that_was_never_compared_is_settled_by_a_mark_alone() {
        let restored = |published| LedgerSide { compared: false, ..ours(published) };
        assert_eq!(last_round(&restored(5), &mark(5), false, false), Ok(LastRound::Published));
        assert_eq!(last_round(&restored(4), &mark(4), false, false), Ok(LastRound::Unpublished));
        for (overruled, empty) in [(false, false), (false, true), (true, false)] {
            let found = last_round(&restored(5), &CommittedOffset::None, overruled, empty);
            assert_eq!(found, Err(Contradiction::MarkMissing));
        }
    }

    #[test]
    fn an_operators_word_settles_it_and_a_contradiction_never_does() {
        for theirs in [CommittedOffset::None, mark(2), mark(7), CommittedOffset::Foreign("offset 3".to_owned())] {
            assert_eq!(last_round(&ours(4), &theirs, true, false), Ok(LastRound::Unpublished));
            assert_eq!(last_round(&ours(5), &theirs, true, false), Ok(LastRound::Published));
        }
        assert_eq!(last_round(&ours(4), &mark(7), false, true), Err(Contradiction::KafkaAhead));
        assert_eq!(last_round(&ours(5), &mark(4), false, false), Err(Contradiction::KafkaBehind));
    }
}
