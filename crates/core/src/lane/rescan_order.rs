//! Which audiences are rescanned, and in which batch. Pure: what was read and the time are given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::model::late::OpenCampaign;
use crate::model::number::Seconds;
use crate::model::page::Page;

/// Most rescans that are held at once; further campaigns wait in the ledger.
pub const MAX_RESCANS: usize = 1_000;
/// Rows that a batch reads at most.
const ROWS: usize = 5_000;
/// Rows of the first page of a rescan: of most campaigns it is the last one too.
const FIRST_ROWS: usize = 100;
/// First pages of one batch.
const FIRST_PAGES: usize = ROWS / 2 / FIRST_ROWS;
/// How long a rescan that failed waits, from the first time to the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// The audience of one campaign as it is rescanned.
#[derive(Debug)]
pub struct CampaignRescan {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Whose favourites are read.
    pub restaurant_id: String,
    /// Which version of it is rescanned.
    pub revision: i32,
    /// How far the rescan is; none at its beginning.
    pub cursor: Option<String>,
    /// Where it ends: the cursor of the last recorded round, none once the main pass is over.
    pub upto: Option<String>,
    end: Seconds,
    pages: u32,
    backoff: Backoff,
    not_before: Option<Instant>,
    /// A client was missed, and the rescan may have gone by its place already: its restaurant is rescanned once more.
    again: bool,
}

/// The order of rescans: what ends first comes first.
type RescanKey = (Seconds, String);

/// The campaigns of a batch by their keys, and how many rows are read of each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RescanBatch(Vec<(RescanKey, usize)>);

/// What ended with a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BatchResult {
    /// Campaigns whose rescan is over, and which version of them.
    pub rescanned: Vec<(String, i32)>,
    /// Restaurants of which a client was missed meanwhile.
    pub again: Vec<String>,
}

/// The rescans of a lane.
#[derive(Debug, Default)]
pub struct Rescans {
    of: BTreeMap<RescanKey, CampaignRescan>,
    listing: Listing,
    /// The listing that is under way began too early.
    list_again: bool,
}

/// How far the listing of all open campaigns of the lane is, in the order of their ends.
#[derive(Debug, Default)]
enum Listing {
    #[default]
    Over,
    Begins,
    Behind(RescanKey),
}

impl RescanBatch {
    /// How many campaigns have it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody has it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same as batches of one campaign each.
    pub fn one_by_one(self) -> impl Iterator<Item = Self> {
        self.0.into_iter().map(|one| Self(vec![one]))
    }
}

impl CampaignRescan {
    fn of(open: &OpenCampaign) -> Self {
        let campaign = &open.running.campaign;
        Self {
            adv_campaign_id: campaign.adv_campaign_id.clone(),
            restaurant_id: campaign.restaurant_id.clone(),
            revision: open.running.revision,
            cursor: None,
            upto: if open.main_pass_over { None } else { open.running.cursor.clone() },
            end: campaign.window.end,
            pages: 0,
            backoff: Backoff::new(PAUSES[0], PAUSES[1]),
            not_before: None,
            again: false,
        }
    }

    fn key(&self) -> RescanKey {
        (self.end, self.adv_campaign_id.clone())
    }
}

/// Nobody was reached yet of a campaign without a page: its main pass finds everybody.
fn had_a_page(open: &OpenCampaign) -> bool {
    open.main_pass_over || open.running.cursor.is_some()
}

