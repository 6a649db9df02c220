//! Which audiences are passed again, and in which batch. Pure: what was read and the time are given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::model::late::OpenCampaign;
use crate::model::number::Seconds;
use crate::model::page::Page;

/// Most passes that are held at once; further campaigns wait in the ledger.
pub const MOST: usize = 1_000;
/// Rows that a batch reads at most.
const ROWS: usize = 5_000;
/// Rows of the first page of a pass: of most campaigns it is the last one too.
const FIRST_ROWS: usize = 100;
/// First pages of one batch.
const FIRST_PAGES: usize = ROWS / 2 / FIRST_ROWS;
/// How long a pass that failed waits, from the first time to the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// The audience of one campaign as it is passed again.
#[derive(Debug)]
pub struct Pass {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Whose favourites are read.
    pub restaurant_id: String,
    /// Which version of it is passed.
    pub revision: i32,
    /// How far the pass is; none at its beginning.
    pub cursor: Option<String>,
    /// Where it ends: the cursor of the last recorded round, none once the main pass is over.
    pub upto: Option<String>,
    end: Seconds,
    pages: u32,
    backoff: Backoff,
    not_before: Option<Instant>,
    /// A client was missed, and the pass may have gone by its place already: its restaurant is passed once more.
    again: bool,
}

/// The order of passes: what ends first comes first.
type PassKey = (Seconds, String);

/// The campaigns of a batch by their keys, and how many rows are read of each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RescanBatch(Vec<(PassKey, usize)>);

/// What ended with a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BatchResult {
    /// Campaigns that were passed, and which version of them.
    pub passed: Vec<(String, i32)>,
    /// Restaurants of which a client was missed meanwhile.
    pub again: Vec<String>,
}

/// The passes of a lane.
#[derive(Debug, Default)]
pub struct Passes {
    of: BTreeMap<PassKey, Pass>,
    walk: Walk,
    /// The walk that is under way began too early.
    walk_again: bool,
}

/// Where the walk over all open campaigns of the lane is, in the order of their ends.
#[derive(Debug, Default)]
enum Walk {
    #[default]
    Over,
    Begins,
    Behind(PassKey),
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

impl Pass {
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

