//! The subscribers of a simulated world.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

use super::server::Unanswered;
use super::world::Instance;
use crate::faults::Server;
use crate::subscribers::{Asked, Subscriber, Subscribers};
use dinnerbell_core::model::late::{Added, Subscription};
use dinnerbell_core::model::number::Micros;
use dinnerbell_core::model::page::{Page, PageRequest, Unread};
use dinnerbell_core::ports::audience::{Audience, AudienceError};

const TIME_LIMIT: Duration = Duration::from_secs(5);
/// When the server ends a page that takes too long.
const OVERDUE: Duration = Duration::from_secs(4);

/// The simulated [`Audience`].
#[derive(Clone)]
pub struct SimAudience(pub Instance);

impl SimAudience {
    async fn read<T: Send + 'static>(
        &self,
        request: &'static str,
        read: impl FnOnce(&Subscribers, Micros) -> T + Send + 'static,
    ) -> Result<T, AudienceError> {
        let world = self.0.world.clone();
        let served = |_| async move {
            let state = world.state();
            read(&state.subscribers, state.micros() - state.subscribers.lag)
        };
        self.0.ask(request, Server::Subscribers, TIME_LIMIT, served).await.map_err(|unanswered| match unanswered {
            Unanswered::Lost => AudienceError::Transient("no answer".to_owned()),
            Unanswered::Refused => AudienceError::Refused("permission denied".to_owned()),
        })
    }
}

impl Audience for SimAudience {
    async fn pages(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Result<Page, Unread>>, AudienceError> {
        let asked: Vec<Asked> = wanted.iter().map(Asked::from).collect();
        let overdue = self.0.world.state().subscribers.overdue.clone();
        let is_overdue = move |asked: &Asked| overdue.contains(&asked.restaurant_id);
        if asked.iter().any(&is_overdue) {
            sleep(OVERDUE).await;
        }
        self.read("pages", move |subscribers, time| {
            let page = |asked: &Asked| match is_overdue(asked) {
                true => Err(Unread::Overdue("canceling statement due to statement timeout".to_owned())),
                false => Ok(subscribers.page(time, asked)),
            };
            asked.iter().map(page).collect()
        })
        .await
    }

    async fn newest(&self) -> Result<i64, AudienceError> {
        self.read("newest", |subscribers, time| subscribers.at(time).map(|row| row.id).max().unwrap_or(0)).await
    }

    async fn added(&self, after: i64, most: usize) -> Result<Added, AudienceError> {
        self.read("added", move |subscribers, time| {
            let newer: Vec<&Subscriber> = subscribers.at(time).filter(|row| row.id > after).take(most).collect();
            Added {
                ids: newer.iter().map(|row| row.id).collect(),
                favourites: newer.iter().filter(|row| row.is_usable()).map(|row| row.favourite()).collect(),
            }
        })
        .await
    }

    async fn of_ids(&self, ids: &[i64]) -> Result<Vec<Subscription>, AudienceError> {
        let ids: BTreeSet<i64> = ids.iter().copied().collect();
        self.read("of_ids", move |subscribers, time| {
            let wanted = subscribers.at(time).filter(|row| ids.contains(&row.id) && row.is_usable());
            wanted.map(Subscriber::favourite).collect()
        })
        .await
    }
}
