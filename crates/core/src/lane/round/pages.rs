//! The next page of each planned campaign, less those who already have a draft.

use std::collections::HashMap;
use std::sync::Arc;

use crate::guard::{Guard, Guards};
use crate::lane::error::LaneError;
use crate::lane::round::plan::{PlannableCampaign, Room, plan};
use crate::model::clients::{ClientRange, Clients};
use crate::model::draft::{DraftBatch, DraftTemplate};
use crate::model::due::ActiveCampaign;
use crate::model::late::{LateCampaign, LateQuery};
use crate::model::number::Seconds;
use crate::model::page::{Page, PageRequest, Unread};
use crate::model::round::{PageRange, RoundPart};
use crate::ports::audience::Audience;
use crate::ports::ledger::{LedgerError, RoundTransaction};

/// A round is full when less than this part of it is left: another question would cost more than it brings.
const WORTH_ASKING: usize = 20;
/// Most pages of one question.
const MAX_PAGES: usize = 100;

/// A campaign as it stood before the round, and its page.
pub type CampaignPage = (ActiveCampaign, Page);

/// What reading the pages of a round gave.
#[derive(Debug, Default)]
pub struct Pages {
    /// Campaigns with their pages.
    pub read: Vec<CampaignPage>,
    /// Restaurants of which no page came in time, and what was said.
    pub overdue: Vec<(String, String)>,
}

/// A campaign that waits for its page in a round, and what was read of it so far.
struct Waiting {
    running: ActiveCampaign,
    candidate: PlannableCampaign,
    page: Option<Page>,
}

/// Reads the pages of a round with so much room. A page may come back shorter than its share: what is left is planned again, until little is left or
/// nobody waits. So a small campaign costs a giant one the rows it needs and no more; and where many small ones wait, a few questions fill the round.
/// A campaign whose page does not come in time is left out. No further question is asked then, so that the round waits no longer.
pub async fn read<A: Audience>(
    audience: &A,
    now: Seconds,
    room: Room,
    running: &[ActiveCampaign],
) -> Result<Pages, LaneError> {
    let waits = |running: &ActiveCampaign| Waiting { candidate: running.into(), running: running.clone(), page: None };
    let mut waiting: Vec<Waiting> = running.iter().map(waits).collect();
    let (mut left, mut usual, mut done, mut overdue) = (room, None, Vec::new(), Vec::new());
    let mut page_overdue = false;
    let worth_asking = room.fraction(WORTH_ASKING);
    loop {
        let candidates: Vec<_> = waiting.iter().map(|waiting| waiting.candidate).collect();
        let mut shares = plan(now, left, usual, &candidates);
        shares.truncate(MAX_PAGES);
        if page_overdue || shares.is_empty() || left.checked_sub(worth_asking.rows, worth_asking.bytes).is_none() {
            break;
        }
        let wanted: Vec<_> = shares.iter().map(|share| waiting[share.campaign].next_page(share.rows)).collect();
        let pages = audience.pages(&wanted).await?;
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
    running: &ActiveCampaign,
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

/// Campaigns, each with the candidates of its restaurant.
pub type Candidates<'a> = [(&'a LateCampaign, &'a Clients)];

/// Adds to the round the candidates who are late for a campaign. They stand behind its cursor as this round plans it, on none of the round's pages,
/// and have no draft. However many campaigns these are, the database is asked twice at most.
pub async fn add_late<O: RoundTransaction>(
    open: &mut O,
    parts: &mut Vec<RoundPart>,
    late: &Candidates<'_>,
    trigger_datetime_created: Seconds,
    group_id: &str,
    guards: Guards,
) -> Result<(), LaneError> {
    if late.is_empty() {
        return Ok(());
    }
    let places: HashMap<String, usize> = parts.iter().enumerate().map(|(place, part)| (part.id(), place)).collect();
    let behind = {
        let questions = late.iter().map(|&(campaign, clients)| question(campaign, clients, parts, &places, guards));
        let questions: Vec<_> = questions.collect();
        open.late(&questions).await?
    };
    let ids = late.iter().map(|(campaign, _)| campaign.adv_campaign_id.as_str());
    let mut alone = HashMap::new();
    for (id, behind) in ids.zip(behind).filter(|(_, behind)| !behind.is_empty()) {
        match places.get(id) {
            Some(place) => add_to(&mut parts[*place], behind, guards),
            None => drop(alone.insert(id, behind)),
        }
    }
    if alone.is_empty() {
        return Ok(());
    }
    let mut ids: Vec<&str> = alone.keys().copied().collect();
    ids.sort_unstable();
    for running in open.campaigns(&ids).await? {
        let clients = alone.remove(running.id()).unwrap_or_default();
        let template = template(&running, trigger_datetime_created, group_id)?;
        let late = clients.len();
        parts.push(RoundPart {
            drafts: DraftBatch { template, clients },
            revision: running.revision,
            page: None,
            late,
        });
    }
    Ok(())
}

/// Who is late, by the cursor as this round plans it.
fn question<'a>(
    campaign: &'a LateCampaign,
    clients: &'a Clients,
    parts: &'a [RoundPart],
    places: &HashMap<String, usize>,
    guards: Guards,
) -> LateQuery<'a> {
    let page = places.get(&campaign.adv_campaign_id).and_then(|place| parts[*place].page.as_ref());
    let (planned_cursor, main_pass_over) = match page {
        Some(page) if guards.enabled(Guard::PlannedCursor) => (page.upto.as_deref(), page.last),
        Some(page) => (page.after.as_deref(), false),
        None => (campaign.cursor.as_deref(), campaign.main_pass_over),
    };
    let main_pass_over = main_pass_over && guards.enabled(Guard::LateAfterTheLastPage);
    LateQuery { adv_campaign_id: &campaign.adv_campaign_id, clients, planned_cursor, main_pass_over }
}

