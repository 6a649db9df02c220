//! The same through pgbouncer in transaction mode.

use std::sync::Arc;

use bytes::Bytes;
use dinnerbell_postgres::audience::PostgresAudience;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::ErrorKind;
use dinnerbell_postgres::migrate::schema_is_current;
use tokio_postgres::types::Type;

use crate::postgres::audience::{clients, pages};
use crate::postgres::place::{Migration, Pooler, empty_database, section};
use crate::support::PostgresServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_pages_and_copies_work_through_a_pooler_with_fewer_connections_than_clients() {
    let database = empty_database();
    let pooler = Pooler::start(&PostgresServer::shared(), 4);
    let url = pooler.url(&database);
    Migration::of(&url, &url).succeed(&["--create-tables"]);
    Migration::of(&url, &url).succeed(&[]);
    database.subscribe("pizzeria", 3_000);
    let expected = database.clients_of("pizzeria").len();

    let open = |table, name| {
        let section = dinnerbell_config::Database { max_connections: 8, ..section(&url, table) };
        Pool::open(&section, name).unwrap()
    };
    let feedback = open("subscribers_feedback", "feedback");
    schema_is_current(&feedback).await.unwrap();
    let audience = PostgresAudience::open(open("subscribers_restaurants", "subscribers")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let audience = audience.clone();
        tasks.spawn(async move {
            for rows in [100, 333, 1_000, 5_000] {
                assert_eq!(clients(&pages(&audience, "pizzeria", rows).await).len(), expected);
            }
        });
        let feedback = feedback.clone();
        tasks.spawn(async move {
            for round in 0..20_i32 {
                record(&feedback, number, round).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(database.number("select count(*) from public.subscribers_feedback"), 8 * 20 * 5);
    let statements = feedback.query("select count(*) from pg_prepared_statements", &[]).await.unwrap();
    assert_eq!(statements[0].get::<_, i64>(0), 0, "a statement outlived its transaction");
}

/// A transaction as rounds have it: a lock, a statement with parameters, a copy; every third one is given up.
async fn record(feedback: &Pool, number: i32, round: i32) {
    let transaction = feedback.begin("set local lock_timeout = '2s'; set local synchronous_commit = on").await.unwrap();
    let key = i64::from(number);
    transaction.query("select pg_advisory_xact_lock_shared($1)", &[(&key, Type::INT8)]).await.unwrap();
    if round % 3 == 0 {
        let copy = transaction.copy_in("copy public.subscribers_feedback from stdin").await.unwrap();
        drop(copy);
        drop(transaction);
        Box::pin(record(feedback, number, round + 1_000)).await;
        return;
    }
    let sql = "copy public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, \
               adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, \
               trigger_datetime_created) from stdin";
    let mut copy = transaction.copy_in(sql).await.unwrap();
    for client in 0..5 {
        let row = format!("pizzeria\tc{number}-{round}\tx\to\tk\t1\t2\t1\tclient{client}\t1\n");
        copy.send(Bytes::from(row)).await.unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), 5);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn what_a_pooler_will_never_accept_is_refused() {
    let database = empty_database();
    let pooler = Pooler::start(&PostgresServer::shared(), 2);
    let url = pooler.url(&database);
    let refusal = async |url: &str| {
        let pool = Pool::open(&section(url, "subscribers_feedback"), "feedback").unwrap();
        let error = pool.query("select 1", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}\n{}", pooler.log());
        error.to_string()
    };
    let text = refusal(&url.replace(&database.server().password, "hunter2")).await;
    assert!(text.contains("feedback.password_file") && !text.contains("hunter2"), "{text}");
    refusal(&url.replace("//postgres:", "//nobody:")).await;
    refusal(&url.replace(&database.name, "nowhere")).await;
}

#[tokio::test]
async fn a_pooler_without_tls_is_taken_with_prefer_and_refused_with_require() {
    use dinnerbell_config::{PostgresTls, SslMode};
    let database = Arc::new(empty_database());
    let pooler = Pooler::start(&PostgresServer::shared(), 2);
    let with = |mode| {
        let mut section = section(&pooler.url(&database), "subscribers_feedback");
        section.tls = PostgresTls { mode, root_cert: None, client_cert: None };
        Pool::open(&section, "feedback").unwrap()
    };
    with(SslMode::Prefer).query("select 1", &[]).await.unwrap();
    let error = with(SslMode::Require).query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("does not support TLS"), "{error}");
}
