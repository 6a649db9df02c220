//! What a lane asks of its ledger costs the same however much was sent before, and however many other campaigns are open: counted in pages,
//! which no busy machine changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::late::LateQuery;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::round::{PageRange, RoundContent, RoundPart, Sealed};
use dinnerbell_core::ports::ledger::{
    CampaignLedger, InstanceLedger, IntakeLedger, LaneLedger, RoundLedger, RoundTransaction,
};
use dinnerbell_postgres::clock::PostgresClock;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::PostgresLedger;

use crate::postgres::place::{Migration, feedback_pool, intake_batch, section, seed_database};
use crate::support::{Campaign, Database};

/// What is open in every ledger whose pages are counted: lane 0 has recorded round 40,000, in which `open-1` told the clients up to `m50`, and
/// `open-3` two who were late; some campaigns of each state wait for their turn, with two dead letters and a change to apply.
const OPEN: &str = "
    insert into dinnerbell.service (ledger, cluster_id, group_id, campaigns_topic, notifications_topic)
      values (gen_random_uuid(), 'cluster', 'group', 'promo.in', 'promo.out');
    insert into dinnerbell.lane (lane, lock_key, position, seq, published_seq) values (0, 1, 100, 40000, 39999), (1, 2, 0, 0, 0);
    insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created) values (1, 0, 0, 0, 0, 0);
    insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created)
      select 0, seq, 0, 48, 100, 0 from generate_series(39999, 40000) seq;
    insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_content, adv_campaign_owner,
        adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, cursor, last_page_seq, repass_at)
      select id, 0, state, 'lively', 'soup', 'Ivan', 'ivan@soup', now.s - 600, now.s + ends, 1, cursor, page, 0
      from (select extract(epoch from now())::int8) now (s), (values ('open-1', 'active', 3600, 'm50', null), ('open-2', 'active', 3600, null, null),
        ('open-3', 'complete', 3600, 'z', 39000), ('ended', 'active', -5, 'm', null), ('published', 'active', 3600, 'z', 40000),
        ('uncounted', 'expired', -60, null, null), ('cancelled', 'cancelled', 3600, 'm', null)) open (id, state, ends, cursor, page);
    insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_content, adv_campaign_owner,
        adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created)
      select 'scheduled-' || n, 0, 'scheduled', 'lively', 'soup', 'Ivan', 'ivan@soup', extract(epoch from now())::int8 + n, 99999999999, 1
      from (values (-5), (900)) later (n);
    insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, after_client, upto_client, last_page, drafts,
        checksum, late)
      values (0, 40000, 0, 'open-1', 1, true, 'm', 'm50', false, 46, 0, '{}'), (0, 40000, 1, 'open-3', 1, false, null, null, false, 2, 0, '{m1,m2}');
    insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
        adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created)
      select 'lively', id, 'soup', 'Ivan', 'ivan@soup', 0, 99999999999, 1, 'm' || n, 0
      from generate_series(1, 50) n, (values ('open-1', 50), ('open-3', 2)) open (id, most) where n <= most;
    insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, reason) values (0, 0, 1, 'r'), (0, 1, 2, 'r');
    insert into dinnerbell.change (adv_campaign_id, key) values ('scheduled-900', 'scheduled-900');";

/// What was sent before, as the ledger keeps it: so many campaigns that are over, with two rounds, a applied change and a published dead
/// letter each.
pub fn past(campaigns: u32) -> String {
    format!(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, cursor, last_page_seq, told, unsent)
           select 'past-' || n, 0, case n % 4 when 0 then 'expired' when 1 then 'cancelled' else 'closed' end, case n % 2 when 0 then 'lively' else 'r' || n end,
             'soup', 'Ivan', 'ivan@soup', 1, extract(epoch from now())::int8 - 86400 - n, 1, 'z', -n, 10, 0 from generate_series(1, {campaigns}) n;
         insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at)
           select 'never-' || n, 0, 'cancelled', now() from generate_series(1, {campaigns} / 2) n;
         insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created)
           select 0, -n, 0, 5, n, 0 from generate_series(1, 2 * {campaigns}) n;
         insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, upto_client, last_page, drafts, checksum)
           select 0, -n, 0, 'past-' || (n + 1) / 2, 1, true, 'z', true, 5, 0 from generate_series(1, 2 * {campaigns}) n;
         insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, reason, round_seq)
           select 0, 0, n, 'r', 1 from generate_series(1, {campaigns}) n;
         insert into dinnerbell.change (adv_campaign_id, judged_as, judged_at)
           select 'past-' || n, 'ignored', now() from generate_series(1, {campaigns}) n;"
    )
}

