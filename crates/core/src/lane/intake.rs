//! What arrived is recorded and the input position moves, in one small ledger transaction that never waits for a round.
//!
//! What a record becomes is decided in [`crate::model::rules`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::fail_point::fail_point;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::model::input::{decode, incomplete};
use crate::model::intake::{IntakeBatch, IntakeOutcome};
use crate::model::number::Offset;
use crate::model::ownership::Ownership;
use crate::model::record::InputEvent;
use crate::ports::broker::Input;
use crate::ports::ledger::{Ledger, LedgerError};

/// Most records of one intake.
const MAX_RECORDS: usize = 500;
/// Where the number begins, and what it does not fall below: fewer would not make a transaction shorter that waits for the network.
const MIN_RECORDS: usize = 50;
/// How long an intake may take: rounds wait for it before they are recorded.
const LONG_INTAKE: Duration = Duration::from_millis(500);

/// How many records the next intake takes: an intake that took long is followed by a smaller one. It begins small, so that a lane that could
/// not record a large one in time does not try the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BatchSize(usize);

impl BatchSize {
    fn first() -> Self {
        Self(MIN_RECORDS)
    }

    fn after(self, took: Duration) -> Self {
        let Self(records) = self;
        Self(if took > LONG_INTAKE { records / 2 } else { records * 2 }.clamp(MIN_RECORDS, MAX_RECORDS))
    }
}

/// Takes in what arrives in a lane, until something fails.
pub async fn take_in<B, L: Ledger, A, C, I: Input>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    mut input: I,
    mut position: Offset,
    backlog: &LaneBacklog,
) -> Result<std::convert::Infallible, LaneError> {
    let mut size = BatchSize::first();
    loop {
        let arrived = input.next(size.0).await?;
        let batch = batch(position, arrived);
        if batch.to == position {
            continue;
        }
        position = batch.to;
        let batch = Arc::new(batch);
        let (outcome, took) = record(cx, own, &batch, backlog).await?;
        fail_point("intake.recorded");
        size = size.after(took);
        cx.telemetry.took_in(own.lane, &outcome, &batch, took);
        outcome.started.iter().for_each(|started| cx.recent_campaigns.add(started.id()));
        backlog.add(outcome);
        cx.telemetry.waiting_dead_letters(own.lane, backlog.waiting_dead_letters());
    }
}

/// Records a batch, once the ledger is known to have lost nothing. Until then, what arrives could be known already to a lane whose commits are
/// missing. Returns what came of it, and how long it took. While it waits for that it holds nothing: an operator's cancel is applied meanwhile.
async fn record<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    batch: &Arc<IntakeBatch>,
    backlog: &LaneBacklog,
) -> Result<(IntakeOutcome, Duration), LedgerError> {
    let bytes: usize = batch.records.iter().map(|(record, _)| record.size()).sum();
    loop {
        cx.pause.until_not_held().await;
        // Memory last: a holder of memory must not wait for a round.
        let changes = backlog.lock_intake().await;
        let memory = cx.memory.for_intake(bytes).await;
        let began = Instant::now();
        match cx.ledger.intake(own, Arc::clone(batch)).await {
            Err(LedgerError::OnHold) => {
                drop((memory, changes));
                // The last reading is older than the hold.
                cx.pause.next_reading().await;
            }
            outcome => return Ok((outcome?, began.elapsed())),
        }
    }
}

/// Decodes what arrived; records below the position are ones that were taken in before.
fn batch(from: Offset, arrived: Vec<InputEvent>) -> IntakeBatch {
    let mut batch = IntakeBatch { from, to: from, records: Vec::with_capacity(arrived.len()) };
    for arrived in arrived {
        match arrived {
            InputEvent::Record(record) if record.offset >= batch.to => {
                batch.to = record.offset.next();
                let decoded = match &record.omitted {
                    None => decode(record.key.as_deref(), record.value.as_deref()),
                    Some(omitted) => incomplete(omitted),
                };
                batch.records.push((record, decoded));
            }
            InputEvent::Record(_) => {}
            InputEvent::End(offset) => batch.to = batch.to.max(offset),
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intake_that_takes_long_is_followed_by_smaller_ones_until_one_does_not() {
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(2));
        let grown = (0..5).fold(BatchSize::first(), |size, _| size.after(short));
        assert_eq!(grown, BatchSize(MAX_RECORDS));
        assert_eq!(grown.after(long), BatchSize(MAX_RECORDS / 2));
        assert_eq!(grown.after(long).after(short), grown);
        let shrunk = (0..9).fold(grown, |size, _| size.after(long));
        assert_eq!(shrunk, BatchSize(MIN_RECORDS), "a slow network is no reason to take in less and less");
    }
}
