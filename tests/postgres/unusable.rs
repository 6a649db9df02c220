//! Rows of the subscribers that the server hides, or for which nobody can be told.

use std::sync::Arc;

use dinnerbell_core::model::page::PageRequest;
use dinnerbell_core::ports::audience::{Audience, AudienceError};
use dinnerbell_postgres::audience::PostgresAudience;
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::needs;

use crate::postgres::audience::{clients, pages};
use crate::postgres::place::{Login, Migration, section, seed_database, subscribers_pool};
use crate::support::{Database, PostgresServer};

const TABLE: &str = "public.subscribers_restaurants";

/// A database of another encoding, in which some client ids of the pizzeria are no UTF-8; one restaurant's id is not either.
fn encoded(encoding: &str, bad: &[&str]) -> Database {
    let database = Database::encoded(&PostgresServer::shared(), encoding);
    database.create_seed_tables();
    // As `migrate` makes it; it refuses a feedback database of such an encoding, which this one is not.
    database.execute(&format!(
        "create index on {TABLE} (restaurant_id, client_id collate \"C\")
         where octet_length(restaurant_id) <= 256 and octet_length(client_id) <= 256"
    ));
    let rows: Vec<_> =
        bad.iter().map(|bytes| format!("(E'{bytes}', 'pizzeria'), (E'{bytes}', 'nothing else')")).collect();
    database.execute(&format!(
        "insert into {TABLE} (client_id, restaurant_id) values ('a', 'pizzeria'), ('d', 'pizzeria'), ('', 'pizzeria'),
         ('of a bad restaurant', E'{}'), {}, ('z', 'pizzeria')",
        bad[0],
        rows.join(", ")
    ));
    database
}

/// Such ids are passed over and counted by each reading, whatever the size of a page.
async fn assert_passed_over(database: &Database, bad: usize) {
    let audience = PostgresAudience::open(subscribers_pool(database)).await.unwrap();
    for rows in [1, 2, 3, 100] {
        let pages = pages(&audience, "pizzeria", rows).await;
        assert_eq!(clients(&pages), ["a", "d", "z"], "{rows} rows a page");
        let skipped: u64 = pages.iter().map(|page| page.skipped).sum();
        assert_eq!(skipped, bad as u64 + 1, "{rows} rows a page: the bad ones and the empty one");
        let nothing = self::pages(&audience, "nothing else", rows).await;
        assert_eq!((nothing.len(), clients(&nothing).len(), nothing[0].skipped), (1, 0, bad as u64));
    }
    let wanted = |after, upto| PageRequest { restaurant_id: "pizzeria", after, upto, rows: 2 };
    let several = audience.pages(&[wanted(None, None), wanted(Some("a"), Some("d"))]).await.unwrap();
    let several: Vec<_> = several.into_iter().map(Result::unwrap).collect();
    assert_eq!(clients(&several), ["a", "d", "d"]);

    let all = database.number(&format!("select count(*) from {TABLE}"));
    let added = audience.added(0, 1_000).await.unwrap();
    assert_eq!((added.ids.len() as i64, added.favourites.len()), (all, 3), "the tail scan goes past every row");
    assert_eq!(audience.of_ids(&added.ids).await.unwrap().len(), 3);

    let size = AudienceSize::open(subscribers_pool(database)).await.unwrap();
    assert_eq!(size.clients("pizzeria", |_| {}).await.unwrap(), 3);
    assert_eq!(size.skipped("pizzeria").await.unwrap(), bad as i64 + 1);
}

#[tokio::test]
async fn ids_that_are_no_utf8_are_passed_over_and_counted_where_the_database_knows_no_encoding() {
    let bad = [r"b\xe9", r"c\xc3", r"\xff", r"q\xed\xa0\x80", r"\xf4\x90\x80\x80", r"\xc0\xaf"];
    let database = encoded("SQL_ASCII", &bad);
    database.execute(&format!(
        "insert into {TABLE} (client_id, restaurant_id) values ('жuk', 'café'), ('\u{20ac}', 'café')"
    ));
    {
        let audience = PostgresAudience::open(subscribers_pool(&database)).await.unwrap();
        assert_eq!(clients(&pages(&audience, "café", 1).await), ["жuk", "\u{20ac}"]);
    }
    database.execute(&format!("delete from {TABLE} where restaurant_id = 'café'"));
    assert_passed_over(&database, bad.len()).await;
}

