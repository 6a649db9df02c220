use super::*;

/// A connection to nobody: whatever is written is kept, and nothing is answered.
pub(crate) fn to_nobody(address: &str) -> Connection {
    let (connection, far) = to(address, ApiVersionsResponse::default());
    // Its end must outlive the test, or the connection is closed.
    std::mem::forget(far);
    connection
}

/// A connection to a broker that speaks these versions, and the broker's end of it.
pub(crate) fn to(address: &str, versions: ApiVersionsResponse) -> (Connection, tokio::io::DuplexStream) {
    let (stream, far) = tokio::io::duplex(64 * 1024);
    let connection = Connection {
        address: address.to_owned(),
        client_id: StrBytes::from_static_str("test"),
        stream: Box::new(stream),
        versions,
        correlation: 0,
        pending: VecDeque::new(),
        out: BytesMut::new(),
        incoming: BytesMut::new(),
        expires: None,
        last_used: Instant::now(),
        throttled_until: None,
    };
    (connection, far)
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_a_broker_asked_for_is_kept_and_one_that_is_too_long_is_told_as_such() {
    let mut connection = to_nobody("b:9092");
    let began = Instant::now();
    connection.throttle(3_000);
    connection.throttled(began + Duration::from_secs(10)).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    connection.throttle(30_000);
    let late = connection.throttled(Instant::now() + Duration::from_secs(10)).await;
    assert!(matches!(late, Err(WireError::TimedOut { .. })), "{late:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(13));
}
