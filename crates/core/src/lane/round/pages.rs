//! The next page of each planned campaign, less those who already have a draft.

mod late_drafts;

use std::sync::Arc;

use crate::guard::{Guard, Guards};
use crate::lane::error::LaneError;
use crate::lane::round::plan::{PlannableCampaign, plan};
use crate::lane::round::read_ahead::PageSource;
use crate::model::clients::{ClientRange, Clients};
use crate::model::draft::{DraftBatch, DraftTemplate};
use crate::model::due::RunningCampaign;
use crate::model::number::Seconds;
use crate::model::page::{Page, PageRequest, Unread};
use crate::model::round::{PageRange, RoundPart};
use crate::model::round_capacity::RoundCapacity;
use crate::ports::audience::Audience;
use crate::ports::ledger::{LedgerError, RoundTransaction};

pub use late_drafts::{Candidates, add_late};

/// A round is full when less than this part of it is left: another question would cost more than it brings.
const WORTH_ASKING: usize = 20;
/// Most pages of one question.
const MAX_PAGES: usize = 100;

/// A campaign as it stood before the round, and its page.
pub type CampaignPage = (RunningCampaign, Page);

/// What reading the pages of a round gave.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// Campaigns with their pages.
    pub(crate) read: Vec<CampaignPage>,
    /// Restaurants of which no page came in time, and what was said.
    pub(crate) overdue: Vec<(String, String)>,
}

/// A campaign that waits for its page in a round, and what was read of it so far.
struct Waiting {
    running: RunningCampaign,
    candidate: PlannableCampaign,
    page: Option<Page>,
}

/// Reads the pages of a round with so much room. A page may come back shorter than its share: what is left is planned again, until little is left or
/// nobody waits. So a small campaign costs a giant one the rows it needs and no more; and where many small ones wait, a few questions fill the round.
/// A campaign whose page does not come in time is left out. No further question is asked then, so that the round waits no longer.
pub(crate) async fn read<A: Audience>(
    mut source: PageSource<'_, A>,
    now: Seconds,
    capacity: RoundCapacity,
    running: &[RunningCampaign],
) -> Result<Pages, LaneError> {
    let waits = |running: &RunningCampaign| Waiting { candidate: running.into(), running: running.clone(), page: None };
    let mut waiting: Vec<Waiting> = running.iter().map(waits).collect();
    let (mut left, mut usual, mut done, mut overdue) = (capacity, None, Vec::new(), Vec::new());
    let mut page_overdue = false;
    let worth_asking = capacity.fraction(WORTH_ASKING);
    loop {
        let candidates: Vec<_> = waiting.iter().map(|waiting| waiting.candidate).collect();
        let mut shares = plan(now, left, usual, &candidates);
        shares.truncate(MAX_PAGES);
        if page_overdue || shares.is_empty() || left.checked_sub(worth_asking.rows, worth_asking.bytes).is_none() {
            break;
        }
        let wanted = shares.iter().map(|share| (&waiting[share.campaign], share.rows));
        let wanted: Vec<_> = wanted.map(|(waiting, rows)| (&waiting.running, waiting.next_page(rows))).collect();
        let pages = source.pages(&wanted).await?;
        usual = Some(usual_page(&pages));
        for (share, page) in shares.iter().zip(pages) {
            let page = match page {
                Ok(page) => page,
                Err(unread) => {
                    page_overdue = true;
                    if let Unread::Overdue(said) = unread {
                        overdue.push((waiting[share.campaign].running.campaign.restaurant_id.clone(), said));
                    }
                    continue;
                }
            };
            // Whose page does not fit is read again in the next round: nobody was told anything yet.
            let rows = page.clients.len();
            let Some(rest) = left.checked_sub(rows, rows * candidates[share.campaign].size) else { break };
            left = rest;
            waiting[share.campaign].append(page);
        }
        let (over, on) = waiting.into_iter().partition(Waiting::is_over);
        done.extend::<Vec<_>>(over);
        waiting = on;
    }
    done.extend(waiting);
    let read = done.into_iter().filter_map(|Waiting { running, page, .. }| Some((running, page?))).collect();
    Ok(Pages { read, overdue })
}

