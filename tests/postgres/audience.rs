//! Pages of subscribers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dinnerbell_core::model::page::{Page, PageRequest, Unread};
use dinnerbell_core::ports::audience::{Audience, AudienceError};
use dinnerbell_postgres::audience::PostgresAudience;
use dinnerbell_postgres::connect::Pool;

use crate::postgres::place::{Login, Migration, SOON, section, seed_database, subscribers_pool};
use crate::support::{Database, unique, wait_until};

fn wanted<'a>(restaurant_id: &'a str, after: Option<&'a str>, upto: Option<&'a str>, rows: usize) -> PageRequest<'a> {
    PageRequest { restaurant_id, after, upto, rows }
}

/// Every page of a restaurant, so many rows each.
pub async fn pages(audience: &PostgresAudience, restaurant_id: &str, rows: usize) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let after = pages.last().and_then(|page| page.clients.last()).map(str::to_owned);
        let page = audience.page(wanted(restaurant_id, after.as_deref(), None, rows)).await.unwrap();
        let last = page.last;
        pages.push(page);
        if last {
            return pages;
        }
    }
}

async fn pages_of(audience: &PostgresAudience, wanted: &[PageRequest<'_>]) -> Vec<Page> {
    audience.pages(wanted).await.unwrap().into_iter().map(Result::unwrap).collect()
}

pub fn clients(pages: &[Page]) -> Vec<String> {
    pages.iter().flat_map(|page| page.clients.iter().map(str::to_owned)).collect()
}

async fn audience_of(database: &Database) -> PostgresAudience {
    PostgresAudience::open(subscribers_pool(database)).await.unwrap()
}

fn migrated() -> Database {
    let database = seed_database();
    Migration::of_one(&database).succeed(&[]);
    database
}

#[tokio::test]
async fn pages_hold_each_subscriber_once_in_the_order_of_bytes() {
    let database = migrated();
    database.subscribe_clients("pizzeria", &["b", "a", "B", "ä", "a", "a", "Z", "z", "0", "é"]);
    database.subscribe_clients("elsewhere", &["c"]);
    let audience = audience_of(&database).await;
    let expected = ["0", "B", "Z", "a", "b", "z", "ä", "é"];
    for rows in [1, 3, 4, 8, 100] {
        let pages = pages(&audience, "pizzeria", rows).await;
        assert_eq!(clients(&pages), expected, "{rows} rows a page");
        assert!(pages.iter().rev().skip(1).all(|page| page.clients.len() == rows && !page.last), "{rows} rows a page");
    }
    assert_eq!(pages(&audience, "nobody's", 5).await, [Page { last: true, ..Page::default() }]);
}

#[tokio::test]
async fn a_page_is_read_in_time_however_often_one_client_stands_in_the_table() {
    let database = migrated();
    database.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) select 'often', 'crowded' from generate_series(1, 300000)",
    );
    database.subscribe_clients("crowded", &["a", "b", "b", "x", "z"]);
    database.subscribe_clients("calm", &["a", "b"]);
    // Long enough for a page, and too short for the rows of that client.
    let audience =
        PostgresAudience::open_with(subscribers_pool(&database), Duration::from_millis(15), Duration::from_secs(5))
            .await
            .unwrap();
    for rows in [2, 3, 5, 100] {
        let pages = pages(&audience, "crowded", rows).await;
        assert_eq!(clients(&pages), ["a", "b", "often", "x", "z"], "{rows} rows a page");
    }
    let upto = audience.page(wanted("crowded", Some("a"), Some("often"), 100)).await.unwrap();
    assert_eq!(upto.clients.iter().collect::<Vec<_>>(), ["b", "often"]);
    let both = pages_of(&audience, &[wanted("calm", None, None, 9), wanted("crowded", None, None, 9)]).await;
    assert_eq!(both.iter().map(|page| page.clients.len()).collect::<Vec<_>>(), [2, 5]);
}

