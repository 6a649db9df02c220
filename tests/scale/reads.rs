//! What people look at costs the same however much was sent before: counted in pages, as in [`super::history`].

use std::time::Duration;

use dinnerbell::operator::audiences::Audiences;
use dinnerbell::operator::campaigns::Filter;
use dinnerbell::operator::campaigns::overview::overview;
use dinnerbell::operator::{audit, campaigns, lanes};
use dinnerbell_postgres::ledger::told::Told;

use super::history::{Counted, Statistics, past, told};

/// Campaigns that a client is looked for in.
const LATEST: i64 = 100;

/// Most pages of all tables that a question may touch, however much there is.
const BOUNDS: [(&str, i64); 14] = [
    ("a campaign", 40),
    ("the latest campaigns", 700),
    ("drafts of a client", 800),
    ("withdrawn for a client", 900),
    ("withdrawn pages", 60),
    ("told on a page", 60),
    ("told over time", 60),
    ("a list", 500),
    ("the next page of a list", 500),
    ("a list of those that run", 400),
    ("what goes on now", 400),
    ("a campaign with its timeline", 120),
    ("orders", 40),
    ("lanes", 40),
];

fn config() -> dinnerbell_config::Config {
    let toml = "[kafka]\nbootstrap_servers = 'localhost:1'\n[kafka.topics]\ncampaigns = 'promo.in'\nnotifications = 'promo.out'\n\
                [subscribers]\nurl = 'postgres://nobody@localhost:1/de?sslmode=disable'\n[feedback]\nurl = 'postgres://nobody@localhost:1/de?sslmode=disable'\n";
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("dinnerbell.toml");
    std::fs::write(&path, toml).expect("it can be written");
    dinnerbell_config::load(Some(&path), std::iter::empty()).expect("the configuration is right")
}

/// Everything that pages and commands ask of the feedback database.
async fn read_all(counted: &mut Counted) {
    let (pool, audiences) = (counted.ledger.pool().clone(), Audiences::of(&config()));
    let of = Told::of(pool.clone());
    assert!(of.campaign("open-1").await.unwrap().is_some());
    counted.note("a campaign").await;
    let latest = of.latest(None, LATEST).await.unwrap();
    counted.note("the latest campaigns").await;
    let mut ids: Vec<&str> = latest.iter().map(|campaign| campaign.adv_campaign_id.as_str()).collect();
    ids.push("open-1");
    let drafts = of.drafts(&ids, "m7").await.unwrap();
    assert!(drafts.len() <= 2 && !drafts.is_empty(), "{drafts:?}");
    counted.note("drafts of a client").await;
    of.withdrawn_for(&ids, "m7").await.unwrap();
    counted.note("withdrawn for a client").await;
    assert!(of.withdrawn_pages("open-1").await.unwrap().is_empty());
    counted.note("withdrawn pages").await;
    assert_eq!(of.told_between("open-1", "m", "m50").await.unwrap().len(), 46);
    counted.note("told on a page").await;
    assert_eq!(of.over_time("open-1", 60).await.unwrap().spans.len(), 1);
    counted.note("told over time").await;
    let page = campaigns::list(&pool, &audiences, &Filter { limit: 50, ..Filter::default() }).await.unwrap();
    counted.note("a list").await;
    let after = page.campaigns.last().map(|campaign| campaign.adv_campaign_id.clone());
    campaigns::list(&pool, &audiences, &Filter { limit: 50, after, ..Filter::default() }).await.unwrap();
    counted.note("the next page of a list").await;
    let states = ["scheduled", "active", "complete"].map(str::to_owned).to_vec();
    let open = campaigns::list(&pool, &audiences, &Filter { limit: 50, states, ..Filter::default() }).await.unwrap();
    assert_eq!(open.campaigns.len(), 7);
    counted.note("a list of those that run").await;
    assert_eq!(overview(&pool, &audiences, 10).await.unwrap().active.count, 4);
    counted.note("what goes on now").await;
    assert!(campaigns::show(&pool, &audiences, "open-1").await.unwrap().is_some());
    counted.note("a campaign with its timeline").await;
    audit::list(&pool, &audit::Filter { limit: 50, ..audit::Filter::default() }).await.unwrap();
    counted.note("orders").await;
    assert_eq!(lanes::list(&pool).await.unwrap().len(), 2);
    counted.note("lanes").await;
}

/// Orders of a long time.
fn orders(number: u32) -> String {
    format!(
        "insert into dinnerbell.audit (who, what, subject, origin, host) select 'ivan', 'paused', 'service', 'page', 'h' from generate_series(1, {number})"
    )
}

/// All rounds were recorded in the last ten seconds, whatever the time that a question takes to be asked: the most that can be counted for a rate.
const JUST_NOW: &str = ";update dinnerbell.round set recorded_at = recorded_at + interval '1 hour';";

async fn touches_few_pages(besides: &str, statistics: Statistics) {
    let mut counted = Counted::with(besides, statistics).await;
    read_all(&mut counted).await;
    let sum = |question: &str| -> i64 {
        counted.of.iter().filter(|((asked, _), _)| *asked == question).map(|(_, pages)| pages).sum()
    };
    let found = BOUNDS.map(|(question, most)| (question, sum(question), most));
    println!("{statistics:?}: {found:?}");
    let over: Vec<_> = found.iter().filter(|(_, pages, most)| pages > most).collect();
    assert!(over.is_empty(), "statistics: {statistics:?}; these touch more pages than they may: {over:?}");
}

#[tokio::test]
async fn what_is_looked_at_touches_few_pages_after_twenty_thousand_campaigns() {
    let campaigns = 20_000;
    let besides =
        past(campaigns) + &told("past-", campaigns, 10) + &told("open-", 3, campaigns) + &orders(campaigns) + JUST_NOW;
    for statistics in [Statistics::None, Statistics::Old, Statistics::Fresh] {
        touches_few_pages(&besides, statistics).await;
    }
}

#[tokio::test]
#[ignore = "takes some minutes and 4 GB"]
async fn what_is_looked_at_touches_few_pages_and_is_quick_with_ten_million_rows_in_place() {
    let campaigns = 100_000;
    let besides = past(campaigns) + &told("past-", campaigns, 100) + &orders(campaigns) + JUST_NOW;
    touches_few_pages(&besides, Statistics::Fresh).await;
    let counted = Counted::with(&besides, Statistics::Fresh).await;
    let (pool, audiences) = (counted.ledger.pool().clone(), Audiences::of(&config()));
    for (what, search, most) in
        [("a list", None, 100), ("a search that finds nothing", Some("nowhere to be found"), 2_000)]
    {
        let filter = Filter { limit: 50, search: search.map(str::to_owned), ..Filter::default() };
        let began = tokio::time::Instant::now();
        campaigns::list(&pool, &audiences, &filter).await.unwrap();
        println!("{what}: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_millis(most), "{what} took {:?}", began.elapsed());
    }
}
