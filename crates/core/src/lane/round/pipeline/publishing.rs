//! Publishes a recorded round within the memory that its messages may take. What comes of it is the ticket for the next one.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::{CommitTicket, PublishOutcome};
use crate::instance::memory_budget::Reserved;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::RETRY_BACKOFF;
use crate::lane::locks;
use crate::lane::round::publish::publish;
use crate::lane::takeover;
use crate::model::lock::LockedPart;
use crate::model::ownership::AcquiredLane;
use crate::model::recorded::{Published, Recorded};
use crate::model::round::RoundContent;
use crate::ports::broker::{Broker, BrokerError};
use crate::ports::clock::Clock;
use crate::ports::ledger::Ledger;
use crate::telemetry;

/// Publishes a recorded round; the memory of its drafts is free afterwards.
pub(super) async fn publish_round<B: Broker, L, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    backlog: &LaneBacklog,
    producer: B::Producer,
    recorded: Recorded,
    content: Arc<RoundContent>,
    reservation: Reserved,
) -> Result<PublishOutcome<B::Producer>, LaneError> {
    let began = Instant::now();
    let (producer, published) = send(cx, backlog, producer, &recorded).await?;
    drop(reservation);
    cx.telemetry.step(telemetry::RoundStep::Publish, began.elapsed());
    cx.telemetry.published(recorded.publication().lane, &content);
    let finished = content.parts.iter().any(|part| part.page.as_ref().is_some_and(|page| page.last));
    Ok(CommitTicket { producer, delivery: published.delivery(), published, ledger_knows: false, finished })
}

/// Looks at a round that was found recorded, and locked by somebody else, until it is free; then publishes what is left of it.
pub(super) async fn publish_when_free<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    backlog: &LaneBacklog,
    producer: B::Producer,
    mut acquired: AcquiredLane,
) -> Result<PublishOutcome<B::Producer>, LaneError> {
    let lane = acquired.ownership.lane;
    let mut backoff = RETRY_BACKOFF;
    let recorded = loop {
        sleep(backoff.failed()).await;
        match takeover::read_back_last_round(cx, &mut acquired).await {
            Ok(recorded) => break recorded,
            Err(error) => match locks::waited_for(&error) {
                Some(wait) => locks::show_wait(cx, lane, LockedPart::Round, Some(wait)).await,
                None => return Err(error),
            },
        }
    };
    locks::show_wait(cx, lane, LockedPart::Round, None).await;
    if acquired.locked_rows {
        backlog.notify_locked_rows();
    }
    publish_round_again(cx, backlog, producer, recorded).await
}

/// Publishes a round that was found recorded at the takeover.
pub(super) async fn publish_round_again<B: Broker, L, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    backlog: &LaneBacklog,
    producer: B::Producer,
    recorded: Recorded,
) -> Result<PublishOutcome<B::Producer>, LaneError> {
    let (producer, published) = send(cx, backlog, producer, &recorded).await?;
    cx.telemetry.published_again(recorded.publication().lane, recorded.drafts());
    // What the round finished is not known here: the ledger learns of it soon.
    Ok(CommitTicket { producer, delivery: published.delivery(), published, ledger_knows: false, finished: true })
}

/// Publishes a recorded round within the memory that its messages may take, unless one of its campaigns is not open by then.
pub(super) async fn send<B: Broker, L, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    backlog: &LaneBacklog,
    producer: B::Producer,
    recorded: &Recorded,
) -> Result<(Option<B::Producer>, Published), LaneError> {
    let _on_their_way = cx.memory.for_publication(recorded.publication().wire_bytes()).await;
    let published = publish(producer, recorded, &cx.clock, &cx.pause, backlog.changed_windows(), cx.guards).await;
    match &published {
        Ok(_) if !recorded.publication().dead_letters.is_empty() => cx.dead_letter_topic.accepted(),
        // At the takeover they are taken out of the round.
        Err(LaneError::Broker(error @ BrokerError::DeadLetters { .. })) => cx.dead_letter_topic.refused(error),
        _ => {}
    }
    published
}