/// Feedback rows of campaigns `{prefix}1` and so on, of clients `a1` and so on.
pub fn told(prefix: &str, campaigns: u32, clients: u32) -> String {
    format!(
        "insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created)
           select 'lively', '{prefix}' || n, 'soup', 'Ivan', 'ivan@soup', 0, 1, 1, 'a' || c, 0
           from generate_series(1, {campaigns}) n, generate_series(1, {clients}) c;"
    )
}

/// Other campaigns of the lane that are open, everybody told, until their end comes.
fn open(campaigns: u32) -> String {
    format!(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_content, adv_campaign_owner,
             adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, cursor, last_page_seq, told, repass_at)
           select 'other-' || n, 0, 'complete', 'other-' || n, 'soup', 'Ivan', 'ivan@soup', 1, 99999999999, 1, 'z', -n, 10, 99999999999
           from generate_series(1, {campaigns}) n;"
    )
}

const TABLES: [&str; 8] = [
    "dinnerbell.lane",
    "dinnerbell.campaign",
    "dinnerbell.round",
    "dinnerbell.round_part",
    "dinnerbell.dead_letter",
    "dinnerbell.change",
    "dinnerbell.audit",
    "public.subscribers_feedback",
];

/// How many may be late at once.
const LATE: i64 = 300;

/// What the planner knows of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistics {
    None,
    /// Of a time before anything was sent: they call the largest table small.
    Old,
    Fresh,
}

/// How many pages of a table, and of its indexes, were touched.
type Pages = BTreeMap<String, i64>;

/// A ledger whose pages are counted.
pub(super) struct Counted {
    pub(super) ledger: PostgresLedger,
    pages: Pages,
    /// What each question touched.
    pub(super) of: BTreeMap<(&'static str, String), i64>,
    database: Database,
}

impl Counted {
    /// With so much in place besides [`OPEN`].
    pub(super) async fn with(besides: &str, statistics: Statistics) -> Self {
        let database = seed_database();
        Migration::of_one(&database).succeed(&[]);
        // Nobody else touches the tables, and statistics are what the test says.
        database.execute(&TABLES.map(|table| format!("alter table {table} set (autovacuum_enabled = off);")).concat());
        database.execute(OPEN);
        let analyze = TABLES.map(|table| format!("analyze {table};")).concat();
        if statistics == Statistics::Old {
            database.execute(&analyze);
        }
        database.execute(besides);
        if statistics == Statistics::Fresh {
            database.execute(&analyze);
        }
        // A single session: its counts are there as soon as it is asked for them.
        let mut one = section(&database.plain_url(), "subscribers_feedback");
        one.max_connections = 1;
        let pool = Pool::open(&one, "feedback").unwrap();
        let clock = PostgresClock::start(feedback_pool(&database)).await.unwrap();
        let ledger = PostgresLedger::new(pool, clock, "counted".into(), "group".into(), true);
        let mut counted = Self { ledger, pages: Pages::new(), of: BTreeMap::new(), database };
        counted.pages = counted.touched().await;
        counted
    }

