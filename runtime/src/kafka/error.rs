//! Which class a Kafka error falls into, that is: what is done about it.

use millrace_engine::ports::Error;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The class of a client's error; `doing` reads as verb and object and opens the message.
#[must_use]
pub fn classify(doing: &str, error: &KafkaError) -> Error {
    let message = format!("{doing}: {error}");
    if let KafkaError::Transaction(error) = error {
        // The client says itself what may be repeated.
        let message = format!("{doing}: {} ({})", error.string(), error.name());
        return if is_fence(error.code()) {
            Error::Fenced(message)
        } else if error.is_retriable() || error.txn_requires_abort() {
            Error::Retry(message)
        } else {
            Error::Fatal(message)
        };
    }
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => Error::Fatal(format!(
            "{message}; raise max.message.bytes of the topic, and kafka.producer.message.max.bytes if that is smaller"
        )),
        Some(code) if is_fence(code) => Error::Fenced(message),
        Some(code) if is_fatal(code) => Error::Fatal(message),
        Some(_) => Error::Retry(message),
        None => Error::Fatal(message),
    }
}

/// The class of a question about a partition that does exist: clients may have heard nothing of it yet from brokers that
/// have just come back.
#[must_use]
pub fn classify_question(doing: &str, error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(Code::UnknownPartition | Code::UnknownTopic) => Error::Retry(format!("{doing}: {error}")),
        _ => classify(doing, error),
    }
}

/// Somebody else has this member's place, or the group gave its partitions away.
fn is_fence(code: Code) -> bool {
    matches!(
        code,
        Code::ProducerFenced
            | Code::Fenced
            | Code::InvalidProducerEpoch
            | Code::FencedInstanceId
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::AssignmentLost
    )
}

/// Asking again gets the same answer: the settings, the rights or the topic have to change first.
fn is_fatal(code: Code) -> bool {
    matches!(
        code,
        Code::Fatal
            | Code::InvalidArgument
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::InvalidTopic
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::PolicyViolation
            | Code::AutoOffsetReset
    ) || is_record_error(code)
}

/// The broker, or the client before it, refuses this record and would take its neighbours.
#[must_use]
pub fn is_record_error(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidMessageSize | Code::InvalidRecord)
}
