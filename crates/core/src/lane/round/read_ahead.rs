//! The next page of a large campaign, read while the round before it is copied: the copying connection then never waits for the subscribers.
//!
//! A page that was read ahead is for the very next round, and is dropped where that asks for another one. Each round checks its candidates for late
//! drafts before it reads ahead. So whoever a round leaves to a later page is on that page. Whoever subscribes after that is late for the round that
//! the page is in. An update of the campaign makes the page worthless: while the campaign was over, nobody looked for new subscribers.
//! `crates/sim/tests/model` has both rules.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::instance::memory_budget::{MemoryBudget, Reserved};
use crate::model::clients::Clients;
use crate::model::due::RunningCampaign;
use crate::model::page::{Page, PageRequest, Unread};
use crate::model::round::{RoundContent, RoundPart};
use crate::ports::audience::{Audience, AudienceError};

/// How old a page may be when its round begins: whoever left the restaurant since then is told.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A page that was read before its round began.
#[derive(Debug)]
pub(crate) struct PageAhead {
    adv_campaign_id: String,
    revision: i32,
    after: String,
    page: Page,
    read_at: Instant,
    _reserved: Reserved,
}

impl PageAhead {
    /// Reads the page that follows a round's largest one. None where none is worth it, where memory is short, or where it cannot be read: then the
    /// next round asks for it.
    pub(crate) async fn read<A: Audience>(
        audience: &A,
        memory: &MemoryBudget,
        content: &RoundContent,
        round_rows: usize,
    ) -> Option<Self> {
        let (part, after, rows) = largest_page(content)?;
        if rows * 2 < round_rows {
            return None;
        }
        let mut reserved = memory.spare_for_clients(rows)?;
        let restaurant_id = &part.drafts.template.campaign().restaurant_id;
        let read_at = Instant::now();
        let page = audience.page(PageRequest { restaurant_id, after: Some(after), upto: None, rows }).await.ok()?;
        reserved.shrink_to(page.clients.size());
        Some(Self {
            adv_campaign_id: part.id(),
            revision: part.revision,
            after: after.to_owned(),
            page,
            read_at,
            _reserved: reserved,
        })
    }

    fn answers(&self, campaign: &RunningCampaign, wanted: &PageRequest<'_>) -> bool {
        (campaign.id(), campaign.revision) == (self.adv_campaign_id.as_str(), self.revision)
            && wanted.after == Some(&self.after)
            && wanted.upto.is_none()
    }

    /// The page, of so many clients at most.
    fn first(self, rows: usize) -> Page {
        match self.page.clients.len() > rows {
            true => {
                Page { clients: self.page.clients.iter().take(rows).collect::<Clients>(), last: false, ..self.page }
            }
            false => self.page,
        }
    }
}

/// The round's largest page that is not its campaign's last: the part, its last client, and how many clients it had.
fn largest_page(content: &RoundContent) -> Option<(&RoundPart, &str, usize)> {
    let pages = content.parts.iter().filter_map(|part| {
        let page = part.page.as_ref().filter(|page| !page.last)?;
        let rows = part.drafts.clients.len() - part.late + page.already_told.len();
        Some((part, page.upto.as_deref()?, rows))
    });
    pages.max_by_key(|(_, _, rows)| *rows)
}

/// The page that was read for the next round, until that takes it.
#[derive(Debug, Default)]
pub(crate) struct NextPage(Mutex<Option<Box<PageAhead>>>);

impl NextPage {
    /// Holds this page.
    pub(crate) fn new(page: Option<PageAhead>) -> Self {
        Self(Mutex::new(page.map(Box::new)))
    }

    /// Takes the page out, and returns it unless it is too old.
    pub(crate) fn take(&self) -> Option<PageAhead> {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        page.map(|page| *page).filter(|page| page.read_at.elapsed() < MAX_AGE)
    }
}

/// Where a round's pages come from: the subscribers, but for the one that was read ahead.
#[derive(Debug)]
pub(crate) struct PageSource<'a, A> {
    audience: &'a A,
    ahead: Option<PageAhead>,
}

impl<'a, A: Audience> PageSource<'a, A> {
    pub(crate) fn new(audience: &'a A, ahead: Option<PageAhead>) -> Self {
        Self { audience, ahead }
    }

    /// The page that each of these campaigns wants, in their order, as [`Audience::pages`].
    pub(crate) async fn pages(
        &mut self,
        wanted: &[(&RunningCampaign, PageRequest<'_>)],
    ) -> Result<Vec<Result<Page, Unread>>, AudienceError> {
        let mut requests: Vec<_> = wanted.iter().map(|(_, request)| *request).collect();
        let place = |ahead: &PageAhead| wanted.iter().position(|(campaign, request)| ahead.answers(campaign, request));
        let Some((ahead, place)) = self.ahead.take().and_then(|ahead| place(&ahead).map(|place| (ahead, place))) else {
            return self.audience.pages(&requests).await;
        };
        let ahead = ahead.first(requests.remove(place).rows);
        let mut pages = match requests.is_empty() {
            true => Vec::new(),
            false => self.audience.pages(&requests).await?,
        };
        pages.insert(place, Ok(ahead));
        Ok(pages)
    }
}
