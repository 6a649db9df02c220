//! Connections: what is reused and what is not, what errors say, TLS.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dinnerbell_config as config;
use dinnerbell_config::SslMode;
use dinnerbell_core::ports::ledger::LedgerError;
use dinnerbell_postgres::connect::{Connection, Pool};
use dinnerbell_postgres::errors::{ErrorKind, PostgresError};
use tokio_postgres::types::Type;

use crate::postgres::place::{empty_database, feedback_pool, section, seed_database, subscribers_pool};
use crate::support::{Database, PostgresServer, Proxy};

async fn backend(connection: &Connection) -> i32 {
    connection.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Hands back what the test held, and says which backend the pool gives next.
async fn next_backend(pool: &Pool) -> i32 {
    let connection = pool.get().await.unwrap();
    let pid = backend(&connection).await;
    connection.release();
    pid
}

#[tokio::test]
async fn a_connection_that_is_handed_back_is_used_again() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let first = next_backend(&pool).await;
    assert_eq!(next_backend(&pool).await, first);
    let transaction = pool.begin("set local lock_timeout = '2s'").await.unwrap();
    assert_eq!(backend(&transaction).await, first);
    transaction.commit().await.unwrap();
    let transaction = pool.begin("").await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(next_backend(&pool).await, first);
}

#[tokio::test]
async fn a_connection_is_closed_after_an_error_an_abandoned_call_or_a_dropped_transaction() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let first = next_backend(&pool).await;

    let connection = pool.get().await.unwrap();
    connection.batch("select 1/0").await.unwrap_err();
    connection.release();
    let second = next_backend(&pool).await;
    assert_ne!(second, first, "after an error");

    let connection = pool.get().await.unwrap();
    {
        let mut slow = std::pin::pin!(connection.batch("select pg_sleep(60)"));
        assert!(futures_util::poll!(&mut slow).is_pending());
    }
    connection.release();
    let third = next_backend(&pool).await;
    assert_ne!(third, second, "after a call that was not waited for");

    let transaction = pool.begin("").await.unwrap();
    transaction.batch("create table public.dropped ()").await.unwrap();
    drop(transaction);
    assert_ne!(next_backend(&pool).await, third, "after a transaction that was dropped");
    assert_eq!(database.number("select count(*) from pg_class where relname = 'dropped'"), 0);
}

#[tokio::test]
async fn a_transaction_with_a_failed_statement_cannot_be_committed() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let transaction = pool.begin("").await.unwrap();
    transaction.batch("create table public.half ()").await.unwrap();
    transaction.batch("select 1/0").await.unwrap_err();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert_eq!(database.number("select count(*) from pg_class where relname = 'half'"), 0);
}

#[tokio::test]
async fn waiting_for_a_slot_and_for_an_answer_ends() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.get().await.unwrap());
    }
    // From here on time jumps to the next deadline whenever nothing else can happen.
    tokio::time::pause();
    let error = pool.get().await.err().unwrap();
    assert!(error.to_string().contains("raise feedback.max_connections"), "{error}");
    let error = held[0].batch("select pg_sleep(60)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
}

#[tokio::test]
async fn a_copy_counts_its_rows_and_spoils_its_transaction_when_dropped() {
    let database = seed_database();
    let pool = subscribers_pool(&database);
    let sql = "copy public.subscribers_restaurants (client_id, restaurant_id) from stdin";
    let transaction = pool.begin("").await.unwrap();
    let mut copy = transaction.copy_in(sql).await.unwrap();
    copy.send(Bytes::from_static(b"alice\tpizzeria\n")).await.unwrap();
    copy.send(Bytes::from_static(b"bob\tpizzeria\n")).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 2);
    transaction.commit().await.unwrap();
    assert_eq!(database.clients_of("pizzeria").len(), 2);

    let transaction = pool.begin("").await.unwrap();
    let mut copy = transaction.copy_in(sql).await.unwrap();
    copy.send(Bytes::from_static(b"carol\tpizzeria\n")).await.unwrap();
    drop(copy);
    transaction.commit().await.unwrap_err();
    assert_eq!(database.clients_of("pizzeria").len(), 2);
}