#[tokio::test]
async fn a_page_that_is_not_read_in_time_client_by_client_either_costs_none_of_the_others() {
    let database = migrated();
    // Who cannot be told is counted on the first page, row by row.
    database.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) select '', 'crowded' from generate_series(1, 400000)",
    );
    database.subscribe_clients("calm", &["a", "b"]);
    let (soon, time_limit) = (Duration::from_millis(10), Duration::from_millis(20));
    let audience = PostgresAudience::open_with(subscribers_pool(&database), soon, time_limit).await.unwrap();
    for _ in 0..2 {
        let asked = [wanted("crowded", None, None, 9), wanted("calm", None, None, 9)];
        let both = audience.pages(&asked).await.unwrap();
        assert!(matches!(&both[0], Err(Unread::Overdue(said)) if said.contains("statement timeout")), "{both:?}");
        assert_eq!(both[1].as_ref().unwrap().clients.len(), 2);
    }
    let many: Vec<_> = (0..100).map(|_| wanted("crowded", None, None, 9)).collect();
    let (asked, pages) = (Instant::now(), audience.pages(&many).await.unwrap());
    assert!(pages.contains(&Err(Unread::NotAsked)), "a question of many such pages comes to its end");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let after = audience.page(wanted("crowded", Some("a"), None, 9)).await.unwrap();
    assert!(after.last, "behind it nobody is counted");
}

#[tokio::test]
async fn many_pages_at_once_are_those_that_one_by_one_would_be() {
    let (indexed, plain) = (migrated(), seed_database());
    let long = "x".repeat(257);
    for database in [&indexed, &plain] {
        database.subscribe_clients("pizzeria", &["b", "a", "B", "ä", "a", "", &long]);
        database.subscribe_clients("sushi", &["", "c", "d"]);
        let audience = audience_of(database).await;
        let many: Vec<_> = (0..60)
            .flat_map(|_| {
                [
                    wanted("pizzeria", None, None, 3),
                    wanted("nobody's", None, None, 3),
                    wanted("sushi", None, None, 9),
                    wanted("pizzeria", Some("a"), Some("b"), 3),
                    wanted("pizzeria", Some("a"), None, 2),
                ]
            })
            .collect();
        let pages = pages_of(&audience, &many).await;
        assert_eq!(pages.len(), many.len());
        for (wanted, page) in many.iter().zip(&pages).skip(250) {
            let one = audience.page(*wanted).await.unwrap();
            assert_eq!((&page.clients, page.last), (&one.clients, one.last), "{wanted:?}");
        }
        let seen = |at: usize| (pages[at].clients.iter().collect::<Vec<_>>(), pages[at].last, pages[at].skipped);
        assert_eq!([seen(0), seen(1)], [(vec!["B", "a", "b"], false, 2), (vec![], true, 0)]);
        assert_eq!([seen(297), seen(298)], [(vec!["c", "d"], true, 1), (vec!["b"], true, 0)]);
        assert_eq!(seen(299).0, ["b", "ä"]);
    }
}

#[tokio::test]
async fn a_pass_can_end_at_a_client() {
    let (indexed, plain) = (migrated(), seed_database());
    for database in [&indexed, &plain] {
        database.subscribe_clients("pizzeria", &["a", "b", "c", "d", "e"]);
        let audience = audience_of(database).await;
        let first = audience.page(wanted("pizzeria", None, Some("d"), 3)).await.unwrap();
        assert_eq!(
            (clients(std::slice::from_ref(&first)), first.last),
            (vec!["a".into(), "b".into(), "c".into()], false)
        );
        let second = audience.page(wanted("pizzeria", Some("c"), Some("d"), 3)).await.unwrap();
        assert_eq!((clients(std::slice::from_ref(&second)), second.last), (vec!["d".into()], true));
    }
}

#[tokio::test]
async fn ids_that_are_empty_or_too_long_are_skipped_and_counted_once() {
    let database = migrated();
    let (long, longest) = ("x".repeat(257), "y".repeat(256));
    database.subscribe_clients("pizzeria", &["", "", &long, &long, "alice", &longest, "ä".repeat(129).as_str()]);
    let audience = audience_of(&database).await;
    let pages = pages(&audience, "pizzeria", 1).await;
    assert_eq!(clients(&pages), ["alice", &longest]);
    assert_eq!(pages.iter().map(|page| page.skipped).collect::<Vec<_>>(), [3, 0, 0]);
}

#[tokio::test]
async fn a_page_reads_no_more_than_its_own_part_of_the_index() {
    // Neither analysed nor vacuumed: left to itself, the planner would collect and sort everybody for each page.
    let database = migrated();
    database.execute("alter table public.subscribers_restaurants set (autovacuum_enabled = off)");
    database.subscribe("giant", 100_000);
    database.subscribe("other", 20_000);
    let read = || {
        database.number("select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes where indexrelname like 'dinnerbell_audience%'")
    };
    let scans =
        || database.number("select seq_scan from pg_stat_user_tables where relname = 'subscribers_restaurants'");
    let scans_before = scans();
    {
        let audience = audience_of(&database).await;
        assert_eq!(clients(&pages(&audience, "giant", 5_000).await).len(), 100_000);
    }
    // A server process reports what it did at the latest when it ends.
    wait_until("the reading is reported", SOON, || read() >= 100_000);
    assert!(read() <= 110_000, "{} entries were read for 100,000 subscribers", read());
    assert_eq!(scans(), scans_before, "the table itself is never scanned");
}

