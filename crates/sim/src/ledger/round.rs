//! A round's transaction in the simulated ledger.

use std::sync::Arc;

use tokio::time::sleep;

use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::due::RunningCampaign;
use dinnerbell_core::model::late::LateQuery;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::model::round::{RoundContent, Sealed};
use dinnerbell_core::ports::ledger::{LedgerError, RoundTransaction};

use super::{KEEPALIVE, POLL_INTERVAL, TIME_LIMIT};
use crate::faults::Server;
use crate::server::Caller;
use crate::tables::{Transaction, ended};
use crate::world::{Instance, WorldState};

/// The simulated [`RoundTransaction`]: an open transaction. Dropped, it is rolled back, as soon as the server notices.
pub struct SimRound {
    pub(super) instance: Instance,
    pub(super) own: Ownership,
    pub(super) transaction: Option<u64>,
}

impl SimRound {
    pub(super) async fn statement<T: Send + 'static>(
        &self,
        request: &'static str,
        read: impl FnOnce(&mut WorldState, u64) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.statement_after(request, |_, _| false, read).await
    }

    /// A statement that waits as long as something is in its way.
    pub(super) async fn statement_after<T: Send + 'static>(
        &self,
        request: &'static str,
        must_wait: impl Fn(&WorldState, u64) -> bool + Send + 'static,
        read: impl FnOnce(&mut WorldState, u64) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let transaction = self.transaction.ok_or_else(ended)?;
        let world = self.instance.world.clone();
        let served = |caller: Caller| async move {
            let takes = world.state().work();
            if !takes.is_zero() {
                sleep(takes).await;
            }
            loop {
                {
                    let mut state = world.state();
                    if !state.database.transactions.contains_key(&transaction) {
                        return Err(ended());
                    }
                    if !must_wait(&state, transaction) {
                        return read(&mut state, transaction);
                    }
                    if caller.is_gone() {
                        return Err(ended());
                    }
                }
                sleep(POLL_INTERVAL).await;
            }
        };
        self.instance.ask(request, Server::Feedback, TIME_LIMIT, served).await?
    }
}

impl Drop for SimRound {
    fn drop(&mut self) {
        let Some(transaction) = self.transaction else { return };
        let world = self.instance.world.clone();
        let notices = {
            let mut state = world.state();
            let stays = state.harm.left_open;
            if state.random.chance(stays) { KEEPALIVE } else { state.way() }
        };
        // A runtime that ends drops what it runs: nothing is left to roll back then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            sleep(notices).await;
            world.state().database.transactions.remove(&transaction);
        });
    }
}

/// Those of each range who have a feedback row.
pub(super) fn told(ranges: &[ClientRange<'_>]) -> impl Fn(&WorldState) -> Vec<Clients> + Send + 'static {
    let owned = |range: &ClientRange<'_>| {
        let ClientRange { adv_campaign_id, after, upto } = *range;
        (adv_campaign_id.to_owned(), after.map(str::to_owned), upto.to_owned())
    };
    let ranges: Vec<_> = ranges.iter().map(owned).collect();
    move |state| ranges.iter().map(|(id, after, upto)| state.database.told(id, after.as_deref(), upto)).collect()
}

impl RoundTransaction for SimRound {
    async fn already_told(&mut self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
        let told = told(ranges);
        self.statement("already_told", move |state, _| Ok(told(state))).await
    }

    async fn late(&mut self, questions: &[LateQuery<'_>]) -> Result<Vec<Clients>, LedgerError> {
        let owned = |question: &LateQuery<'_>| {
            let LateQuery { adv_campaign_id, clients, planned_cursor, main_pass_over } = *question;
            (adv_campaign_id.to_owned(), clients.clone(), planned_cursor.map(str::to_owned), main_pass_over)
        };
        let questions: Vec<_> = questions.iter().map(owned).collect();
        self.statement("late", move |state, _| {
            let late =
                questions.iter().map(|(id, clients, cursor, over)| state.late(id, clients, cursor.as_deref(), *over));
            Ok(late.collect())
        })
        .await
    }

    async fn campaigns(&mut self, ids: &[&str]) -> Result<Vec<RunningCampaign>, LedgerError> {
        let (own, ids) = (self.own, ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        self.statement("campaigns", move |state, _| Ok(state.open_of(own.lane, &ids))).await
    }

    async fn dead_letters(&mut self, ids: &[i64]) -> Result<Vec<DeadLetterMessage>, LedgerError> {
        let ids = ids.to_vec();
        self.statement("letters", move |state, _| Ok(state.letters(&ids))).await
    }

    async fn abandon(mut self) -> Result<(), LedgerError> {
        let abandoned =
            self.statement("abandon", |state, transaction| state.end(transaction).map(|_: Transaction| ())).await;
        if abandoned.is_ok() {
            self.transaction = None;
        }
        abandoned
    }

    async fn copy(&mut self, content: Arc<RoundContent>) -> Result<(), LedgerError> {
        let rows = Arc::clone(&content);
        let must_wait = move |state: &WorldState, transaction| state.is_being_copied(transaction, &rows);
        self.statement_after("copy", must_wait, move |state, transaction| state.copy(transaction, &content)).await
    }

    async fn seal(mut self, head: RoundVersion, content: Arc<RoundContent>) -> Result<Sealed, LedgerError> {
        let own = self.own;
        let sealing =
            self.statement("seal", move |state, transaction| state.seal(own, transaction, head, &content)).await;
        if sealing.is_ok() {
            self.transaction = None;
        }
        sealing
    }
}