#[tokio::test]
async fn ids_that_are_too_long_in_utf8_are_passed_over_and_counted_where_another_encoding_has_room_for_them() {
    // 129 characters of two bytes each, and 128.
    let (too_long, just) = (r"\xe9".repeat(129), r"\xe9".repeat(128));
    let database = encoded("LATIN1", &[&too_long]);
    assert_passed_over(&database, 1).await;
    database.execute(&format!(
        "insert into {TABLE} (client_id, restaurant_id) values (E'{just}', 'caf\u{e9}'), ('z', 'caf\u{e9}'), (E'\\xff', 'caf\u{e9}')"
    ));
    let audience = PostgresAudience::open(subscribers_pool(&database)).await.unwrap();
    let all = ["z".to_owned(), "\u{e9}".repeat(128), "\u{ff}".to_owned()];
    assert_eq!(clients(&pages(&audience, "caf\u{e9}", 1).await), all, "in the order of UTF-8");
    assert!(pages(&audience, "кафе", 1).await[0].clients.is_empty(), "the database cannot write that restaurant");
}

#[tokio::test]
async fn a_database_in_whose_encoding_ids_have_another_order_is_refused() {
    for encoding in ["KOI8R", "WIN1251", "WIN1252", "EUC_JP"] {
        let database = Database::encoded(&PostgresServer::shared(), encoding);
        database.create_seed_tables();
        let error = PostgresAudience::open(subscribers_pool(&database)).await.err().expect("it is refused");
        let said = format!(
            "its encoding is {encoding}, in which ids have another order than in the ledger; let subscribers.url lead"
        );
        assert!(matches!(&error, AudienceError::Refused(text) if text.contains(&said)), "{error}");
    }
}

#[tokio::test]
async fn rows_that_cannot_be_told_do_not_stop_the_tail_scan_before_those_behind_them() {
    let database = seed_database();
    database
        .execute(&format!("insert into {TABLE} (client_id, restaurant_id) select '', 'r' from generate_series(1, 50)"));
    database.subscribe_clients("r", &["a"]);
    let audience = PostgresAudience::open(subscribers_pool(&database)).await.unwrap();
    let first = audience.added(0, 20).await.unwrap();
    assert_eq!((first.ids.len(), first.favourites.len()), (20, 0));
    let mut after = *first.ids.last().unwrap();
    let mut found = Vec::new();
    for _ in 0..2 {
        let added = audience.added(after, 20).await.unwrap();
        after = *added.ids.last().unwrap();
        found.extend(added.favourites);
    }
    assert_eq!(found.iter().map(|favourite| favourite.client_id.as_str()).collect::<Vec<_>>(), ["a"]);
}

/// Who may read the table, and sees only a part of it.
fn half_blind(database: &Arc<Database>) -> (Login, Pool) {
    let login = Login::create(database);
    database.execute(&format!(
        "grant select on {TABLE} to {0}; create policy half on {TABLE} to {0} using (client_id < 'm');
         alter table {TABLE} enable row level security",
        login.name
    ));
    let pool = Pool::open(&section(&login.url, "subscribers_restaurants"), "subscribers").unwrap();
    (login, pool)
}

#[tokio::test]
async fn rows_that_row_level_security_hides_are_an_error_and_no_smaller_audience() {
    let database = Arc::new(seed_database());
    Migration::of_one(&database).succeed(&[]);
    database.subscribe_clients("pizzeria", &["a", "z"]);
    let (login, pool) = half_blind(&database);
    let audience = PostgresAudience::open(pool.clone()).await.unwrap();
    let is_refused = |error: AudienceError| {
        let named = |text: &str| text.contains("row-level security") && text.contains("bypassrls");
        assert!(matches!(&error, AudienceError::Refused(text) if named(text)), "{error}");
    };
    is_refused(
        audience.page(PageRequest { restaurant_id: "pizzeria", after: None, upto: None, rows: 10 }).await.unwrap_err(),
    );
    is_refused(audience.newest().await.unwrap_err());
    is_refused(audience.added(0, 10).await.unwrap_err());
    let size = AudienceSize::open(pool.clone()).await.unwrap();
    is_refused(size.clients("pizzeria", |_| {}).await.unwrap_err());
    is_refused(needs::of_subscribers(&pool, true).await.unwrap_err().into());

    database.execute(&format!("alter role {} bypassrls", login.name));
    assert_eq!(clients(&pages(&audience, "pizzeria", 10).await), ["a", "z"]);
    needs::of_subscribers(&pool, true).await.unwrap();
}

#[tokio::test]
async fn rows_that_are_hidden_below_a_view_are_an_error_too() {
    let database = Arc::new(seed_database());
    let (login, _pool) = half_blind(&database);
    database.execute(&format!(
        "create view public.favourites as select * from {TABLE}; alter view public.favourites owner to {0}; grant select on public.favourites to {0}",
        login.name
    ));
    let pool = Pool::open(&section(&login.url, "favourites"), "subscribers").unwrap();
    let error = needs::of_subscribers(&pool, true).await.unwrap_err().to_string();
    assert!(error.contains("row-level security") && error.contains("public.favourites"), "{error}");
    database.execute("drop view public.favourites");
}