impl Rescans {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether nothing is to be rescanned, and all open campaigns were taken up.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && matches!(self.listing, Listing::Over)
    }

    /// Whether further campaigns must wait.
    pub fn is_full(&self) -> bool {
        self.of.len() >= MAX_RESCANS
    }

    /// Every open campaign of the lane is rescanned, or rescanned once more. A listing that is under way is finished first, so that however often this is
    /// asked for, each campaign is read.
    pub fn restart_all(&mut self) {
        self.of.values_mut().for_each(|rescan| rescan.again = true);
        match self.listing {
            Listing::Over => self.listing = Listing::Begins,
            Listing::Begins => {}
            Listing::Behind(_) => self.list_again = true,
        }
    }

    /// Behind which campaign the listing takes up the next ones; none where it is over, or there is no room.
    pub fn list_after(&self) -> Option<Option<RescanKey>> {
        match &self.listing {
            _ if self.is_full() => None,
            Listing::Over => None,
            Listing::Begins => Some(None),
            Listing::Behind(key) => Some(Some(key.clone())),
        }
    }

    /// The listing read these campaigns next, of at most `most`.
    pub fn listed(&mut self, open: Vec<OpenCampaign>, most: usize) {
        let last = open.last().map(|open| CampaignRescan::of(open).key());
        self.listing = match last {
            Some(key) if open.len() >= most => Listing::Behind(key),
            _ if std::mem::take(&mut self.list_again) => Listing::Begins,
            _ => Listing::Over,
        };
        open.into_iter().for_each(|open| self.take_up(open));
    }

    /// A campaign is due: one that is being rescanned need not be taken up.
    pub fn take_up(&mut self, open: OpenCampaign) {
        let rescan = CampaignRescan::of(&open);
        if had_a_page(&open) && !self.is_under_way(&rescan.adv_campaign_id) {
            self.of.insert(rescan.key(), rescan);
        }
    }

    /// Somebody was missed: a campaign that is being rescanned is rescanned once more.
    pub fn again(&mut self, open: OpenCampaign) {
        let id = open.running.id();
        match self.of.values_mut().find(|rescan| rescan.adv_campaign_id == id) {
            Some(rescan) if rescan.cursor.is_some() => rescan.again = true,
            // Nothing was read yet; its main pass may have gone on meanwhile.
            Some(rescan) => rescan.upto = CampaignRescan::of(&open).upto,
            None => self.take_up(open),
        }
    }

    /// The ids of those that are being rescanned.
    pub fn ids(&self) -> Vec<&str> {
        self.of.values().map(|rescan| rescan.adv_campaign_id.as_str()).collect()
    }

    fn is_under_way(&self, id: &str) -> bool {
        self.of.values().any(|rescan| rescan.adv_campaign_id == id)
    }

    /// What has ended is rescanned no more.
    pub fn forget_ended(&mut self, now: Seconds) {
        while self.of.first_key_value().is_some_and(|((end, _), _)| *end <= now) {
            self.of.pop_first();
        }
    }

    /// The next batch. Half of the rows are for the campaign that ends first, and half for those that had no page yet. Where all had one, they are
    /// for the campaign that had the fewest.
    pub fn next(&self, now: Instant) -> RescanBatch {
        let ready = || self.of.iter().filter(move |(_, rescan)| rescan.not_before.is_none_or(|at| at <= now));
        let Some((first, _)) = ready().next() else { return RescanBatch::default() };
        let others = || ready().skip(1);
        let beginners: Vec<_> = others().filter(|(_, rescan)| rescan.pages == 0).take(FIRST_PAGES).collect();
        let fewest = || others().min_by_key(|(_, rescan)| rescan.pages).filter(|_| beginners.is_empty());
        let mut batch: Vec<_> = beginners.iter().map(|(key, _)| ((*key).clone(), FIRST_ROWS)).collect();
        batch.extend(fewest().map(|(key, _)| (key.clone(), ROWS / 2)));
        let rows = if batch.is_empty() { ROWS } else { ROWS / 2 };
        batch.insert(0, (first.clone(), rows));
        RescanBatch(batch)
    }

    /// The rescans of a batch, and how many rows are read of each.
    pub fn of<'a>(&'a self, batch: &'a RescanBatch) -> impl Iterator<Item = (&'a CampaignRescan, usize)> {
        batch.0.iter().filter_map(move |(key, rows)| Some((self.of.get(key)?, *rows)))
    }

    /// Their pages were read, in this order.
    pub fn read(&mut self, batch: &RescanBatch, pages: &[Page]) -> BatchResult {
        let mut over = BatchResult::default();
        for ((key, _), page) in batch.0.iter().zip(pages) {
            let Some(rescan) = self.of.get_mut(key) else { continue };
            rescan.pages += 1;
            (rescan.backoff, rescan.not_before) = (Backoff::new(PAUSES[0], PAUSES[1]), None);
            if let Some(last) = page.clients.last() {
                rescan.cursor = Some(last.to_owned());
            }
            if !page.last {
                continue;
            }
            let Some(done) = self.of.remove(key) else { continue };
            match done.again {
                true => over.again.push(done.restaurant_id),
                false => over.rescanned.push((done.adv_campaign_id, done.revision)),
            }
        }
        over
    }

    /// They could not be read: they are tried again later, the later the more often.
    pub fn failed(&mut self, batch: &RescanBatch, now: Instant) {
        for (key, _) in &batch.0 {
            let Some(rescan) = self.of.get_mut(key) else { continue };
            rescan.not_before = Some(now + rescan.backoff.failed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::campaign::{Campaign, Window};
    use crate::model::due::RunningCampaign;

    /// A campaign whose main pass is over; it is named like its restaurant.
    fn open(id: &str, end: Seconds) -> OpenCampaign {
        let campaign = Campaign {
            adv_campaign_id: id.to_owned(),
            restaurant_id: id.to_owned(),
            adv_campaign_content: "c".to_owned(),
            adv_campaign_owner: "o".to_owned(),
            adv_campaign_owner_contact: "o".to_owned(),
            window: Window { start: Seconds::new(0), end },
            datetime_created: Seconds::new(0),
        };
        let running = RunningCampaign { campaign: Arc::new(campaign), revision: 1, cursor: Some("y".to_owned()) };
        OpenCampaign { running, main_pass_over: true, told: 0 }
    }

    fn rescans(of: &[(&str, Seconds)]) -> Rescans {
        let mut rescans = Rescans::default();
        of.iter().for_each(|(id, end)| rescans.take_up(open(id, *end)));
        rescans
    }

    fn next_batch(rescans: &Rescans, now: Instant) -> (RescanBatch, Vec<(String, usize)>) {
        let batch = rescans.next(now);
        let who = rescans.of(&batch).map(|(rescan, rows)| (rescan.adv_campaign_id.clone(), rows)).collect();
        (batch, who)
    }

    /// Each of a batch has a full page; those that are named have their last one.
    fn read(rescans: &mut Rescans, batch: &RescanBatch, last: &[&str]) -> BatchResult {
        let page = |(rescan, _): (&CampaignRescan, usize)| Page {
            clients: ["k"].into_iter().collect(),
            last: last.contains(&rescan.adv_campaign_id.as_str()),
            skipped: 0,
        };
        let pages: Vec<_> = rescans.of(batch).map(page).collect();
        rescans.read(batch, &pages)
    }

    #[test]
    fn what_ends_first_and_those_without_a_page_are_read_in_one_turn_and_no_giant_is_before_them() {
        let now = Instant::now();
        let mut rescans = rescans(&[
            ("giant", Seconds::new(1_000)),
            ("late", Seconds::new(3_000)),
            ("soon", Seconds::new(10)),
            ("giant too", Seconds::new(2_000)),
        ]);
        let (first, who) = next_batch(&rescans, now);
        let beginners = ["giant", "giant too", "late"].map(|id| (id.to_owned(), FIRST_ROWS));
        assert_eq!(who, [&[("soon".to_owned(), ROWS / 2)][..], &beginners].concat());
        let over = read(&mut rescans, &first, &["soon", "late"]);
        assert_eq!(over.rescanned, [("soon".to_owned(), 1), ("late".to_owned(), 1)]);

        // A newcomer beside two giants: it has half of the next batch.
        rescans.take_up(open("new", Seconds::new(9_000)));
        let (second, who) = next_batch(&rescans, now);
        assert_eq!(who, [("giant".to_owned(), ROWS / 2), ("new".to_owned(), FIRST_ROWS)]);
        read(&mut rescans, &second, &["new"]);
        // What ends first has a page in each batch; the rest is for the campaign that had the fewest.
        let (third, who) = next_batch(&rescans, now);
        assert_eq!(who, [("giant".to_owned(), ROWS / 2), ("giant too".to_owned(), ROWS / 2)]);
        read(&mut rescans, &third, &["giant"]);
        assert_eq!(next_batch(&rescans, now).1, [("giant too".to_owned(), ROWS)]);
    }

    #[test]
    fn who_is_missed_while_a_campaign_is_under_way_has_it_passed_once_more_and_no_sooner() {
        let now = Instant::now();
        let mut rescans = rescans(&[("a", Seconds::new(10))]);
        let (first, _) = next_batch(&rescans, now);
        read(&mut rescans, &first, &[]);
        rescans.again(open("a", Seconds::new(10)));
        assert_eq!(rescans.of.values().next().unwrap().cursor.as_deref(), Some("k"), "it goes on where it is");
        let over = read(&mut rescans, &first, &["a"]);
        assert_eq!(over, BatchResult { rescanned: Vec::new(), again: vec!["a".to_owned()] });
    }

    #[test]
    fn a_listing_of_all_campaigns_is_finished_before_it_begins_again() {
        let mut rescans = Rescans::default();
        rescans.restart_all();
        assert_eq!(rescans.list_after(), Some(None));
        rescans.listed(vec![open("a", Seconds::new(10)), open("b", Seconds::new(20))], 2);
        let behind = Some(Some((Seconds::new(20), "b".to_owned())));
        assert_eq!(rescans.list_after(), behind);
        rescans.restart_all();
        assert_eq!(rescans.list_after(), behind, "it goes on");
        rescans.listed(vec![open("c", Seconds::new(30))], 2);
        assert_eq!((rescans.len(), rescans.list_after()), (3, Some(None)), "and then once more");
        rescans.listed(Vec::new(), 2);
        assert_eq!(rescans.list_after(), None);
    }

    #[test]
    fn a_pass_that_fails_waits_longer_each_time_and_holds_up_no_other() {
        let now = Instant::now();
        let mut rescans = rescans(&[("broken", Seconds::new(10)), ("well", Seconds::new(20))]);
        let (both, _) = next_batch(&rescans, now);
        let alone = both.one_by_one().next().unwrap();
        rescans.failed(&alone, now);
        assert_eq!(next_batch(&rescans, now).1, [("well".to_owned(), ROWS)]);
        assert_eq!(next_batch(&rescans, now + PAUSES[0]).1.len(), 2, "it is tried again");
        (0..8).for_each(|_| rescans.failed(&alone, now));
        assert_eq!(next_batch(&rescans, now + PAUSES[1] / 2 - Duration::from_secs(1)).1.len(), 1);
        assert_eq!(next_batch(&rescans, now + PAUSES[1]).1.len(), 2, "after a minute at the latest");
        rescans.forget_ended(Seconds::new(10));
        assert_eq!(rescans.ids(), ["well"]);
    }

    #[test]
    fn a_campaign_without_a_page_is_not_passed() {
        let mut rescans = Rescans::default();
        let mut fresh = open("fresh", Seconds::new(10));
        (fresh.main_pass_over, fresh.running.cursor) = (false, None);
        rescans.take_up(fresh);
        assert!(rescans.is_empty());
    }
}
