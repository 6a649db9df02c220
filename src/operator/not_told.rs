//! Who of an audience was not told, and why: page by page, so that nothing grows with the audience.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use crate::operator::told::ToldError;
use dinnerbell_config::Config;
use dinnerbell_core::model::not_told::{ClientWithoutDraft, NotToldReason, reason};
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::told::{CampaignStanding, Told, WithdrawnPage};

/// Clients that are compared at a time; where no index serves, each page is a scan of the table, and there are to be few.
const PAGE: usize = 10_000;
const PAGE_OF_A_SCAN: usize = 500_000;
/// Most unusable ids that are listed.
const UNUSABLE: i64 = 1_000;

/// Somebody who was not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotToldClient {
    /// The client; of an id that is longer than 256 bytes the beginning.
    pub client_id: String,
    /// Why they were not told.
    #[schema(value_type = String)]
    pub reason: NotToldReason,
}

/// Some of those who were not told.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NotToldPage {
    /// The clients, in the order of their ids; unusable ids come last.
    pub clients: Vec<NotToldClient>,
    /// How many of the audience were compared for it.
    pub compared: usize,
    /// Behind whom the next page begins; null where this is the last one.
    pub next: Option<String>,
}

/// A walk through an audience, from one client on.
pub struct Walk {
    told: Told,
    audience: AudienceSize,
    campaign: CampaignStanding,
    withdrawn: Vec<WithdrawnPage>,
    tells_late: bool,
    after: String,
    is_over: bool,
}

impl Walk {
    /// Begins behind `after`; none for a campaign that the ledger does not know. How the campaign stands is read once.
    pub async fn begin(
        config: &Config,
        feedback: Pool,
        adv_campaign_id: &str,
        after: Option<String>,
    ) -> Result<Option<Self>, ToldError> {
        let told = Told::of(feedback);
        let Some(campaign) = told.campaign(adv_campaign_id).await? else { return Ok(None) };
        let audience = AudienceSize::open(Pool::open(&config.subscribers, "subscribers")?).await?;
        let withdrawn = told.withdrawn_pages(adv_campaign_id).await?;
        let (tells_late, after) = (config.fanout.late_subscribers, after.unwrap_or_default());
        Ok(Some(Self { told, audience, campaign, withdrawn, tells_late, after, is_over: false }))
    }

    /// How many the campaign told, as far as the ledger knew at the beginning.
    pub fn told(&self) -> i64 {
        self.campaign.told
    }

    /// Those who have no draft among the next of the audience; none when all were compared. The audience is read first: who is told meanwhile is
    /// not listed.
    pub async fn step(&mut self) -> Result<Option<NotToldPage>, ToldError> {
        let Some(restaurant_id) = self.campaign.restaurant_id.clone().filter(|_| !self.is_over) else {
            return Ok(None);
        };
        let most = if self.audience.is_indexed() { PAGE } else { PAGE_OF_A_SCAN };
        let clients = self.audience.page(&restaurant_id, &self.after, most as i64).await?;
        let mut untold = Vec::new();
        if let Some(last) = clients.last() {
            let id = &self.campaign.adv_campaign_id;
            let told: BTreeSet<String> = self.told.told_between(id, &self.after, last).await?.into_iter().collect();
            untold.extend(clients.iter().filter(|client| !told.contains(*client)).map(|client| self.untold(client)));
            self.after.clone_from(last);
        }
        self.is_over = clients.len() < most;
        if self.is_over {
            let unusable = self.audience.unusable(&restaurant_id, UNUSABLE).await?;
            let unusable =
                unusable.into_iter().map(|client_id| NotToldClient { client_id, reason: NotToldReason::UnusableId });
            untold.extend(unusable);
        }
        let next = (!self.is_over).then(|| self.after.clone());
        Ok(Some(NotToldPage { clients: untold, compared: clients.len(), next }))
    }

    fn untold(&self, client_id: &str) -> NotToldClient {
        let was_withdrawn = self.withdrawn.iter().any(|page| page.held(client_id));
        let client = ClientWithoutDraft { client_id, favours: true, was_withdrawn };
        let reason = reason(&self.campaign.standing, self.tells_late, client);
        NotToldClient { client_id: client_id.to_owned(), reason }
    }
}

/// One page for who asks over HTTP: at most `limit` clients, for which at most `most` of the audience are compared. It may hold fewer, and even none,
/// and yet have a next one.
pub async fn page(walk: &mut Walk, limit: usize, most: usize) -> Result<NotToldPage, ToldError> {
    let mut page = NotToldPage { clients: Vec::new(), compared: 0, next: None };
    while let Some(step) = walk.step().await? {
        page.compared += step.compared;
        page.clients.extend(step.clients);
        page.next = step.next;
        if page.clients.len() > limit {
            cut(&mut page, limit);
            break;
        }
        if page.next.is_none() || page.clients.len() == limit || page.compared >= most {
            break;
        }
    }
    Ok(page)
}

/// Leaves the first of a page, and has the next one begin behind them. Unusable ids have no place in the order: they stay with the last page.
fn cut(page: &mut NotToldPage, limit: usize) {
    let usable = page.clients.iter().take_while(|client| client.reason != NotToldReason::UnusableId).count();
    if usable > limit {
        page.clients.truncate(limit);
        page.next = page.clients.last().map(|client| client.client_id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(clients: &[(&str, NotToldReason)]) -> NotToldPage {
        let clients = clients.iter().map(|(id, reason)| NotToldClient { client_id: (*id).to_owned(), reason: *reason });
        NotToldPage { clients: clients.collect(), compared: 0, next: None }
    }

    #[test]
    fn a_page_that_is_cut_goes_on_behind_its_last_client_and_unusable_ids_come_with_the_last_one() {
        let mut long = page(&[
            ("a", NotToldReason::Ended),
            ("b", NotToldReason::Ended),
            ("c", NotToldReason::Ended),
            ("", NotToldReason::UnusableId),
        ]);
        cut(&mut long, 2);
        assert_eq!((long.clients.len(), long.next.as_deref()), (2, Some("b")));
        let mut last =
            page(&[("a", NotToldReason::Ended), ("b", NotToldReason::Ended), ("", NotToldReason::UnusableId)]);
        cut(&mut last, 2);
        assert_eq!((last.clients.len(), last.next), (3, None));
    }
}
