use std::path::Path;

use super::*;
use crate::jwt::tests::unsigned;

const SOON: Duration = Duration::from_secs(20);

/// Lets this token be found, whole or not at all.
fn write(path: &Path, name: &str, lives: i64) {
    let token = unsigned(&format!(r#"{{"sub":"{name}","exp":{}}}"#, now_ms() as f64 / 1000.0 + lives as f64));
    let new = path.with_extension("new");
    std::fs::write(&new, token).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn of_file(path: &Path) -> Tokens {
    Tokens::new(Source::File(path.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_and_shared_until_most_of_its_life_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write(&path, "anna", 3_600);
    let tokens = of_file(&path);
    assert_eq!(tokens.get(Instant::now() + SOON).await.unwrap().principal(), "anna");
    write(&path, "bert", 3_600);
    let clone = tokens.clone();
    let told = tokio::task::spawn_blocking(move || clone.wait(SOON)).await.unwrap();
    assert_eq!(told.unwrap().principal(), "anna", "it lives for an hour");

    write(&path, "anna", 5);
    let tokens = of_file(&path);
    assert_eq!(tokens.get(Instant::now() + SOON).await.unwrap().principal(), "anna");
    write(&path, "bert", 3_600);
    let asked = Instant::now();
    while tokens.get(Instant::now() + SOON).await.unwrap().principal() == "anna" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let renewed = asked.elapsed();
    assert!((Duration::from_millis(3_500)..Duration::from_secs(5)).contains(&renewed), "{renewed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_fails_leaves_the_token_that_lives_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let tokens = of_file(&path);
    let missing = tokens.get(Instant::now() + SOON).await.unwrap_err();
    assert!(matches!(&missing, TokenError::Refused(text) if text.contains("token.endpoint.url")), "{missing}");
    write(&path, "anna", 3);
    let asked = Instant::now();
    await_next(&tokens).await;
    std::fs::remove_file(&path).unwrap();
    let mut last = Ok(());
    while last.is_ok() {
        assert!(asked.elapsed() < SOON);
        last = tokens.get(Instant::now() + SOON).await.map(|token| assert!(token.expires_ms() > now_ms() - 100));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(asked.elapsed() > Duration::from_millis(2_500), "the token was good until its end");
}

#[tokio::test]
async fn a_token_that_is_over_is_none_and_names_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write(&path, "anna", -70);
    let over = of_file(&path).get(Instant::now() + SOON).await.unwrap_err().to_string();
    assert!(over.contains("ended 7") && over.contains("clock"), "{over}");
}

#[tokio::test]
async fn a_token_that_brokers_refuse_is_fetched_again_unless_it_has_only_just_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write(&path, "anna", 3_600);
    let tokens = of_file(&path);
    let refused = tokens.get(Instant::now() + SOON).await.unwrap();
    write(&path, "bert", 3_600);
    tokens.distrust(&refused);
    assert_eq!(tokens.get(Instant::now() + SOON).await.unwrap().principal(), "anna");
    tokens.shared.cache.state().kept.as_mut().unwrap().came -= DISTRUST_AFTER;
    tokens.distrust(&refused);
    assert_eq!(tokens.get(Instant::now() + SOON).await.unwrap().principal(), "bert");
}

/// Its end lies further back than a difference can say.
#[tokio::test]
async fn whatever_end_a_token_names_the_next_one_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for end in ["-1e19", "-1e300", "0"] {
        std::fs::write(&path, unsigned(&format!(r#"{{"sub":"anna","exp":{end}}}"#))).unwrap();
        let tokens = of_file(&path);
        let over = tokens.get(Instant::now() + SOON).await.unwrap_err();
        assert!(matches!(&over, TokenError::Refused(text) if text.contains("ended")), "{over}");
        write(&path, "bert", 3_600);
        await_next(&tokens).await;
    }
}

async fn await_next(tokens: &Tokens) {
    let asked = Instant::now();
    while tokens.get(Instant::now() + SOON).await.is_err() {
        assert!(asked.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_fetch_that_panics_is_over_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write(&path, "anna", 3_600);
    let tokens = of_file(&path);
    let (source, cache) = (Arc::clone(&tokens.shared.source), Arc::clone(&tokens.shared.cache));
    cache.state().fetching = true;
    let panicking = std::thread::Builder::new().spawn(move || {
        let _fetching = Fetching { source: &source, cache: &cache, outcome: None };
        panic!("as the fetch of a test does");
    });
    let panicked = panicking.unwrap().join();
    assert!(panicked.is_err());
    let told = tokens.get(Instant::now() + SOON).await.unwrap_err();
    assert!(matches!(&told, TokenError::Unavailable(text) if text.contains("panicked")), "{told}");
    await_next(&tokens).await;
}

#[test]
fn an_endpoint_that_says_nothing_holds_nobody_up_for_longer_than_asked_nor_the_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", silent.local_addr().unwrap());
    let settings = crate::EndpointSettings { url, ..Default::default() };
    let tokens = Tokens::new(Source::Endpoint(crate::Endpoint::new(&settings).unwrap()));
    let began = Instant::now();
    let told = tokens.wait(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(&told, TokenError::Unavailable(text) if text.contains("no answer yet")), "{told}");
    drop(tokens);
    assert!(began.elapsed() < Duration::from_secs(5), "a fetch that is under way ends with its tokens");
}
