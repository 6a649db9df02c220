//! The next page of a large campaign, read while the round before it is copied: the copying connection then never waits for the subscribers.
//!
//! A page that was read ahead is for the very next round, and is dropped where that asks for another one. Each round checks its candidates for late
//! drafts before it reads ahead. So whoever a round leaves to a later page is on that page. Whoever subscribes after that is late for the round that
//! the page is in. An update of the campaign makes the page worthless: while the campaign was over, nobody looked for new subscribers.
//! `crates/sim/tests/model` has both rules.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep_until};

use crate::instance::memory_budget::{MemoryBudget, Reserved};
use crate::model::clients::Clients;
use crate::model::due::RunningCampaign;
use crate::model::page::{Page, PageRequest, Unread};
use crate::model::round::{RoundContent, RoundPart};
use crate::model::round_capacity::RoundCapacity;
use crate::ports::audience::{Audience, AudienceError};

/// How old a page may be when its round begins: whoever left the restaurant since then is told.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Most rounds in a row that read nothing ahead.
const LONGEST_PAUSE: u32 = 64;

/// What is to be read ahead: the page that follows a round's largest one, and the memory for it.
#[derive(Debug)]
pub(crate) struct AheadQuery<'a> {
    part: &'a RoundPart,
    after: &'a str,
    rows: usize,
    reserved: Reserved,
}

impl<'a> AheadQuery<'a> {
    /// Returns what to read ahead of the next round, which has this capacity too. None where nothing is worth it, or memory is short.
    pub(crate) fn of(content: &'a RoundContent, capacity: RoundCapacity, memory: &MemoryBudget) -> Option<Self> {
        let (part, after, rows) = largest_page(content)?;
        let most = capacity.fits(part.drafts.template.campaign().draft_size());
        if rows * 2 < most {
            return None;
        }
        Some(Self { part, after, rows, reserved: memory.spare_for_clients(rows)? })
    }

    /// Reads the page. None where it cannot be read: then the next round asks for it.
    pub(crate) async fn read<A: Audience>(self, audience: &A) -> Option<PageAhead> {
        let Self { part, after, rows, mut reserved } = self;
        let restaurant_id = &part.drafts.template.campaign().restaurant_id;
        let read_at = Instant::now();
        let page = audience.page(PageRequest { restaurant_id, after: Some(after), upto: None, rows }).await.ok()?;
        reserved.shrink_to(page.clients.size());
        let (adv_campaign_id, after) = (part.id(), after.to_owned());
        Some(PageAhead { adv_campaign_id, revision: part.revision, after, page, read_at, _reserved: reserved })
    }
}

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

/// How often a page is read ahead. Each one that was not there in time doubles how many rounds read none: an audience that is slower than the copy is
/// not asked twice for each page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReadAheadPace {
    /// How many rounds read none from now on.
    pause: u32,
    /// How many it were after the last page that was given up.
    last_pause: u32,
}

impl ReadAheadPace {
    /// Returns whether the next round reads ahead, and the pace after it where it does not.
    pub(crate) fn next(self) -> (bool, Self) {
        (self.pause == 0, Self { pause: self.pause.saturating_sub(1), ..self })
    }

    fn gave_up(self) -> Self {
        let pause = (self.last_pause * 2).clamp(1, LONGEST_PAUSE);
        Self { pause, last_pause: pause }
    }
}

/// Copies a round, and reads the page that follows meanwhile. Gives the page up where the rows are there first. Fails as the copy does.
pub(crate) async fn copy_beside<T, E>(
    copying: impl Future<Output = Result<T, E>>,
    reading: impl Future<Output = Option<PageAhead>>,
    pace: ReadAheadPace,
) -> Result<(T, NextPage, ReadAheadPace), E> {
    match select(pin!(copying), pin!(reading)).await {
        Either::Left((copied, _)) => Ok((copied?, NextPage::default(), pace.gave_up())),
        Either::Right((None, copying)) => Ok((copying.await?, NextPage::default(), pace.gave_up())),
        Either::Right((Some(page), copying)) => {
            let next_page = NextPage::new(page);
            Ok((copying.await?, next_page, ReadAheadPace::default()))
        }
    }
}

/// The page that was read for the next round, until that takes it.
#[derive(Debug, Default)]
pub(crate) struct NextPage(Mutex<Option<Box<PageAhead>>>);

impl NextPage {
    /// Holds this page.
    pub(crate) fn new(page: PageAhead) -> Self {
        Self(Mutex::new(Some(Box::new(page))))
    }

    fn page(&self) -> MutexGuard<'_, Option<Box<PageAhead>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the page up once it is too old, and never returns: a lane that waits keeps no memory for it.
    pub(crate) async fn expire(&self) -> Infallible {
        let read_at = self.page().as_ref().map(|page| page.read_at);
        if let Some(read_at) = read_at {
            sleep_until(read_at + MAX_AGE).await;
            self.page().take();
        }
        pending().await
    }

    /// Waits for the memory of the round that is to take the page. Where it is not there at once, the page is given up first: the round may wait for
    /// the page's own memory.
    pub(crate) async fn make_room(&self, memory: impl Future<Output = Reserved>) -> Reserved {
        let mut memory = pin!(memory);
        if let Some(reserved) = memory.as_mut().now_or_never() {
            return reserved;
        }
        self.page().take();
        memory.await
    }

    /// Takes the page out, and returns it unless it is too old.
    pub(crate) fn take(&self) -> Option<PageAhead> {
        let page = self.page().take();
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
        // Where its campaign is not asked for yet, a later question of this round may be for it.
        let Some((place, ahead)) =
            self.ahead.as_ref().and_then(place).and_then(|place| Some((place, self.ahead.take()?)))
        else {
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
