//! Whether the topics that are written to are still those that the ledger knows. At the takeover they are compared with it, and while a lane runs
//! with what was found then, also where there is nothing to write. A lane halts when the topic of the drafts is another one. What was written to the
//! old one is gone. An operator decides whether those clients are told once more. Letters stay in the ledger, so that their topic holds up nothing.

use std::convert::Infallible;
use std::time::Duration;

use crate::guard::Guard;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy;
use crate::model::output_topics::{OutputTopicIds, is_new};
use crate::model::ownership::{AcquiredLane, Ownership};
use crate::periodic::Periodic;
use crate::ports::broker::{Broker, BrokerError};
use crate::ports::ledger::Ledger;

/// How often a lane that runs checks. All lanes of an instance share what Kafka answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Compares them with the ledger's, which learns what it does not know. Returns what was found.
pub(super) async fn compare<B: Broker, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &AcquiredLane,
) -> Result<OutputTopicIds, LaneError> {
    let (known, now) = (&acquired.outputs, cx.broker.output_ids().await?);
    if let (Some(known), Some(now)) = (&known.notifications, &now.notifications)
        && known != now
        && cx.guards.enabled(Guard::DraftsTopicCompared)
    {
        return Err(LaneError::Halt(error_policy::drafts_topic_replaced(acquired.ownership.lane, known, now)));
    }
    let is_news = known.notifications.is_none() && now.notifications.is_some();
    if is_news || (now.dead_letters.is_some() && known.dead_letters != now.dead_letters) {
        note(cx, acquired.ownership, &now).await?;
    }
    Ok(now)
}

/// Checks every five seconds whether they are still the ones that the takeover found. It ends with a transient error when the topic of the drafts is
/// another one, or came where none was, or with the ledger's error. What Kafka does not answer is asked again.
pub(super) async fn watch<B: Broker, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    mut known: OutputTopicIds,
) -> Result<Infallible, LaneError> {
    let mut checks = Periodic::later(CHECK_INTERVAL);
    loop {
        checks.due().await;
        let Ok(now) = cx.broker.output_ids().await else { continue };
        if is_new(known.notifications.as_deref(), now.notifications.as_deref()) {
            // Whether the ledger takes it is asked at the takeover: an operator may have decided so meanwhile.
            let reason = "the topic of the drafts was recreated".to_owned();
            return Err(BrokerError::Transient(reason).into());
        }
        if is_new(known.dead_letters.as_deref(), now.dead_letters.as_deref()) {
            note(cx, own, &now).await?;
            known.dead_letters = now.dead_letters;
        }
    }
}

async fn note<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    now: &OutputTopicIds,
) -> Result<(), LaneError> {
    if cx.ledger.note_outputs(own, now).await? {
        tracing::warn!(
            "the topic of dead letters was recreated: letters that were published before are not in it any more; `dinnerbell dead-letter \
             list` shows them all, and new ones go to the new topic"
        );
    }
    Ok(())
}