    fn key(&self) -> PassKey {
        (self.end, self.adv_campaign_id.clone())
    }
}

/// Nobody was passed yet of a campaign without a page: its main pass finds everybody.
fn had_a_page(open: &OpenCampaign) -> bool {
    open.main_pass_over || open.running.cursor.is_some()
}

impl Passes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether nothing is to be passed, and all open campaigns were taken up.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && matches!(self.walk, Walk::Over)
    }

    /// Whether further campaigns must wait.
    pub fn is_full(&self) -> bool {
        self.of.len() >= MOST
    }

    /// Every open campaign of the lane is passed, or passed again. A walk that is under way is finished first, so that however often this is
    /// asked for, each campaign is read.
    pub fn all_again(&mut self) {
        self.of.values_mut().for_each(|pass| pass.again = true);
        match self.walk {
            Walk::Over => self.walk = Walk::Begins,
            Walk::Begins => {}
            Walk::Behind(_) => self.walk_again = true,
        }
    }

    /// Behind which campaign the walk takes up the next ones; none where it is over, or there is no room.
    pub fn walks_from(&self) -> Option<Option<PassKey>> {
        match &self.walk {
            _ if self.is_full() => None,
            Walk::Over => None,
            Walk::Begins => Some(None),
            Walk::Behind(key) => Some(Some(key.clone())),
        }
    }

    /// The walk read these campaigns next, of at most `most`.
    pub fn walked(&mut self, open: Vec<OpenCampaign>, most: usize) {
        let last = open.last().map(|open| Pass::of(open).key());
        self.walk = match last {
            Some(key) if open.len() >= most => Walk::Behind(key),
            _ if std::mem::take(&mut self.walk_again) => Walk::Begins,
            _ => Walk::Over,
        };
        open.into_iter().for_each(|open| self.take_up(open));
    }

    /// A campaign is due: one that is passed already need not be taken up.
    pub fn take_up(&mut self, open: OpenCampaign) {
        let pass = Pass::of(&open);
        if had_a_page(&open) && !self.is_passed(&pass.adv_campaign_id) {
            self.of.insert(pass.key(), pass);
        }
    }

    /// Somebody was missed: a campaign that is passed already is passed once more.
    pub fn again(&mut self, open: OpenCampaign) {
        let id = open.running.id();
        match self.of.values_mut().find(|pass| pass.adv_campaign_id == id) {
            Some(pass) if pass.cursor.is_some() => pass.again = true,
            // Nothing was passed yet; its main pass may have gone on meanwhile.
            Some(pass) => pass.upto = Pass::of(&open).upto,
            None => self.take_up(open),
        }
    }

    /// The ids of those that are passed.
    pub fn ids(&self) -> Vec<&str> {
        self.of.values().map(|pass| pass.adv_campaign_id.as_str()).collect()
    }

    fn is_passed(&self, id: &str) -> bool {
        self.of.values().any(|pass| pass.adv_campaign_id == id)
    }

    /// What has ended is passed no more.
    pub fn forget_ended(&mut self, now: Seconds) {
        while self.of.first_key_value().is_some_and(|((end, _), _)| *end <= now) {
            self.of.pop_first();
        }
    }

    /// The next batch. Half of the rows are for the campaign that ends first, and half for those that had no page yet. Where all had one, they are
    /// for the campaign that had the fewest.
    pub fn next(&self, now: Instant) -> RescanBatch {
        let ready = || self.of.iter().filter(move |(_, pass)| pass.not_before.is_none_or(|at| at <= now));
        let Some((first, _)) = ready().next() else { return RescanBatch::default() };
        let others = || ready().skip(1);
        let beginners: Vec<_> = others().filter(|(_, pass)| pass.pages == 0).take(FIRST_PAGES).collect();
        let fewest = || others().min_by_key(|(_, pass)| pass.pages).filter(|_| beginners.is_empty());
        let mut batch: Vec<_> = beginners.iter().map(|(key, _)| ((*key).clone(), FIRST_ROWS)).collect();
        batch.extend(fewest().map(|(key, _)| (key.clone(), ROWS / 2)));
        let rows = if batch.is_empty() { ROWS } else { ROWS / 2 };
        batch.insert(0, (first.clone(), rows));
        RescanBatch(batch)
    }

    /// The passes of a batch, and how many rows are read of each.
    pub fn of<'a>(&'a self, batch: &'a RescanBatch) -> impl Iterator<Item = (&'a Pass, usize)> {
        batch.0.iter().filter_map(move |(key, rows)| Some((self.of.get(key)?, *rows)))
    }

    /// Their pages were read, in this order.
    pub fn read(&mut self, batch: &RescanBatch, pages: &[Page]) -> BatchResult {
        let mut over = BatchResult::default();
        for ((key, _), page) in batch.0.iter().zip(pages) {
            let Some(pass) = self.of.get_mut(key) else { continue };
            pass.pages += 1;
            (pass.backoff, pass.not_before) = (Backoff::new(PAUSES[0], PAUSES[1]), None);
            if let Some(last) = page.clients.last() {
                pass.cursor = Some(last.to_owned());
            }
            if !page.last {
                continue;
            }
            let Some(done) = self.of.remove(key) else { continue };
            match done.again {
                true => over.again.push(done.restaurant_id),
                false => over.passed.push((done.adv_campaign_id, done.revision)),
            }
        }
        over
    }

    /// They could not be read: they are tried again later, the later the more often.
    pub fn failed(&mut self, batch: &RescanBatch, now: Instant) {
        for (key, _) in &batch.0 {
            let Some(pass) = self.of.get_mut(key) else { continue };
            pass.not_before = Some(now + pass.backoff.failed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::campaign::{Campaign, Window};
    use crate::model::due::ActiveCampaign;

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
        let running = ActiveCampaign { campaign: Arc::new(campaign), revision: 1, cursor: Some("y".to_owned()) };
        OpenCampaign { running, main_pass_over: true, told: 0 }
    }

    fn passes(of: &[(&str, Seconds)]) -> Passes {
        let mut passes = Passes::default();
        of.iter().for_each(|(id, end)| passes.take_up(open(id, *end)));
        passes
    }

    fn next_batch(passes: &Passes, now: Instant) -> (RescanBatch, Vec<(String, usize)>) {
        let batch = passes.next(now);
        let who = passes.of(&batch).map(|(pass, rows)| (pass.adv_campaign_id.clone(), rows)).collect();
        (batch, who)
    }

    /// Each of a batch has a full page; those that are named have their last one.
    fn read(passes: &mut Passes, batch: &RescanBatch, last: &[&str]) -> BatchResult {
        let page = |(pass, _): (&Pass, usize)| Page {
            clients: ["k"].into_iter().collect(),
            last: last.contains(&pass.adv_campaign_id.as_str()),
            skipped: 0,
        };
        let pages: Vec<_> = passes.of(batch).map(page).collect();
        passes.read(batch, &pages)
    }

    #[test]
    fn what_ends_first_and_those_without_a_page_are_read_in_one_turn_and_no_giant_is_before_them() {
        let now = Instant::now();
        let mut passes = passes(&[
            ("giant", Seconds::new(1_000)),
            ("late", Seconds::new(3_000)),
            ("soon", Seconds::new(10)),
            ("giant too", Seconds::new(2_000)),
        ]);
        let (first, who) = next_batch(&passes, now);
        let beginners = ["giant", "giant too", "late"].map(|id| (id.to_owned(), FIRST_ROWS));
        assert_eq!(who, [&[("soon".to_owned(), ROWS / 2)][..], &beginners].concat());
        let over = read(&mut passes, &first, &["soon", "late"]);
        assert_eq!(over.passed, [("soon".to_owned(), 1), ("late".to_owned(), 1)]);

        // A newcomer beside two giants: it has half of the next batch.
        passes.take_up(open("new", Seconds::new(9_000)));
        let (second, who) = next_batch(&passes, now);
        assert_eq!(who, [("giant".to_owned(), ROWS / 2), ("new".to_owned(), FIRST_ROWS)]);
        read(&mut passes, &second, &["new"]);
        // What ends first has a page in each batch; the rest is for the campaign that had the fewest.
        let (third, who) = next_batch(&passes, now);
        assert_eq!(who, [("giant".to_owned(), ROWS / 2), ("giant too".to_owned(), ROWS / 2)]);
        read(&mut passes, &third, &["giant"]);
        assert_eq!(next_batch(&passes, now).1, [("giant too".to_owned(), ROWS)]);
    }

    #[test]
    fn who_is_missed_while_a_campaign_is_passed_has_it_passed_once_more_and_no_sooner() {
        let now = Instant::now();
        let mut passes = passes(&[("a", Seconds::new(10))]);
        let (first, _) = next_batch(&passes, now);
        read(&mut passes, &first, &[]);
        passes.again(open("a", Seconds::new(10)));
        assert_eq!(passes.of.values().next().unwrap().cursor.as_deref(), Some("k"), "it goes on where it is");
        let over = read(&mut passes, &first, &["a"]);
        assert_eq!(over, BatchResult { passed: Vec::new(), again: vec!["a".to_owned()] });
    }

    #[test]
    fn a_walk_over_all_campaigns_is_finished_before_it_begins_again() {
        let mut passes = Passes::default();
        passes.all_again();
        assert_eq!(passes.walks_from(), Some(None));
        passes.walked(vec![open("a", Seconds::new(10)), open("b", Seconds::new(20))], 2);
        let behind = Some(Some((Seconds::new(20), "b".to_owned())));
        assert_eq!(passes.walks_from(), behind);
        passes.all_again();
        assert_eq!(passes.walks_from(), behind, "it goes on");
        passes.walked(vec![open("c", Seconds::new(30))], 2);
        assert_eq!((passes.len(), passes.walks_from()), (3, Some(None)), "and then once more");
        passes.walked(Vec::new(), 2);
        assert_eq!(passes.walks_from(), None);
    }

    #[test]
    fn a_pass_that_fails_waits_longer_each_time_and_holds_up_no_other() {
        let now = Instant::now();
        let mut passes = passes(&[("broken", Seconds::new(10)), ("well", Seconds::new(20))]);
        let (both, _) = next_batch(&passes, now);
        let alone = both.one_by_one().next().unwrap();
        passes.failed(&alone, now);
        assert_eq!(next_batch(&passes, now).1, [("well".to_owned(), ROWS)]);
        assert_eq!(next_batch(&passes, now + PAUSES[0]).1.len(), 2, "it is tried again");
        (0..8).for_each(|_| passes.failed(&alone, now));
        assert_eq!(next_batch(&passes, now + PAUSES[1] / 2 - Duration::from_secs(1)).1.len(), 1);
        assert_eq!(next_batch(&passes, now + PAUSES[1]).1.len(), 2, "after a minute at the latest");
        passes.forget_ended(Seconds::new(10));
        assert_eq!(passes.ids(), ["well"]);
    }

    #[test]
    fn a_campaign_without_a_page_is_not_passed() {
        let mut passes = Passes::default();
        let mut fresh = open("fresh", Seconds::new(10));
        (fresh.main_pass_over, fresh.running.cursor) = (false, None);
        passes.take_up(fresh);
        assert!(passes.is_empty());
    }
}
