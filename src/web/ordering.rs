//! Orders of operators. Each is carried out to its end, also where the browser that gave it has gone: a replay that is cut off would leave
//! letters in doubt.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::identity::Role;
use super::refusal::Refusal;
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::audit::note_alone;

/// Most orders at once.
const MAX_ORDERS: usize = 8;
/// How long is waited until a sign-in or a refusal is kept.
const NOTE: Duration = Duration::from_secs(2);

/// Orders that are being carried out.
#[derive(Debug, Default)]
pub struct Orders {
    running: Mutex<JoinSet<()>>,
}

impl Orders {
    /// Carries an order out, and returns what came of it. It goes on if nobody waits for it any more.
    pub async fn carry_out<T: Send + 'static>(
        &self,
        order: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (done, wait) = oneshot::channel();
        self.begin(async move {
            // Nobody may wait for it any more.
            let _ = done.send(order.await);
        })
        .await?;
        let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the order broke off: see the log");
        wait.await.map_err(failed)
    }

    /// Begins what is carried out to its end.
    pub async fn begin(&self, order: impl Future<Output = ()> + Send + 'static) -> Result<(), Refusal> {
        let mut running = self.running.lock().await;
        while running.try_join_next().is_some() {}
        if running.len() >= MAX_ORDERS {
            let text = "other orders are being carried out: try again in a moment";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        running.spawn(order);
        Ok(())
    }

    /// Keeps that somebody signed in.
    pub async fn note_signed_in(&self, feedback: &Pool, by: &Orderer, role: Role) {
        tracing::info!(name = by.who, role = role.name(), "signed in");
        self.note(feedback, by.clone(), Action::SignedIn, format!("as {}", role.name())).await;
    }

    /// Keeps that a viewer would have ordered.
    pub async fn note_refused(&self, feedback: &Pool, by: &Orderer, path: &str) {
        tracing::info!(name = by.who, path, "refused: a viewer does not order");
        self.note(feedback, by.clone(), Action::Refused, format!("a viewer asked for {path}")).await;
    }

    /// Keeps what changes nothing else. It is done though the ledger does not answer, and anyone who waits for it waits a moment only.
    async fn note(&self, feedback: &Pool, by: Orderer, action: Action, details: String) {
        let feedback = feedback.clone();
        let noting = self.carry_out(async move {
            let noted = note_alone(&feedback, &by, action, Subject::Service, &details).await;
            if let Err(error) = noted {
                tracing::warn!(%error, action = action.name(), "this could not be kept in dinnerbell.audit");
            }
        });
        // Either way it is in the log.
        let _ = timeout(NOTE, noting).await;
    }
}
