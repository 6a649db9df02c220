use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

use super::*;
use crate::instance::memory_budget::MemoryBudget;
use crate::lane::round::read_ahead::{AheadQuery, NextPage, PageAhead, ReadAheadPace, copy_beside};
use crate::model::late::{Added, LateCheckCampaign, LateQuery, Subscription};
use crate::model::round::RoundContent;
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

    async fn campaigns(&mut self, ids: &[&str]) -> Result<Vec<RunningCampaign>, LedgerError> {
        Ok(ids.iter().map(|_| running(7, 1)).collect())
    }

    async fn dead_letters(&mut self, _: &[i64]) -> Result<Vec<crate::model::record::DeadLetterMessage>, LedgerError> {
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
        Ok(crate::model::round::Sealed::Conflict(Vec::new()))
    }
}

/// Who is told late, of these candidates, by a round whose page after `b` is `d` and `f`.
async fn late(last: bool, candidates: &[&str]) -> Vec<String> {
    let running = RunningCampaign { cursor: Some("b".to_owned()), ..running(0, 4) };
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

fn late_for(running: &RunningCampaign) -> LateCheckCampaign {
    LateCheckCampaign {
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
    let seventh = LateCheckCampaign { cursor: Some("m".to_owned()), ..late_for(&running(7, 1)) };
    let (candidates, mut parts) = (["a", "z"].into_iter().collect(), Vec::new());
    add_late(&mut NobodyTold, &mut parts, &[(&seventh, &candidates)], Seconds::new(1), "group", Guards::default())
        .await
        .unwrap();
    let told: Vec<_> = parts.iter().map(|part| (part.id(), part.drafts.clients.iter().collect(), part.late)).collect();
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

/// Restaurants that are named by how many favour them; the questions are counted, and each takes this long.
#[derive(Clone, Default)]
struct Favoured {
    questions: Arc<AtomicUsize>,
    takes: Duration,
}

impl Audience for Favoured {
    async fn pages(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Result<Page, Unread>>, AudienceError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        sleep(self.takes).await;
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

fn running(number: usize, audience: usize) -> RunningCampaign {
    let campaign = crate::model::campaign::Campaign {
        restaurant_id: audience.to_string(),
        adv_campaign_id: format!("c{number}"),
        adv_campaign_content: "content".to_owned(),
        adv_campaign_owner: "owner".to_owned(),
        adv_campaign_owner_contact: "contact".to_owned(),
        window: crate::model::campaign::Window { start: Seconds::new(0), end: Seconds::new(100) },
        datetime_created: Seconds::new(0),
    };
    RunningCampaign { campaign: Arc::new(campaign), revision: 1, cursor: None }
}

#[tokio::test]
async fn a_few_questions_fill_a_round_of_small_campaigns_and_cut_none_of_them() {
    let audience = Favoured::default();
    // Of ten, nine are favoured by ten people and one by a hundred and fifty.
    let all: Vec<_> = (0..1_000).map(|number| running(number, if number % 10 == 0 { 150 } else { 10 })).collect();
    let pages = read(PageSource::new(&audience, None), Seconds::new(1), RoundCapacity::rows_only(5_000), &all)
        .await
        .unwrap()
        .read;
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
        read(PageSource::new(&audience, None), Seconds::new(1), RoundCapacity::rows_only(5_000), &all).await.unwrap();
    let rows: Vec<_> = pages.iter().map(|(running, page)| (running.id(), page.clients.len())).collect();
    assert_eq!(rows, [("c1", 100), ("c2", 5)]);
    assert_eq!(overdue, [("slow".to_owned(), "too slow".to_owned())]);
    assert_eq!(audience.questions.load(Ordering::Relaxed), 1, "the round does not wait for it again");
}

#[tokio::test]
async fn what_small_campaigns_leave_of_a_round_is_the_giants() {
    let audience = Favoured::default();
    let giant = RunningCampaign { cursor: Some(format!("{:09}", 7)), ..running(0, 1_000_000) };
    let all = [giant, running(1, 100), running(2, 100)];
    let pages = read(PageSource::new(&audience, None), Seconds::new(1), RoundCapacity::rows_only(5_000), &all)
        .await
        .unwrap()
        .read;
    let rows: Vec<_> = pages.iter().map(|(running, page)| (running.id(), page.clients.len())).collect();
    assert_eq!(rows, [("c1", 100), ("c2", 100), ("c0", 4_800)]);
}

#[tokio::test]
async fn a_round_is_full_by_its_bytes_too_and_large_drafts_leave_room_for_small_ones() {
    let audience = Favoured::default();
    let mut large = running(0, 1_000_000);
    Arc::get_mut(&mut large.campaign).unwrap().adv_campaign_content = "\u{1}".repeat(16 << 10);
    let capacity = RoundCapacity { rows: 20_000, bytes: 10_000_000 };
    let pages = read(PageSource::new(&audience, None), Seconds::new(1), capacity, &[large.clone(), running(1, 100)])
        .await
        .unwrap()
        .read;
    let bytes: usize = pages.iter().map(|(running, page)| page.clients.len() * running.campaign.draft_size()).sum();
    assert!((9_000_000..=10_000_000).contains(&bytes), "{bytes} bytes");
    let small = pages.iter().find(|(running, _)| running.id() == "c1").unwrap();
    assert!(small.1.last, "the small one is not cut");
    assert!(pages.iter().any(|(running, page)| running.id() == "c0" && !page.clients.is_empty()));
}

/// The last two of a giant's clients up to this one, as a round.
async fn round_up_to(giant: &RunningCampaign, upto: usize) -> RoundContent {
    let clients = [upto - 1, upto].map(|client| format!("{client:09}"));
    let page = Page { clients: clients.iter().map(String::as_str).collect(), skipped: 0, last: false };
    let pages = vec![(giant.clone(), page)];
    RoundContent {
        parts: form(&mut NobodyTold, pages, Seconds::new(1), "group", Guards::default()).await.unwrap(),
        dead_letters: Vec::new(),
        trigger_datetime_created: Seconds::new(1),
        round_bytes: None,
    }
}

/// A round of a giant's first five clients, and the page that is read ahead of the next one, with memory of this budget.
async fn read_ahead_of(audience: &Favoured, giant: &RunningCampaign, memory: &MemoryBudget) -> PageAhead {
    let content = round_up_to(giant, 5).await;
    let query = AheadQuery::of(&content, RoundCapacity::rows_only(2), memory).unwrap();
    query.read(audience).await.unwrap()
}

async fn read_ahead(audience: &Favoured, giant: &RunningCampaign) -> PageAhead {
    read_ahead_of(audience, giant, &MemoryBudget::new(1 << 20)).await
}

/// What the next round of the giant has, and how many questions were asked for it.
async fn next_round(revision: i32, after: &str, rows: usize, small: bool) -> (Vec<(String, Vec<String>, bool)>, usize) {
    let (audience, giant) = (Favoured::default(), running(0, 1_000));
    let ahead = read_ahead(&audience, &giant).await;
    let mut all = vec![RunningCampaign { cursor: Some(after.to_owned()), revision, ..giant }];
    all.extend(small.then(|| running(1, 1)));
    let source = PageSource::new(&audience, Some(ahead));
    let pages = read(source, Seconds::new(1), RoundCapacity::rows_only(rows), &all).await.unwrap().read;
    let page = |(running, page): &CampaignPage| {
        (running.id().to_owned(), page.clients.iter().map(str::to_owned).collect(), page.last)
    };
    (pages.iter().map(page).collect(), audience.questions.load(Ordering::Relaxed) - 1)
}

#[tokio::test]
async fn a_page_that_was_read_ahead_is_the_next_rounds_and_no_more_of_it_than_that_wants() {
    let page = |clients: &[&str]| {
        ("c0".to_owned(), clients.iter().map(|client| (*client).to_owned()).collect::<Vec<_>>(), false)
    };
    assert_eq!(next_round(1, "000000005", 2, false).await, (vec![page(&["000000006", "000000007"])], 0));
    assert_eq!(next_round(1, "000000005", 1, false).await, (vec![page(&["000000006"])], 0));
}

#[tokio::test]
async fn a_page_that_was_read_ahead_is_no_updated_campaigns_and_none_that_follows_another_client() {
    let (pages, questions) = next_round(2, "000000005", 2, false).await;
    assert_eq!((pages[0].1.len(), questions), (2, 1), "what came while the campaign was over is not on it");
    let (pages, questions) = next_round(1, "000000006", 2, false).await;
    assert_eq!((pages[0].1[0].as_str(), questions), ("000000007", 1));
}

#[tokio::test]
async fn beside_a_page_that_was_read_ahead_the_others_are_asked_for() {
    let (pages, _) = next_round(1, "000000005", 10, true).await;
    assert_eq!(pages.len(), 2);
    let small = pages.iter().find(|(id, ..)| id == "c1").unwrap();
    assert_eq!((small.1.len(), small.2), (1, true));
    let giant = pages.iter().find(|(id, ..)| id == "c0").unwrap();
    assert_eq!(giant.1.len(), 9);
    assert_eq!(giant.1[0], "000000006");
}

#[tokio::test]
async fn a_page_that_was_read_ahead_waits_for_the_small_campaigns_that_its_round_asks_for_first() {
    let (pages, questions) = next_round(1, "000000005", 3, true).await;
    let rows: Vec<_> = pages.iter().map(|(id, clients, _)| (id.as_str(), clients.len())).collect();
    assert_eq!((rows, questions), (vec![("c1", 1), ("c0", 2)], 1));
}

#[tokio::test]
async fn a_page_is_read_ahead_where_drafts_are_so_large_that_few_fill_a_round() {
    let (giant, memory) = (running(0, 1_000), MemoryBudget::new(1 << 20));
    let content = round_up_to(&giant, 5).await;
    let of = |fit: usize| {
        let capacity = RoundCapacity { rows: 20_000, bytes: fit * giant.campaign.draft_size() };
        AheadQuery::of(&content, capacity, &memory).is_some()
    };
    assert!(of(4) && !of(5), "the round is full with two of so many");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_read_ahead_is_forgotten_after_a_second_and_once_it_was_taken() {
    let (audience, giant) = (Favoured::default(), running(0, 1_000));
    let next = NextPage::new(read_ahead(&audience, &giant).await);
    assert!(next.take().is_some());
    assert!(next.take().is_none());
    let next = NextPage::new(read_ahead(&audience, &giant).await);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(next.take().is_none(), "whoever left the restaurant meanwhile would be told");
}

#[tokio::test]
async fn a_page_that_was_read_ahead_is_given_up_before_its_round_waits_for_memory() {
    let (memory, giant) = (MemoryBudget::new(1 << 20), running(0, 1_000));
    let next = NextPage::new(read_ahead_of(&Favoured::default(), &giant, &memory).await);
    drop(next.make_room(memory.for_round(1, 0)).await);
    assert!(next.take().is_some(), "there was room for both");
    let next = NextPage::new(read_ahead_of(&Favoured::default(), &giant, &memory).await);
    let whole = next.make_room(memory.for_round(1, 600 << 10)).now_or_never();
    assert!(whole.is_some(), "the round waits for the memory of its own page");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_nobody_takes_gives_its_memory_back_after_a_second() {
    let (memory, giant) = (MemoryBudget::new(1 << 20), running(0, 1_000));
    let next = NextPage::new(read_ahead_of(&Favoured::default(), &giant, &memory).await);
    assert!(memory.reserved() > 0);
    assert!(tokio::time::timeout(Duration::from_secs(2), next.expire()).await.is_err());
    assert_eq!(memory.reserved(), 0);
}

/// How many questions forty rounds of a giant ask, if a page takes this long and a copy ten milliseconds.
async fn questions_of_forty_rounds(takes: Duration) -> usize {
    let (audience, memory) = (Favoured { takes, ..Favoured::default() }, MemoryBudget::new(1 << 20));
    let (mut next, mut pace, mut giant) = (NextPage::default(), ReadAheadPace::default(), running(0, 1_000));
    for _ in 0..40 {
        let source = PageSource::new(&audience, next.take());
        let pages = read(source, Seconds::new(1), RoundCapacity::rows_only(2), &[giant.clone()]).await.unwrap().read;
        let upto = pages[0].1.clients.last().unwrap().to_owned();
        let content = round_up_to(&giant, upto.parse().unwrap()).await;
        giant.cursor = Some(upto);
        let query = AheadQuery::of(&content, RoundCapacity::rows_only(2), &memory).unwrap();
        let (reads, after) = pace.next();
        pace = after;
        if reads {
            let copying = sleep(Duration::from_millis(10)).map(|()| Ok::<_, AudienceError>(()));
            ((), next, pace) = copy_beside(copying, query.read(&audience), pace).await.unwrap();
        }
    }
    audience.questions.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn an_audience_that_is_slower_than_the_copy_is_seldom_asked_twice_for_a_page() {
    assert_eq!(questions_of_forty_rounds(Duration::from_millis(5)).await, 41, "each page once, and one ahead");
    let questions = questions_of_forty_rounds(Duration::from_millis(50)).await;
    assert!(questions <= 40 * 12 / 10, "{questions} questions for 40 pages");
}

#[test]
fn those_who_were_told_are_left_out_and_the_order_stays() {
    let page: Clients = ["a", "b", "c", "d"].into_iter().collect();
    let told: Clients = ["b", "d", "x"].into_iter().collect();
    assert_eq!(without(page, &told).iter().collect::<Vec<_>>(), ["a", "c"]);
}