    /// What was touched so far.
    async fn touched(&self) -> Pages {
        let pool = self.ledger.pool();
        pool.query("select pg_stat_force_next_flush()", &[]).await.unwrap();
        let sql = "select relname::text, heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0) \
                     + coalesce(toast_blks_read + toast_blks_hit, 0) \
                   from pg_statio_user_tables where schemaname in ('dinnerbell', 'public')";
        let rows = pool.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// What was touched since the last question belongs to this one.
    pub(super) async fn note(&mut self, question: &'static str) {
        let now = self.touched().await;
        for (table, pages) in &now {
            self.of.insert((question, table.clone()), pages - self.pages[table]);
        }
        self.pages = now;
    }
}

/// Everything that a lane asks from its entry to the end of a round, and what is looked at for it meanwhile.
async fn ask_all(counted: &mut Counted) {
    let ledger = counted.ledger.clone();
    let own = ledger.acquire(Lane::new(0), Some(Offset::new(0))).await.unwrap().ownership;
    let other = ledger.acquire(Lane::new(1), Some(Offset::new(0))).await.unwrap().ownership;
    counted.note("acquire").await;
    assert!(ledger.still_mine(own).await.unwrap());
    counted.note("still_mine").await;
    let stored = ledger.stored_round(own).await.unwrap();
    assert_eq!(stored.batches.iter().map(|batch| batch.clients.len()).sum::<usize>(), 48);
    counted.note("stored_round").await;
    ledger.note_published(own, Seq::new(40_000)).await.unwrap();
    counted.note("note_published").await;
    let due = ledger.due(own, 100).await.unwrap();
    let running: Vec<_> = due.running.iter().map(|running| running.campaign.adv_campaign_id.as_str()).collect();
    assert_eq!(running, ["open-2", "scheduled--5", "open-1"]);
    assert_eq!((due.dead_letters.len(), due.uncounted.len()), (2, 3));
    counted.note("due").await;
    let waiting = ledger.poll(&[own, other]).await.unwrap();
    assert_eq!((waiting.changes, waiting.rescans), (vec![Lane::new(0)], vec![Lane::new(0)]));
    counted.note("waiting").await;
    assert!(!ledger.due_rescan(own, &["another"], 1).await.unwrap().is_empty());
    counted.note("due_rescan").await;
    for after in [None, Some(&(Seconds::new(1), "open-1".to_owned()))] {
        assert!(!ledger.open_campaigns_after(own, after, 1).await.unwrap().is_empty());
    }
    counted.note("open_campaigns_after").await;
    let restaurants = ["lively".to_owned(), "r1".to_owned()];
    assert_eq!(
        ledger.open_restaurants(&[Lane::new(0), Lane::new(1)], &restaurants).await.unwrap(),
        [(Lane::new(0), "lively".to_owned())]
    );
    counted.note("open_restaurants").await;
    assert_eq!(ledger.late_campaigns(own, &restaurants, None, 100).await.unwrap().len(), 5);
    assert_eq!(ledger.late_campaigns(own, &restaurants, Some("open-1"), 2).await.unwrap().len(), 2);
    counted.note("late_campaigns").await;
    ledger.apply_changes(own).await.unwrap();
    counted.note("apply_changes").await;
    ledger.note_rescanned(own, &[("open-3".to_owned(), 1)]).await.unwrap();
    counted.note("note_rescanned").await;
    ledger.note_unsent(own, "uncounted", 3).await.unwrap();
    counted.note("note_unsent").await;
    assert_eq!(ledger.already_told(&[range("open-1", Some("m"), "m50")]).await.unwrap()[0].len(), 46);
    counted.note("already_told").await;
    take_in(&ledger, own).await;
    counted.note("intake").await;
    let mut round = ledger.open_round(own).await.unwrap();
    let many: Vec<String> = (0..LATE).map(|number| format!("b{number}")).collect();
    let many: Clients = many.iter().map(String::as_str).collect();
    let behind = round.late(&[late("open-1", &many), late("open-2", &many)]).await.unwrap();
    assert_eq!(behind.iter().map(Clients::len).collect::<Vec<_>>(), [many.len(), many.len()]);
    assert_eq!(round.campaigns(&["open-1", "open-2"]).await.unwrap().len(), 2);
    round.abandon().await.unwrap();
    counted.note("late").await;
    record_round(&ledger, own).await;
    counted.note("round").await;
    let cancel = "update dinnerbell.campaign set state = 'cancelled' where adv_campaign_id = 'open-1'";
    ledger.pool().query(cancel, &[]).await.unwrap();
    counted.note("a cancellation").await;
    ledger.withdraw(own, RoundVersion { seq: Seq::new(40_001), revision: 0, checksum: 0 }).await.unwrap();
    counted.note("withdraw").await;
    assert_eq!(ledger.stored_round(own).await.unwrap().drafts, 0);
    let left =
        counted.database.number("select count(*) from public.subscribers_feedback where client_id in ('a0', 'm60')");
    assert_eq!(left, 0, "rows of the page and of late ones go");
}

fn late<'a>(adv_campaign_id: &'a str, clients: &'a Clients) -> LateQuery<'a> {
    LateQuery { adv_campaign_id, clients, planned_cursor: Some("m50"), main_pass_over: false }
}

fn range<'a>(adv_campaign_id: &'a str, after: Option<&'a str>, upto: &'a str) -> ClientRange<'a> {
    ClientRange { adv_campaign_id, after, upto }
}

