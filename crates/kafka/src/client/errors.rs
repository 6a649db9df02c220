//! What the errors of librdkafka mean, and which of several reasons says the most.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use dinnerbell_core::ports::broker::BrokerError;

/// Whether a reason says more than the one that is known.
pub(super) fn says_more((code, reason): (RDKafkaErrorCode, &str), known: Option<(RDKafkaErrorCode, &str)>) -> bool {
    let Some((known_code, known)) = known else { return true };
    match code {
        // It follows on the reason why.
        RDKafkaErrorCode::AllBrokersDown => false,
        // A request to that broker fails so too, without its name.
        RDKafkaErrorCode::Resolve => known_code != code || reason.contains(UNRESOLVED) || !known.contains(UNRESOLVED),
        _ => true,
    }
}

/// librdkafka says this of a connection that it closed itself, to a broker that left the cluster. There is nothing to act on.
pub(super) const DISMISSED: &str = "Broker handle destroyed without termination";

/// What librdkafka says where it has no token to log in with.
pub(super) const NO_TOKEN: [&str; 2] =
    ["Failed to acquire SASL OAUTHBEARER token", "because there is no token available"];

/// What librdkafka says of a host whose name it cannot resolve, before the name.
pub(super) const UNRESOLVED: &str = "Failed to resolve '";

/// What a listener that hangs up before anything was said most likely means.
pub(super) const OTHER_PROTOCOL: &str = "if this stays, check kafka.security_protocol";

/// How long an attempt took and how often it was repeated is nothing to act on, and would make a new reason of each attempt.
pub(super) fn without_times(reason: &str) -> &str {
    reason.split(" (after ").next().unwrap_or(reason)
}

/// Codes with which calls fail when no broker could be reached, whatever the cause.
pub(super) fn says_little(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, DestroyBroker, MessageTimedOut, OperationTimedOut, Resolve,
        TimedOutQueue, UnknownBroker, WaitingForCoordinator,
    };
    matches!(
        code,
        AllBrokersDown
            | BrokerTransportFailure
            | DestroyBroker
            | MessageTimedOut
            | OperationTimedOut
            | Resolve
            | TimedOutQueue
            | UnknownBroker
            | WaitingForCoordinator
    )
}

/// The one place that says what an error of Kafka means for a lane, and what the operator can do about it.
pub(crate) fn classify(doing: &str, code: RDKafkaErrorCode, reason: &str) -> BrokerError {
    use RDKafkaErrorCode as Code;
    let remedy = match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => return BrokerError::Fenced,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::UnacceptableCredential => {
            "check kafka.username, kafka.password_file and kafka.sasl_mechanism, and that the broker knows this user"
        }
        // Which of the two codes it has depends on who looks first: the handshake, or the call that waits for the connection.
        Code::SSL | Code::BrokerTransportFailure if reason.contains("certificate") => {
            "set kafka.ca_file to the PEM file of the CA that signed the broker's certificate, and address the broker by a \
             name that the certificate holds"
        }
        _ if reason.contains("SSL handshake failed") && !reason.ends_with(OTHER_PROTOCOL) => {
            return BrokerError::Transient(format!("{doing}: {reason}: {OTHER_PROTOCOL}"));
        }
        Code::Resolve => {
            return BrokerError::Transient(format!(
                "{doing}: {reason}: this machine must be able to resolve the names in kafka.bootstrap_servers, and those by which the \
                 brokers call themselves (their advertised.listeners)"
            ));
        }
        // The client library says so of a partition of which it does not know yet, or no more, who leads it.
        Code::UnknownPartition => {
            return BrokerError::Transient(format!(
                "{doing}: {reason}: if this stays, the topic has fewer partitions than it had"
            ));
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            "create the topic, or correct its name in kafka.topics"
        }
        Code::TopicAuthorizationFailed => {
            "allow this user Read and Describe on kafka.topics.campaigns, Write and Describe on the topics it writes"
        }
        Code::GroupAuthorizationFailed => "allow this user Read and Describe on the group kafka.group_id",
        Code::TransactionalIdAuthorizationFailed => {
            "allow this user Write and Describe on the transactional ids that begin with kafka.group_id and a slash"
        }
        Code::ClusterAuthorizationFailed => "allow this user IdempotentWrite on the cluster",
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            "raise max.message.bytes of the topic that is written to, best to 1048588 or more"
        }
        Code::InvalidTransactionTimeout => "raise transaction.max.timeout.ms of the brokers to at least 60000",
        Code::InvalidConfig | Code::InvalidGroupId | Code::InvalidSessionTimeout | Code::InconsistentGroupProtocol => {
            "check kafka.group_id and kafka.client; another program may use this group"
        }
        Code::OffsetMetadataTooLarge => "raise offset.metadata.max.bytes of the brokers to at least 512",
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::UnsupportedForMessageFormat => {
            "the brokers must be Apache Kafka 2.5 or newer"
        }
        Code::InvalidTimestamp => {
            "compare the clocks of the brokers, of this machine and of the feedback database, or raise the topic's \
             message.timestamp.before.max.ms and message.timestamp.after.max.ms"
        }
        Code::PolicyViolation | Code::InvalidRecord | Code::InvalidRequiredAcks => {
            "the brokers' policy refuses our messages; their log says why"
        }
        _ => return BrokerError::Transient(format!("{doing}: {reason}")),
    };
    BrokerError::Refused(format!("{doing}: {reason}: {remedy}"))
}

/// Errors that carry no code: of our settings, or from inside the library.
pub(super) fn unnamed(doing: &str, error: &KafkaError) -> BrokerError {
    match error {
        // The value is left out: it may be a secret.
        KafkaError::ClientConfig(_, what, name, _) => {
            BrokerError::Refused(format!("{doing}: the setting {name} is refused: {what}: correct it in kafka.client"))
        }
        KafkaError::ClientCreation(what) => {
            BrokerError::Refused(format!("{doing}: {what}: correct the settings under kafka"))
        }
        other => BrokerError::Transient(format!("{doing}: {other}")),
    }
}

pub(super) fn text(error: &KafkaError) -> String {
    match error {
        other if other.rdkafka_error_code() == Some(RDKafkaErrorCode::DestroyBroker) => {
            "the connection to a broker was given up".to_owned()
        }
        KafkaError::Transaction(error) => error.string(),
        other => other.rdkafka_error_code().map_or_else(|| other.to_string(), |code| code.to_string()),
    }
}