/// Adds to a page those who are late and not on it.
fn add_to(part: &mut RoundPart, behind: Clients, guards: Guards) {
    let late = match guards.enabled(Guard::NotLateWhoIsOnAPage) {
        true => without(behind, &part.drafts.clients),
        false => behind,
    };
    part.late = late.len();
    late.iter().for_each(|client| part.drafts.clients.push(client));
}

fn template(
    running: &ActiveCampaign,
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::late::{Added, Subscription};
    use crate::ports::audience::AudienceError;

    /// A round in whose database nobody has a row.
    struct NobodyTold;

    impl RoundTransaction for NobodyTold {
        async fn already_told(&mut self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
            Ok(vec![Clients::new(); ranges.len()])
        }

        async fn late(&mut self, questions: &[LateQuery<'_>]) -> Result<Vec<Clients>, LedgerError> {
            let late = |question: &LateQuery<'_>| {
                let behind = |client: &&str| question.planned_cursor.is_some_and(|cursor| *client <= cursor);
                question.clients.iter().filter(|client| question.main_pass_over || behind(client)).collect()
            };
            Ok(questions.iter().map(late).collect())
        }

        async fn campaigns(&mut self, ids: &[&str]) -> Result<Vec<ActiveCampaign>, LedgerError> {
            Ok(ids.iter().map(|_| running(7, 1)).collect())
        }

        async fn dead_letters(
            &mut self,
            _: &[i64],
        ) -> Result<Vec<crate::model::record::DeadLetterMessage>, LedgerError> {
            Ok(Vec::new())
        }

        async fn abandon(self) -> Result<(), LedgerError> {
            Ok(())
        }

        async fn copy(&mut self, _: Arc<crate::model::round::RoundContent>) -> Result<(), LedgerError> {
            Ok(())
        }

        async fn seal(
            self,
            _: crate::model::mark::RoundVersion,
            _: Arc<crate::model::round::RoundContent>,
        ) -> Result<crate::model::round::Sealed, LedgerError> {
            Ok(crate::model::round::Sealed::Overtaken(Vec::new()))
        }
    }

    /// Who is told late, of these candidates, by a round whose page after `b` is `d` and `f`.
    async fn late(last: bool, candidates: &[&str]) -> Vec<String> {
        let running = ActiveCampaign { cursor: Some("b".to_owned()), ..running(0, 4) };
        let page = Page { clients: ["d", "f"].into_iter().collect(), skipped: 0, last };
        let pages = vec![(running.clone(), page)];
        let mut parts = form(&mut NobodyTold, pages, Seconds::new(1), "group", Guards::default()).await.unwrap();
        let open = late_for(&running);
        let candidates = candidates.iter().copied().collect();
        add_late(&mut NobodyTold, &mut parts, &[(&open, &candidates)], Seconds::new(1), "group", Guards::default())
            .await
            .unwrap();
        let part = &parts[0];
        part.drafts.clients.iter().skip(part.drafts.clients.len() - part.late).map(str::to_owned).collect()
    }

    fn late_for(running: &ActiveCampaign) -> LateCampaign {
        LateCampaign {
            adv_campaign_id: running.id().to_owned(),
            restaurant_id: running.campaign.restaurant_id.clone(),
            cursor: running.cursor.clone(),
            main_pass_over: false,
            told: 0,
            texts: 100,
        }
    }

    #[tokio::test]
    async fn who_is_late_for_a_campaign_without_a_page_in_the_round_gets_a_part_of_it() {
        let seventh = LateCampaign { cursor: Some("m".to_owned()), ..late_for(&running(7, 1)) };
        let (candidates, mut parts) = (["a", "z"].into_iter().collect(), Vec::new());
        add_late(&mut NobodyTold, &mut parts, &[(&seventh, &candidates)], Seconds::new(1), "group", Guards::default())
            .await
            .unwrap();
        let told: Vec<_> =
            parts.iter().map(|part| (part.id(), part.drafts.clients.iter().collect(), part.late)).collect();
        assert_eq!(told, [("c7".to_owned(), vec!["a"], 1)]);
    }

    #[tokio::test]
    async fn late_is_who_is_behind_the_cursor_as_this_round_plans_it_and_on_no_page_of_it() {
        assert_eq!(late(false, &["a", "d", "e", "g"]).await, ["a", "e"], "a later page tells g");
    }

    #[tokio::test]
    async fn after_the_last_page_everybody_who_is_on_none_is_late() {
        assert_eq!(late(true, &["a", "d", "e", "g"]).await, ["a", "e", "g"]);
    }

    /// Restaurants that are named by how many favour them; the questions are counted.
    #[derive(Clone, Default)]
    struct Favoured {
        questions: Arc<AtomicUsize>,
    }

    impl Audience for Favoured {
        async fn pages(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Result<Page, Unread>>, AudienceError> {
            self.questions.fetch_add(1, Ordering::Relaxed);
            let page = |wanted: &PageRequest<'_>| {
                let Ok(all) = wanted.restaurant_id.parse::<usize>() else {
                    return Err(Unread::Overdue("too slow".to_owned()));
                };
                let after = wanted.after.map_or(0, |after| after.parse().unwrap());
                let clients: Vec<String> = (after + 1..=all).take(wanted.rows).map(|n| format!("{n:09}")).collect();
                let last = clients.len() < wanted.rows;
                Ok(Page { clients: clients.iter().map(String::as_str).collect(), skipped: 0, last })
            };
            Ok(wanted.iter().map(page).collect())
        }

        async fn newest(&self) -> Result<i64, AudienceError> {
            Ok(0)
        }

        async fn added(&self, _: i64, _: usize) -> Result<Added, AudienceError> {
            Ok(Added::default())
        }

        async fn of_ids(&self, _: &[i64]) -> Result<Vec<Subscription>, AudienceError> {
            Ok(Vec::new())
        }
    }

    fn running(number: usize, audience: usize) -> ActiveCampaign {
        let campaign = crate::model::campaign::Campaign {
            restaurant_id: audience.to_string(),
            adv_campaign_id: format!("c{number}"),
            adv_campaign_content: "content".to_owned(),
            adv_campaign_owner: "owner".to_owned(),
            adv_campaign_owner_contact: "contact".to_owned(),
            window: crate::model::campaign::Window { start: Seconds::new(0), end: Seconds::new(100) },
            datetime_created: Seconds::new(0),
        };
        ActiveCampaign { campaign: Arc::new(campaign), revision: 1, cursor: None }
    }

    #[tokio::test]
    async fn a_few_questions_fill_a_round_of_small_campaigns_and_cut_none_of_them() {
        let audience = Favoured::default();
        // Of ten, nine are favoured by ten people and one by a hundred and fifty.
        let all: Vec<_> = (0..1_000).map(|number| running(number, if number % 10 == 0 { 150 } else { 10 })).collect();
        let pages = read(&audience, Seconds::new(1), Room::of_rows(5_000), &all).await.unwrap().read;
        let rows: usize = pages.iter().map(|(_, page)| page.clients.len()).sum();
        assert!((4_500..=5_000).contains(&rows), "{rows} rows");
        assert!(pages.iter().all(|(_, page)| page.last), "nobody is cut");
        let questions = audience.questions.load(Ordering::Relaxed);
        assert!(questions < 15, "{questions} questions");
    }

    #[tokio::test]
    async fn a_campaign_whose_page_does_not_come_in_time_is_left_out_of_the_round_and_named() {
        let audience = Favoured::default();
        let mut slow = running(0, 0);
        Arc::get_mut(&mut slow.campaign).unwrap().restaurant_id = "slow".to_owned();
        let all = [slow, running(1, 100), running(2, 5)];
        let Pages { read: pages, overdue } =
            read(&audience, Seconds::new(1), Room::of_rows(5_000), &all).await.unwrap();
        let rows: Vec<_> = pages.iter().map(|(running, page)| (running.id(), page.clients.len())).collect();
        assert_eq!(rows, [("c1", 100), ("c2", 5)]);
        assert_eq!(overdue, [("slow".to_owned(), "too slow".to_owned())]);
        assert_eq!(audience.questions.load(Ordering::Relaxed), 1, "the round does not wait for it again");
    }

    #[tokio::test]
    async fn what_small_campaigns_leave_of_a_round_is_the_giants() {
        let audience = Favoured::default();
        let giant = ActiveCampaign { cursor: Some(format!("{:09}", 7)), ..running(0, 1_000_000) };
        let all = [giant, running(1, 100), running(2, 100)];
        let pages = read(&audience, Seconds::new(1), Room::of_rows(5_000), &all).await.unwrap().read;
        let rows: Vec<_> = pages.iter().map(|(running, page)| (running.id(), page.clients.len())).collect();
        assert_eq!(rows, [("c1", 100), ("c2", 100), ("c0", 4_800)]);
    }

    #[tokio::test]
    async fn a_round_is_full_by_its_bytes_too_and_large_drafts_leave_room_for_small_ones() {
        let audience = Favoured::default();
        let mut large = running(0, 1_000_000);
        Arc::get_mut(&mut large.campaign).unwrap().adv_campaign_content = "\u{1}".repeat(16 << 10);
        let room = Room { rows: 20_000, bytes: 10_000_000 };
        let pages = read(&audience, Seconds::new(1), room, &[large.clone(), running(1, 100)]).await.unwrap().read;
        let bytes: usize = pages.iter().map(|(running, page)| page.clients.len() * running.campaign.draft_size()).sum();
        assert!((9_000_000..=10_000_000).contains(&bytes), "{bytes} bytes");
        let small = pages.iter().find(|(running, _)| running.id() == "c1").unwrap();
        assert!(small.1.last, "the small one is not cut");
        assert!(pages.iter().any(|(running, page)| running.id() == "c0" && !page.clients.is_empty()));
    }

    #[test]
    fn those_who_were_told_are_left_out_and_the_order_stays() {
        let page: Clients = ["a", "b", "c", "d"].into_iter().collect();
        let told: Clients = ["b", "d", "x"].into_iter().collect();
        assert_eq!(without(page, &told).iter().collect::<Vec<_>>(), ["a", "c"]);
    }
}