/// How many rows most of the next pages will not exceed, after these.
fn usual_page(pages: &[Result<Page, Unread>]) -> usize {
    let rows: usize = pages.iter().flatten().map(|page| page.clients.len()).sum();
    rows * 3 / 2 / pages.len().max(1)
}

impl Waiting {
    /// Two pages that follow one another are one.
    fn append(&mut self, page: Page) {
        self.candidate.begun = true;
        match &mut self.page {
            None => self.page = Some(page),
            Some(before) => {
                page.clients.iter().for_each(|client| before.clients.push(client));
                before.last = page.last;
                before.skipped += page.skipped;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.last)
    }

    fn next_page(&self, rows: usize) -> PageRequest<'_> {
        let read = self.page.as_ref().and_then(|page| page.clients.last());
        let after = read.or(self.running.cursor.as_deref());
        PageRequest { restaurant_id: &self.running.campaign.restaurant_id, after, upto: None, rows }
    }
}

/// Forms the drafts of pages: all but those who have a feedback row already.
pub async fn form<O: RoundTransaction>(
    open: &mut O,
    pages: Vec<CampaignPage>,
    trigger_datetime_created: Seconds,
    group_id: &str,
    guards: Guards,
) -> Result<Vec<RoundPart>, LaneError> {
    let told = {
        let ranges: Vec<_> = pages.iter().filter_map(range).collect();
        match ranges.is_empty() {
            true => Vec::new(),
            false => open.already_told(&ranges).await?,
        }
    };
    let mut told = told.into_iter();
    let part = |(running, page): CampaignPage| {
        // An empty page is no range.
        let told = if page.clients.is_empty() { Clients::new() } else { told.next().unwrap_or_default() };
        let told = if guards.enabled(Guard::PageLessWhoHasARow) { told } else { Clients::new() };
        part(&running, page, &told, trigger_datetime_created, group_id)
    };
    pages.into_iter().map(part).collect()
}

fn range((running, page): &CampaignPage) -> Option<ClientRange<'_>> {
    let upto = page.clients.last()?;
    let adv_campaign_id = &running.campaign.adv_campaign_id;
    Some(ClientRange { adv_campaign_id, after: running.cursor.as_deref(), upto })
}

fn part(
    running: &RunningCampaign,
    page: Page,
    told: &Clients,
    trigger_datetime_created: Seconds,
    group_id: &str,
) -> Result<RoundPart, LaneError> {
    let upto = page.clients.last().map(str::to_owned);
    let clients = without(page.clients, told);
    let template = template(running, trigger_datetime_created, group_id)?;
    Ok(RoundPart {
        drafts: DraftBatch { template, clients },
        revision: running.revision,
        page: Some(PageRange {
            after: running.cursor.clone(),
            upto: upto.or_else(|| running.cursor.clone()),
            last: page.last,
            already_told: told.iter().map(str::to_owned).collect(),
            skipped: page.skipped,
        }),
        late: 0,
    })
}

fn template(
    running: &RunningCampaign,
    trigger_datetime_created: Seconds,
    group_id: &str,
) -> Result<Arc<DraftTemplate>, LaneError> {
    let template = DraftTemplate::new(Arc::clone(&running.campaign), trigger_datetime_created, group_id)
        .map_err(|error| LedgerError::Refused(error.to_string().into()))?;
    Ok(Arc::new(template))
}

/// The clients that are not among those told. Usually nobody is, and nothing is copied then.
pub(crate) fn without(clients: Clients, told: &Clients) -> Clients {
    if told.is_empty() {
        return clients;
    }
    let told: std::collections::HashSet<&str> = told.iter().collect();
    clients.iter().filter(|client| !told.contains(client)).collect()
}

#[cfg(test)]
mod tests;