#[tokio::test]
async fn without_an_index_the_pages_are_the_same() {
    let database = seed_database();
    database.subscribe_clients("pizzeria", &["b", "a", "", "a", "c"]);
    database.subscribe("giant", 137);
    let audience = audience_of(&database).await;
    let small = pages(&audience, "pizzeria", 2).await;
    assert_eq!(clients(&small), ["a", "b", "c"]);
    assert_eq!(small[0].skipped, 1);
    for rows in [4, 10, 137, 200] {
        let giant = pages(&audience, "giant", rows).await;
        let mut expected = database.clients_of("giant");
        expected.sort();
        assert_eq!(clients(&giant), expected);
        assert!(giant.iter().rev().skip(1).all(|page| page.clients.len() == rows));
    }
}

#[tokio::test]
async fn select_on_the_one_table_is_enough_also_where_nothing_may_be_written() {
    let database = Arc::new(migrated());
    database.subscribe("pizzeria", 25);
    let login = Login::create(&database);
    database.execute(&format!(
        "grant select on public.subscribers_restaurants to {0}; alter role {0} set default_transaction_read_only = on;
         alter role {0} set default_transaction_isolation = 'repeatable read'",
        login.name
    ));
    let pool = Pool::open(&section(&login.url, "subscribers_restaurants"), "subscribers").unwrap();
    let audience = PostgresAudience::open(pool).await.unwrap();
    assert_eq!(clients(&pages(&audience, "pizzeria", 10).await).len(), 25);
}

#[tokio::test]
async fn a_missing_right_or_table_is_refused_and_a_slow_statement_passes() {
    let database = Arc::new(migrated());
    let login = Login::create(&database);
    let pool = Pool::open(&section(&login.url, "subscribers_restaurants"), "subscribers").unwrap();
    let audience = PostgresAudience::open(pool).await.unwrap();
    let error = audience.page(wanted("pizzeria", None, None, 10)).await.unwrap_err();
    assert!(matches!(&error, AudienceError::Refused(text) if text.contains("subscribers_restaurants")), "{error}");

    let audience = audience_of(&database).await;
    database.execute("alter table public.subscribers_restaurants rename to moved");
    let error = audience.page(wanted("pizzeria", None, None, 10)).await.unwrap_err();
    assert!(matches!(&error, AudienceError::Refused(text) if text.contains("subscribers.table")), "{error}");
    // A statement that reads for ever stands for a server that is too slow; it is ended there too.
    database.execute(
        "create view public.subscribers_restaurants as
         select id, client_id, restaurant_id from public.moved union all
         select 0, pg_sleep(600)::text, 'pizzeria' from generate_series(1, 1)",
    );
    let error = audience.page(wanted("pizzeria", None, None, 10)).await.unwrap_err();
    assert!(matches!(&error, AudienceError::Unanswered(text) if text.contains("statement timeout")), "{error}");
}

#[tokio::test]
async fn a_restaurant_that_the_database_cannot_write_is_favoured_by_nobody() {
    let server = seed_database();
    let settings = "encoding 'LATIN1' locale_provider libc locale 'C' template template0";
    let latin = unique("t_latin_");
    server.execute(&format!("create database {latin} {settings}"));
    let url = server.plain_url().replace(&server.name, &latin);
    let pool = Pool::open(&section(&url, "subscribers_restaurants"), "subscribers").unwrap();
    let connection = pool.get().await.unwrap();
    connection
        .batch(
            "create table public.subscribers_restaurants (id serial4, client_id varchar not null, restaurant_id varchar not null);
             insert into public.subscribers_restaurants (client_id, restaurant_id) values ('é', 'café')",
        )
        .await
        .unwrap();
    connection.release();
    let audience = PostgresAudience::open(pool).await.unwrap();
    assert_eq!(clients(&pages(&audience, "café", 5).await), ["é"]);
    assert_eq!(pages(&audience, "кафе", 5).await, [Page { last: true, ..Page::default() }]);
    drop(audience);
    server.execute(&format!("drop database {latin} with (force)"));
}
