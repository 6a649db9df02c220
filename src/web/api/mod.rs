//! `/api/v1`: what is shown and ordered, for programs. What it answers are the structs that the commands print with `--json`, and its document is
//! made from them.
//!
//! Anyone who stands before it decides who asks, and puts an [`Identity`] into the request. What fails is told as `application/problem+json`.

mod ask;
pub mod document;
mod orders;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::web::identity::Identity;
use crate::web::problem::Problem;
use crate::web::site::Site;
use dinnerbell_core::model::audit::{Action, Orderer, Origin, Subject};
use dinnerbell_postgres::ledger::audit;

/// Requests that ask the subscribers at once, and how long one waits for its turn.
const AUDIENCES: usize = 4;
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of what is sent.
const LARGEST_BODY: usize = 64 * 1024;

/// What all answers share.
pub struct Api {
    /// What they share with the pages: the ledger, the orders that are being carried out, one look at everything at a time.
    site: Arc<Site>,
    /// How many requests ask the subscribers at a time, with a connection each.
    audiences: Semaphore,
}

impl Api {
    /// Contacts nobody.
    pub fn new(site: Arc<Site>) -> Self {
        Self { site, audiences: Semaphore::new(AUDIENCES) }
    }

    /// Who orders, if they may. A refusal is kept.
    async fn orderer(&self, identity: &Identity, subject: Subject<'_>, what: &str) -> Result<Orderer, Problem> {
        let by = Orderer {
            who: identity.name.clone(),
            by: "api".to_owned(),
            origin: Origin::Api,
            host: self.site.machine.clone(),
        };
        if identity.role.may_order() {
            return Ok(by);
        }
        audit::note_alone(
            &self.site.feedback,
            &by,
            Action::Refused,
            subject,
            &format!("{what}: a viewer does not order"),
        )
        .await?;
        Err(Problem::new(StatusCode::FORBIDDEN, "a viewer may look and does not order: ask with the operators' token"))
    }

    /// Waits until the subscribers may be asked.
    async fn audience(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match timeout(TIME_LIMIT, self.audiences.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "others ask about audiences: try again in a moment"))
            }
        }
    }

    /// Carries an order out, and returns what came of it. It goes on if nobody waits for it any more.
    async fn carry_out<T: Send + 'static>(
        &self,
        order: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.site.orders.carry_out(order).await.map_err(|refusal| Problem::new(refusal.status(), refusal.text()))
    }
}

/// All paths, from `/` on: to be nested under `/api/v1`.
pub fn router(api: Arc<Api>) -> Router {
    let nowhere = || async { Problem::new(StatusCode::NOT_FOUND, "there is no such path: see openapi.json") };
    let no_method = || async { Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method: see openapi.json") };
    Router::new()
        .route("/openapi.json", get(document::serve))
        .route("/now", get(reads::now))
        .route("/campaigns", get(reads::campaigns))
        .route("/campaigns/{id}", get(reads::campaign))
        .route("/campaigns/{id}/told", get(reads::told))
        .route("/campaigns/{id}/not-told", get(reads::not_told))
        .route("/campaigns/{id}/cancel", post(orders::cancel))
        .route("/clients/{id}", get(reads::client))
        .route("/lanes", get(reads::lanes))
        .route("/dead-letters", get(reads::dead_letters))
        .route("/dead-letters/{id}", get(reads::dead_letter))
        .route("/dead-letters/replay", post(orders::replay))
        .route("/pause", post(orders::pause))
        .route("/resume", post(orders::resume))
        .route("/audit", get(reads::audit))
        .route("/doctor", get(reads::doctor))
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(api)
}
