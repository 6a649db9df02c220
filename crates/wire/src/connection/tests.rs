use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{MetadataRequest, ProduceRequest};

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

/// The same to a broker that speaks Produce in these versions.
pub(crate) fn speaking_produce(least: i16, most: i16) -> Connection {
    let produce =
        ApiVersion::default().with_api_key(ProduceRequest::KEY).with_min_version(least).with_max_version(most);
    Connection { versions: ApiVersionsResponse::default().with_api_keys(vec![produce]), ..to_nobody("b:9092") }
}

#[test]
fn the_version_of_a_request_is_the_last_that_both_know() {
    let spoken = |there: (i16, i16), ours: (i16, i16)| {
        speaking_produce(there.0, there.1).version::<ProduceRequest>("Produce", ours.0, ours.1).ok()
    };
    assert_eq!(spoken((3, 9), (3, 13)), Some(9));
    assert_eq!(spoken((3, 13), (3, 11)), Some(11));
    assert_eq!(spoken((3, 9), (9, 13)), Some(9));
    assert_eq!(spoken((3, 9), (10, 13)), None);
    assert_eq!(spoken((8, 12), (3, 7)), None);
    assert!(speaking_produce(3, 13).version::<MetadataRequest>("Metadata", 0, 12).is_err(), "it does not know that");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_fit_while_its_log_in_lasts_and_nothing_is_under_way_and_it_was_used_lately() {
    let (minute, idle) = (Duration::from_secs(60), Duration::from_secs(200));
    let mut connection = to_nobody("b:9092");
    connection.expires = Some(Instant::now() + 2 * minute);
    assert!(connection.is_fit_for(minute, idle) && !connection.is_fit_for(2 * minute, idle));
    tokio::time::advance(minute).await;
    assert!(!connection.is_fit_for(minute, idle), "the log-in would end meanwhile");
    connection.expires = None;
    assert!(connection.is_fit_for(minute, idle) && !connection.is_fit_for(minute, minute));
    connection.queue("asking", &MetadataRequest::default(), 4).unwrap();
    assert!(!connection.is_fit_for(minute, idle), "an answer is under way");
}