#[tokio::test]
async fn a_lost_server_process_passes_and_the_next_connection_is_new() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let (one, other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let pid = backend(&one).await;
    other.query("select pg_terminate_backend($1)", &[(&pid, Type::INT4)]).await.unwrap();
    let error = one.batch("select 1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    one.release();
    assert_ne!(next_backend(&pool).await, pid);
}

async fn raised(pool: &Pool, state: &str) -> PostgresError {
    pool.query(&format!("do $$ begin raise exception 'no' using errcode = '{state}'; end $$"), &[]).await.unwrap_err()
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_is_refused() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    for state in ["08006", "40001", "40P01", "53100", "53300", "57014", "57P01", "57P03", "55P03", "25006", "58030"] {
        assert_eq!(raised(&pool, state).await.kind(), ErrorKind::Transient, "{state}");
    }
    for state in ["28P01", "3D000", "42501", "42P01", "42703", "22021", "23502", "23514", "54000", "XX001"] {
        assert_eq!(raised(&pool, state).await.kind(), ErrorKind::Refused, "{state}");
    }
}

#[tokio::test]
async fn a_primary_whose_transactions_are_read_only_is_told_from_a_standby_by_the_setting_to_change() {
    let database = empty_database();
    database.execute(&format!("alter database {} set default_transaction_read_only = on", database.name));
    let error = feedback_pool(&database).query("create table public.t ()", &[]).await.unwrap_err();
    let says_by_itself = database.number("show server_version_num") >= 140_000;
    let (found, remedy) = error.clone().into_parts();
    let remedy = remedy.unwrap_or_default();
    assert!(error.kind() == ErrorKind::Transient && found.contains("25006"), "{error}");
    assert!(remedy.contains("set default_transaction_read_only = off"), "{error}");
    assert_eq!(remedy.contains("must lead to the primary"), !says_by_itself, "{error}");
}

#[tokio::test]
async fn a_draft_that_exists_is_told_from_other_unique_rows() {
    let database = empty_database();
    database.execute(
        "create table public.t (id int primary key, c text, note text);
         create unique index dinnerbell_once_t on public.t (c);
         insert into public.t values (1, 'spring-alice', 'secret')",
    );
    let pool = feedback_pool(&database);
    let insert = async |id: i32, c: &str| {
        let sql = format!("insert into public.t values ({id}, '{c}', 'secret')");
        LedgerError::from(pool.query(&sql, &[]).await.unwrap_err())
    };
    let LedgerError::Duplicate(text) = insert(2, "spring-alice").await else { panic!("not a duplicate") };
    assert!(text.contains("spring-alice") && !text.contains("secret"), "{text}");
    assert!(matches!(insert(1, "else").await, LedgerError::Refused(_)), "a primary key is another matter");
    let error = pool.query("alter table public.t alter note set not null, add check (note <> 'secret')", &[]).await;
    assert!(!error.unwrap_err().to_string().contains("secret)"), "no rows in errors");
}

async fn refusal(url: &str) -> PostgresError {
    let pool = Pool::open(&section(url, "subscribers_feedback"), "feedback").unwrap();
    pool.get().await.err().expect("it must not connect")
}

#[tokio::test]
async fn errors_of_a_login_name_the_setting_and_never_the_password() {
    let database = empty_database();
    let url = database.plain_url();
    let password = &database.server().password;

    let error = refusal(&url.replace(password, "hunter2")).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.to_string();
    assert!(text.contains("feedback.password_file") && text.contains(&database.name), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let error = refusal(&url.replace(&format!(":{password}@"), "@")).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("feedback.password_file"), "{error}");

    let error = refusal(&url.replace(&database.name, "nowhere")).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("feedback.url"), "{error}");

    let error = refusal("postgres://postgres:hunter2@127.0.0.1:1/de").await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("127.0.0.1:1") && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_missing_table_is_named_with_the_remedy() {
    let database = empty_database();
    let pool = feedback_pool(&database);
    let error = pool.query("select 1 from public.subscribers_feedback", &[]).await.unwrap_err().to_string();
    assert!(error.contains("public.subscribers_feedback") && error.contains("--create-tables"), "{error}");
    let error = pool.query("select 1 from dinnerbell.lane", &[]).await.unwrap_err().to_string();
    assert!(error.contains("run `dinnerbell migrate`"), "{error}");
}

#[tokio::test]
async fn the_pool_goes_on_after_the_server_was_restarted() {
    let server = PostgresServer::private();
    let database = Database::create(&server);
    let pool = feedback_pool(&database);
    let (one, other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    backend(&one).await;
    one.release();
    other.release();
    server.stop();
    let error = pool.query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    server.start();
    pool.query("select 1", &[]).await.unwrap();
}

/// How to reach the server with TLS, and what must come of it.
struct Tls {
    mode: SslMode,
    root: Option<PathBuf>,
    host: &'static str,
    outcome: Result<bool, &'static str>,
}

#[tokio::test]
async fn each_sslmode_means_what_it_means_to_libpq() {
    let database = empty_database();
    let server = database.server();
    let folder = tempfile::tempdir().unwrap();
    let other_ca = folder.path().join("other.pem");
    std::fs::write(&other_ca, another_authority()).unwrap();
    let (ours, other) = (Some(server.ca.clone()), Some(other_ca));
    let is = |mode, root: &Option<PathBuf>, host, outcome| Tls { mode, root: root.clone(), host, outcome };
    // The server's certificate is for localhost and 127.0.0.1.
    let cases = [
        is(SslMode::Disable, &None, "127.0.0.1", Ok(false)),
        is(SslMode::Prefer, &None, "127.0.0.1", Ok(true)),
        is(SslMode::Prefer, &other, "127.0.0.1", Ok(false)),
        is(SslMode::Require, &None, "elsewhere.example", Ok(true)),
        is(SslMode::Require, &ours, "elsewhere.example", Ok(true)),
        is(SslMode::Require, &other, "127.0.0.1", Err("certificate verify failed")),
        is(SslMode::VerifyCa, &ours, "elsewhere.example", Ok(true)),
        is(SslMode::VerifyCa, &other, "127.0.0.1", Err("certificate verify failed")),
        is(SslMode::VerifyCa, &None, "127.0.0.1", Err("certificate verify failed")),
        is(SslMode::VerifyFull, &ours, "127.0.0.1", Ok(true)),
        is(SslMode::VerifyFull, &ours, "localhost", Ok(true)),
        is(SslMode::VerifyFull, &ours, "elsewhere.example", Err("hostname mismatch")),
        is(SslMode::VerifyFull, &other, "localhost", Err("certificate verify failed")),
    ];
    for Tls { mode, root, host, outcome } in cases {
        let case = format!("{mode:?} {root:?} {host}");
        let mut section = tls_section(&database, mode, root);
        section.connection.host(host).hostaddr(IpAddr::from([127, 0, 0, 1]));
        let pool = Pool::open(&section, "feedback").unwrap();
        match (pool.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[]).await, outcome) {
            (Ok(rows), Ok(encrypted)) => assert_eq!(rows[0].get::<_, bool>(0), encrypted, "{case}"),
            (Err(error), Err(words)) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{case}: {error}");
                let text = error.to_string();
                assert!(text.contains(words) && text.contains("feedback.url"), "{case}: {text}");
            }
            (answer, expected) => panic!("{case}: {:?} instead of {expected:?}", answer.map(|rows| rows.len())),
        }
    }
}