/// A new campaign, an update of one that is open, and one of a campaign that is long over, where there is one.
async fn take_in(ledger: &PostgresLedger, own: Ownership) {
    let campaigns = ["new", "open-2", "past-78"].map(|id| Campaign::now(id, "lively"));
    let taken = ledger.intake(own, intake_batch(100, &campaigns)).await.unwrap();
    assert_eq!((taken.tally.records(), taken.tally.dead_letters), (3, 0));
}

/// A round of a page of `open-1`, with somebody late for it.
async fn record_round(ledger: &PostgresLedger, own: Ownership) {
    let due = ledger.due(own, 100).await.unwrap();
    let open = due.running.iter().find(|running| running.campaign.adv_campaign_id == "open-1").unwrap();
    let mut round = ledger.open_round(own).await.unwrap();
    let ranges = [range("open-1", Some("m50"), "m99"), range("none", None, "z"), range("open-1", Some("m7"), "m8")];
    let told = round.already_told(&ranges).await.unwrap();
    assert_eq!(told.iter().map(Clients::len).collect::<Vec<_>>(), [4, 0, 1]);
    let candidates: Clients = ["a0", "m1", "m7"].into_iter().collect();
    let late = round.late(&[late("open-1", &candidates)]).await.unwrap().remove(0);
    assert_eq!(late.iter().collect::<Vec<_>>(), ["a0"]);
    let template = Arc::new(DraftTemplate::new(open.campaign.clone(), Seconds::new(1), "group").unwrap());
    let page = PageRange {
        after: Some("m50".into()),
        upto: Some("m99".into()),
        last: false,
        already_told: ["m6", "m7", "m8", "m9"].map(str::to_owned).to_vec(),
        skipped: 0,
    };
    let drafts = DraftBatch { template, clients: ["m60", "a0"].into_iter().collect() };
    let parts = vec![RoundPart { drafts, revision: open.revision, page: Some(page), late: 1 }];
    let letters: Vec<i64> = due.dead_letters.iter().map(|letter| letter.id).collect();
    let dead_letters = round.dead_letters(&letters).await.unwrap();
    assert_eq!(dead_letters.len(), letters.len());
    let content =
        Arc::new(RoundContent { parts, dead_letters, trigger_datetime_created: Seconds::new(1), round_bytes: None });
    round.copy(content.clone()).await.unwrap();
    let head = RoundVersion { seq: Seq::new(40_001), revision: 0, checksum: 0 };
    assert!(
        matches!(round.seal(head, content).await.unwrap(), Sealed::Recorded { position, .. } if position == Offset::new(103))
    );
}

/// With so much in place, whatever is known of it, each question touches about as many pages as without.
async fn touches_no_more_pages(besides: &str) {
    let mut empty = Counted::with("", Statistics::None).await;
    ask_all(&mut empty).await;
    for statistics in [Statistics::None, Statistics::Old, Statistics::Fresh] {
        let mut full = Counted::with(besides, statistics).await;
        ask_all(&mut full).await;
        // Indexes are two levels deeper; in an empty ledger those who may be late are not even looked up, for each of two campaigns.
        let looked_up = |question: &str| if question == "late" { 2 * 3 * LATE } else { 0 };
        let bound = |question: &(&'static str, String)| 4 * empty.of[question] + 20 + looked_up(question.0);
        let grown: Vec<_> = full.of.iter().filter(|(question, pages)| **pages > bound(question)).collect();
        assert!(grown.is_empty(), "statistics: {statistics:?}; the pages of these grow: {grown:#?}");
    }
}

#[tokio::test]
async fn what_a_lane_asks_touches_no_more_pages_after_twenty_thousand_campaigns() {
    let campaigns = 20_000;
    touches_no_more_pages(&(past(campaigns) + &told("past-", campaigns, 10) + &told("open-", 3, campaigns))).await;
}

#[tokio::test]
async fn what_a_lane_asks_touches_no_more_pages_while_ten_thousand_other_campaigns_are_open() {
    touches_no_more_pages(&open(10_000)).await;
}
