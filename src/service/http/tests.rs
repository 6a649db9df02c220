use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::web::peer::Peer;
use dinnerbell_config::Config;

const NEAR: &str = "127.0.0.1:40000";
const FAR: &str = "192.0.2.1:40000";

/// A configuration with these variables more, and databases that nobody runs.
fn configured(variables: &[(&str, &str)]) -> Config {
    let always = [
        ("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("KAFKA__TOPICS__CAMPAIGNS", "in"),
        ("KAFKA__TOPICS__NOTIFICATIONS", "out"),
        ("SUBSCRIBERS__URL", "postgres://nobody@127.0.0.1:1/none?sslmode=disable"),
        ("FEEDBACK__URL", "postgres://nobody@127.0.0.1:1/none?sslmode=disable"),
    ];
    let named = |(name, value): &(&str, &str)| (format!("DINNERBELL_{name}"), (*value).to_owned());
    config::load(None, always.iter().chain(variables).map(named)).unwrap()
}

/// How a request is answered that holds these headers.
async fn ask_with(variables: &[(&str, &str)], path: &str, peer: &str, headers: &[(&str, &str)]) -> StatusCode {
    let site = Arc::new(Site::new(&configured(variables), "box", Arc::default()).unwrap());
    let slot = Arc::new(site.slots.connection());
    let peer = Peer { address: peer.parse::<SocketAddr>().unwrap().ip(), encrypted: false };
    let router = router(Arc::default(), site).layer(Extension(peer)).layer(Extension(slot));
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let service = TowerToHyperService::new(router);
    service.call(request.body(Body::empty()).unwrap()).await.unwrap().status()
}

async fn ask(path: &str, peer: &str, token: Option<&str>, given: Option<&str>) -> StatusCode {
    let token: Vec<_> = token.iter().map(|token| ("HTTP__TOKEN", *token)).collect();
    // Anyone who is far has come by a way on which nobody reads along.
    let variables: Vec<_> = token.into_iter().chain([("HTTP__INSECURE", "true")]).collect();
    let given = given.iter().map(|given| ("authorization", *given));
    let headers: Vec<_> = [("host", "localhost")].into_iter().chain(given).collect();
    ask_with(&variables, path, peer, &headers).await
}

#[tokio::test]
async fn health_and_metrics_are_open_to_everybody() {
    for token in [None, Some("t")] {
        assert_eq!(ask("/healthz", FAR, token, None).await, StatusCode::OK);
        assert_eq!(ask("/readyz", FAR, token, None).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask("/metrics", FAR, token, None).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn without_a_token_everything_else_is_for_this_machine_only() {
    assert_eq!(ask("/other", FAR, None, None).await, StatusCode::FORBIDDEN);
    assert_eq!(ask("/other", FAR, None, Some("Bearer t")).await, StatusCode::FORBIDDEN);
    for near in [NEAR, "[::1]:40000", "[::ffff:127.0.0.1]:40000"] {
        assert_eq!(ask("/other", near, None, None).await, StatusCode::NOT_FOUND, "{near}");
    }
}

#[tokio::test]
async fn with_a_token_everything_else_needs_it_from_everywhere() {
    for peer in [NEAR, FAR] {
        for wrong in
            [None, Some("Bearer"), Some("Bearer "), Some("Bearer u"), Some("Bearer tt"), Some("Basic t"), Some("t")]
        {
            assert_eq!(ask("/other", peer, Some("t"), wrong).await, StatusCode::UNAUTHORIZED, "{peer} {wrong:?}");
        }
        for right in ["Bearer t", "bearer  t"] {
            assert_eq!(ask("/other", peer, Some("t"), Some(right)).await, StatusCode::NOT_FOUND, "{peer} {right}");
        }
    }
}

#[tokio::test]
async fn what_can_be_read_on_its_way_is_answered_to_this_machine_alone_unless_the_operator_says_otherwise() {
    let bearer = [("host", "localhost"), ("authorization", "Bearer t")];
    let token = ("HTTP__TOKEN", "t");
    assert_eq!(ask_with(&[token], "/other", FAR, &bearer).await, StatusCode::FORBIDDEN);
    assert_eq!(ask_with(&[token], "/healthz", FAR, &[]).await, StatusCode::OK);
    assert_eq!(ask_with(&[token], "/other", NEAR, &bearer).await, StatusCode::NOT_FOUND);
    assert_eq!(ask_with(&[token, ("HTTP__INSECURE", "true")], "/other", FAR, &bearer).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_proxy_says_who_asks_and_nobody_else_does() {
    let proxy =
        [("HTTP__USER_HEADER", "X-User"), ("HTTP__USER_HEADER_FROM", "192.0.2.0/24"), ("HTTP__INSECURE", "true")];
    let host = ("host", "localhost");
    let ask = async |peer, headers: &[(&str, &str)]| ask_with(&proxy, "/other", peer, headers).await;
    assert_eq!(ask(FAR, &[host, ("x-user", "anna")]).await, StatusCode::NOT_FOUND);
    assert_eq!(ask(FAR, &[host]).await, StatusCode::UNAUTHORIZED, "it named nobody");
    assert_eq!(ask(FAR, &[host, ("x-user", "anna"), ("x-user", "eve")]).await, StatusCode::UNAUTHORIZED);
    for other in [NEAR, "198.51.100.1:1"] {
        assert_eq!(ask(other, &[host, ("x-user", "anna")]).await, StatusCode::UNAUTHORIZED, "{other}");
    }
}

#[tokio::test]
async fn without_a_token_what_a_proxy_of_this_machine_sends_on_is_not_of_this_machine() {
    let host = ("host", "localhost");
    assert_eq!(ask_with(&[], "/other", NEAR, &[host]).await, StatusCode::NOT_FOUND);
    let sent_on = [host, ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(ask_with(&[], "/other", NEAR, &sent_on).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_name_that_nobody_listed_and_what_another_page_sends_are_refused() {
    let ask = async |headers: &[(&str, &str)]| ask_with(&[], "/other", NEAR, headers).await;
    assert_eq!(ask(&[("host", "evil.example:8080")]).await, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(ask(&[]).await, StatusCode::MISDIRECTED_REQUEST);
    let foreign = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(ask(&foreign).await, StatusCode::FORBIDDEN);
    let listed = [("HTTP__HOSTS", "bell.example.org")];
    assert_eq!(ask_with(&listed, "/other", NEAR, &[("host", "bell.example.org")]).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let free = config::Http::at("127.0.0.1:0".parse().unwrap());
    let bound = bind(&free).await.unwrap();
    let taken = config::Http::at(bound.address());
    let error = bind(&taken).await.unwrap_err();
    assert!(matches!(error, HttpError::AddressInUse { .. }));
    let address = bound.address();
    assert_eq!(
        error.to_string(),
        format!("http.listen: {address} is taken by another process; stop that one or choose another port")
    );
}

#[tokio::test]
async fn an_address_of_another_machine_is_refused_with_what_to_do() {
    let error = bind(&config::Http::at("192.0.2.1:0".parse().unwrap())).await.unwrap_err();
    assert!(error.to_string().starts_with("http.listen: cannot listen on 192.0.2.1:0: "), "{error}");
}
