//! The lanes of an instance: one task for each lane that the group assigns, none that outlives its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::lane::context::LaneContext;
use crate::lane::lifecycle;
use crate::model::number::Lane;
use crate::ports::audience::Audience;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::ledger::Ledger;
use crate::shutdown::stopped;

/// How long lanes may take to finish their rounds in flight when the service stops: the rest of its ten seconds is for leaving.
const DRAIN: Duration = Duration::from_secs(6);
/// How long a lane that ended though it is still assigned is left alone.
const START_AGAIN: Duration = Duration::from_millis(500);

struct Task {
    stop: watch::Sender<bool>,
    id: Id,
}

/// Runs a task for each assigned lane until the stop; returns when all have ended.
pub async fn supervise<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: Arc<LaneContext<B, L, A, C>>,
    mut assigned: watch::Receiver<BTreeSet<Lane>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut lanes: BTreeMap<Lane, Task> = BTreeMap::new();
    loop {
        let wanted = assigned.borrow_and_update().clone();
        for (lane, task) in &lanes {
            if !wanted.contains(lane) {
                task.stop.send_replace(true);
            }
        }
        for lane in wanted {
            lanes.entry(lane).or_insert_with(|| {
                let (stop, stopped) = watch::channel(false);
                let id = tasks.spawn(lifecycle::run_until_stopped(Arc::clone(&cx), lane, stopped)).id();
                Task { stop, id }
            });
        }
        let ended = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            changed = assigned.changed() => if changed.is_err() { break } else { None },
            Some(ended) = tasks.join_next_with_id() => Some(ended),
        };
        let Some(ended) = ended else { continue };
        let id = match ended {
            Ok((id, ())) => id,
            Err(failed) => {
                tracing::error!(error = %failed, "a lane's task failed; it is taken over again");
                failed.id()
            }
        };
        lanes.retain(|_, task| task.id != id);
        // Left because of the group, or failed: the next assignment, or a moment, starts it again.
        let news = async {
            tokio::select! {
                _ = assigned.changed() => {}
                () = stopped(&mut stop) => {}
            }
        };
        let _ = tokio::time::timeout(START_AGAIN, news).await;
    }
    drain(&mut tasks, lanes).await;
}

/// Lets the rounds in flight finish, for a bounded time.
async fn drain(tasks: &mut JoinSet<()>, lanes: BTreeMap<Lane, Task>) {
    for task in lanes.values() {
        task.stop.send_replace(true);
    }
    let deadline = Instant::now() + DRAIN;
    while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
    if !tasks.is_empty() {
        tracing::warn!(lanes = tasks.len(), "rounds in flight did not finish in time; the next owner takes them up");
        tasks.shutdown().await;
    }
}
