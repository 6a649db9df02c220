use super::*;

fn after(cause: RDKafkaErrorCode, reason: &str, code: RDKafkaErrorCode) -> BrokerError {
    let observer = ClientEvents::default();
    observer.remember(cause, reason);
    observer.remember(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
    observer.explain("reading topic promo.in", &KafkaError::MetadataFetch(code))
}

#[test]
fn a_timeout_after_a_refused_login_is_a_refusal_that_names_the_password() {
    let error = after(
        RDKafkaErrorCode::Authentication,
        "SASL authentication error: invalid credentials",
        RDKafkaErrorCode::OperationTimedOut,
    );
    assert!(matches!(&error, BrokerError::Refused(text) if text.contains("kafka.password_file")), "{error}");
}

#[test]
fn an_unknown_ca_names_the_ca_file_but_a_cut_handshake_may_pass() {
    let verify = "SSL handshake failed: certificate verify failed";
    let error = after(RDKafkaErrorCode::SSL, verify, RDKafkaErrorCode::BrokerTransportFailure);
    assert!(matches!(&error, BrokerError::Refused(text) if text.contains("kafka.ca_file")), "{error}");
    let early = "tls_post_process_server_certificate error:0A000086:SSL routines::certificate verify failed (after 25ms in state SSL_HANDSHAKE)";
    let transport = RDKafkaErrorCode::BrokerTransportFailure;
    let error = after(transport, early, transport);
    assert!(matches!(&error, BrokerError::Refused(text) if text.contains("kafka.ca_file")), "{error}");
    let error = after(RDKafkaErrorCode::SSL, "SSL handshake failed: Disconnected", RDKafkaErrorCode::AllBrokersDown);
    assert!(matches!(error, BrokerError::Transient(_)));
}

#[test]
fn a_reason_heard_earlier_does_not_colour_an_error_that_speaks_for_itself() {
    let error = after(RDKafkaErrorCode::Resolve, "no such host", RDKafkaErrorCode::TopicAuthorizationFailed);
    assert!(matches!(&error, BrokerError::Refused(text) if text.contains("Read and Describe")), "{error}");
}

/// The events of a client that logs in by the token of this file.
fn by_token_of(file: &str) -> ClientEvents {
    let source = dinnerbell_token::Source::File(file.into());
    ClientEvents { tokens: Some(Tokens::new(source)), ..ClientEvents::default() }
}

#[test]
fn a_client_without_a_token_is_refused_for_the_reason_of_who_fetches_it_until_there_is_one() {
    let observer = by_token_of("/nowhere/token");
    let told = observer.generate_oauth_token(None).err().expect("there is no such file").to_string();
    let event = format!("Failed to acquire SASL OAUTHBEARER token: {told}");
    observer.error(KafkaError::Global(RDKafkaErrorCode::Authentication), &event);
    let timed_out = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
    for error in [observer.explain("connecting", &timed_out), observer.refused("connecting").expect("it is refused")] {
        let says = |text: &str| text.contains("/nowhere/token") && text.contains("token.endpoint.url");
        assert!(matches!(&error, BrokerError::Refused(text) if says(text)), "{error}");
    }
    *observer.without_token.lock().unwrap() = None;
    assert!(matches!(observer.explain("connecting", &timed_out), BrokerError::Transient(_)), "a token came");
}

#[test]
fn a_token_that_brokers_refuse_is_told_with_what_gives_it() {
    let observer = by_token_of("/nowhere/token");
    let refused = "SASL authentication error: {\"status\":\"invalid_token\"} (after 3ms in state AUTH_REQ)";
    observer.error(KafkaError::Global(RDKafkaErrorCode::Authentication), refused);
    let error = observer.explain("connecting", &KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
    let says =
        |text: &str| text.contains("invalid_token\"}: check that kafka.client.sasl.oauthbearer.token.endpoint.url");
    assert!(matches!(&error, BrokerError::Refused(text) if says(text)), "{error}");
}

#[test]
fn a_name_that_cannot_be_resolved_is_told_with_the_setting_that_gave_it_whatever_follows() {
    let observer = ClientEvents::default();
    let resolve = RDKafkaErrorCode::Resolve;
    observer.remember(
        resolve,
        "inner:9092/1: Failed to resolve 'inner:9092': Name or service not known (after 7ms in state CONNECT)",
    );
    observer.remember(resolve, "Failed to query logical offset END: Local: Host resolution failure");
    observer.remember(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
    for code in [resolve, RDKafkaErrorCode::OperationTimedOut] {
        let error = observer.explain("reading topic promo.in", &KafkaError::MetadataFetch(code));
        let says = |text: &str| text.contains("'inner:9092'") && text.contains("advertised.listeners");
        assert!(matches!(&error, BrokerError::Transient(text) if says(text)), "{error}");
    }
}

#[test]
fn a_connection_that_was_dismissed_is_no_reason_for_anything() {
    let observer = ClientEvents::default();
    let dismissed = "b:9092/2: Broker handle destroyed without termination (after 7101669 ms)";
    observer.error(KafkaError::Global(RDKafkaErrorCode::DestroyBroker), dismissed);
    for code in [RDKafkaErrorCode::OperationTimedOut, RDKafkaErrorCode::DestroyBroker] {
        let error = observer.explain("connecting", &KafkaError::MetadataFetch(code));
        assert!(!error.to_string().contains("destroyed"), "{error}");
    }
}

#[test]
fn a_refused_setting_is_named_without_its_value() {
    let error = KafkaError::ClientConfig(
        rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
        "Invalid value".into(),
        "sasl.password".into(),
        "s3cret".into(),
    );
    let text = ClientEvents::default().explain("connecting", &error).to_string();
    assert!(text.contains("sasl.password") && !text.contains("s3cret"), "{text}");
}

#[test]
fn the_id_of_a_topic_is_heard_in_the_log() {
    let observer = ClientEvents::default();
    let say = |line: &str| observer.log(RDKafkaLogLevel::Debug, "METADATA", line);
    say("[thrd:main]: Topic promo.in changed id from AAAAAAAAAAAAAAAAAAAAAA to RzJlNIHUR7exkTnIfLWDcg");
    say("[thrd:main]: Topic promo.in [0] Leader 1 Epoch 0");
    assert_eq!(observer.topic_id("promo.in").as_deref(), Some("RzJlNIHUR7exkTnIfLWDcg"));
    say("Topic promo.in changed id from RzJlNIHUR7exkTnIfLWDcg to tHG3AzbgTsCQ+tsS/v8w2A");
    say("Topic other changed id from AAAAAAAAAAAAAAAAAAAAAA to AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(observer.topic_id("promo.in").as_deref(), Some("tHG3AzbgTsCQ-tsS_v8w2A"), "as kafka-topics shows it");
    assert_eq!(observer.topic_id("other"), None, "old brokers know no ids");
}

#[test]
fn the_same_reason_reads_the_same_however_long_the_attempt_took() {
    let text = |reason| after(RDKafkaErrorCode::SSL, reason, RDKafkaErrorCode::OperationTimedOut).to_string();
    let first = text("SSL handshake failed: Disconnected (after 8ms in state SSL_HANDSHAKE)");
    assert_eq!(
        first,
        text("SSL handshake failed: Disconnected (after 2ms in state SSL_HANDSHAKE, 1 identical error(s) suppressed)")
    );
    assert!(
        first.ends_with("SSL handshake failed: Disconnected: if this stays, check kafka.security_protocol"),
        "{first}"
    );
}

#[test]
fn a_listener_that_hangs_up_before_it_says_its_version_names_the_protocol() {
    let observer = ClientEvents::default();
    let log = "[thrd:b:9093/bootstrap]: b:9093/bootstrap: Disconnected: connection closed by peer (after 2ms in state APIVERSION_QUERY)";
    observer.log(RDKafkaLogLevel::Info, "FAIL", log);
    observer.remember(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
    let error = observer.explain("connecting", &KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
    let text = "connecting: b:9093/bootstrap: Disconnected: connection closed by peer: if this stays, check kafka.security_protocol";
    assert!(matches!(&error, BrokerError::Transient(said) if said == text), "{error}");
}

#[test]
fn a_listener_that_hangs_up_on_a_handshake_names_the_protocol() {
    let error = after(
        RDKafkaErrorCode::BrokerTransportFailure,
        "sasl_ssl://b:9092/bootstrap: Disconnected: SSL connection closed by peer (after 3ms in state SSL_HANDSHAKE)",
        RDKafkaErrorCode::BrokerTransportFailure,
    );
    let said = "closed by peer: if this stays, check kafka.security_protocol";
    assert!(matches!(&error, BrokerError::Transient(text) if text.ends_with(said)), "{error}");
}

#[test]
fn a_broker_that_is_away_passes() {
    let error = after(
        RDKafkaErrorCode::BrokerTransportFailure,
        "Connect to ipv4#127.0.0.1:9092 failed: Connection refused",
        RDKafkaErrorCode::BrokerTransportFailure,
    );
    assert!(matches!(&error, BrokerError::Transient(text) if text.contains("Connection refused")), "{error}");
}
