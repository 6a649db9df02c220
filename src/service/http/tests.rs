use axum::body::Body;
use hyper::service::Service;

use super::*;

const NEAR: &str = "127.0.0.1:40000";
const FAR: &str = "192.0.2.1:40000";

async fn ask(path: &str, peer: &str, token: Option<&str>, given: Option<&str>) -> StatusCode {
    let router = router(Arc::default(), token.map(|token| Secret::new(token.to_owned())));
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer.parse().unwrap()))));
    let mut request = Request::builder().uri(path);
    if let Some(given) = given {
        request = request.header(AUTHORIZATION, given);
    }
    service.call(request.body(Body::empty()).unwrap()).await.unwrap().status()
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