fn tls_section(database: &Database, mode: SslMode, root_cert: Option<PathBuf>) -> config::Database {
    let mut section = section(&database.plain_url(), "subscribers_feedback");
    let given = section.connection;
    let mut connection = tokio_postgres::Config::new();
    connection.user(given.get_user().unwrap()).password(given.get_password().unwrap());
    connection.dbname(given.get_dbname().unwrap()).port(given.get_ports()[0]);
    section.connection = connection;
    section.tls.mode = mode;
    section.tls.root_cert = root_cert;
    section
}

#[test]
fn a_root_certificate_that_is_none_is_found_at_the_start() {
    let database = empty_database();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.pem");
    std::fs::write(&file, "nothing\n").unwrap();
    for root in [folder.path().join("missing.pem"), file] {
        let section = tls_section(&database, SslMode::VerifyFull, Some(root.clone()));
        let text = Pool::open(&section, "feedback").err().expect("it must be refused").to_string();
        assert!(text.contains("sslrootcert") && text.contains(root.to_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_client_is_shown_to_the_server() {
    let database = empty_database();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("client.crt"), folder.path().join("client.key"));
    let (pem, private) = self_signed("postgres");
    std::fs::write(&certificate, pem).unwrap();
    std::fs::write(&key, private).unwrap();
    let mut section = tls_section(&database, SslMode::VerifyFull, Some(database.server().ca.clone()));
    section.connection.host("localhost");
    section.tls.client_cert = Some((certificate, key.clone()));
    // Nobody there asks for it: it must not be in the way.
    Pool::open(&section, "feedback").unwrap().query("select 1", &[]).await.unwrap();
    section.tls.client_cert = Some((key.clone(), key));
    let text = Pool::open(&section, "feedback").err().expect("a key is no certificate").to_string();
    assert!(text.contains("sslcert"), "{text}");
}

fn another_authority() -> Vec<u8> {
    self_signed("Somebody else's CA").0
}

fn self_signed(name: &str) -> (Vec<u8>, Vec<u8>) {
    use openssl::{asn1::Asn1Time, hash::MessageDigest, pkey::PKey, rsa::Rsa, x509::X509, x509::X509NameBuilder};
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
}

#[tokio::test]
async fn many_tasks_share_few_connections() {
    let database = empty_database();
    let pool = Arc::new(feedback_pool(&database));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_i32 {
        let pool = pool.clone();
        tasks.spawn(async move {
            let rows = pool.query("select $1 + 1", &[(&number, Type::INT4)]).await.unwrap();
            assert_eq!(rows[0].get::<_, i32>(0), number + 1);
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let open = database.number(
        "select count(*) from pg_stat_activity where application_name = 'dinnerbell' and datname = current_database()",
    );
    assert!(open <= 4, "{open}");
}

#[tokio::test]
async fn many_who_ask_over_a_long_way_at_once_wait_for_their_turn_and_none_of_them_fails() {
    let database = seed_database();
    let proxy = Proxy::before(database.server().port);
    proxy.lengthen(Duration::from_millis(50));
    let url =
        database.plain_url().replace(&format!(":{}/", database.server().port), &format!(":{}/", proxy.address.port()));
    let pool = Pool::open(&section(&url, "subscribers_feedback"), "feedback").unwrap();
    // 600 questions of a round trip each, four at once: longer than any answer may take.
    let began = std::time::Instant::now();
    let asked = (0..600).map(|_| pool.query("select 1", &[]));
    let failed: Vec<_> = futures_util::future::join_all(asked).await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    assert!(began.elapsed() > Duration::from_secs(6), "{:?}", began.elapsed());

    // But where no connection comes free, it is said.
    let held =
        [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
    let error = pool.query("select 1", &[]).await.unwrap_err().to_string();
    assert!(
        error.contains("all 4 connections were in use for 5 s, and none came free; raise feedback.max_connections"),
        "{error}"
    );
    drop(held);
}
