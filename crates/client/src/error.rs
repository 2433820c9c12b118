//! What can go wrong between the client and a cluster.

use std::fmt;
use std::io;
use std::time::Duration;

use chronik_base::ErrorCode;
use chronik_protocol::{ApiKey, DecodeError};
use chronik_records::{BatchScanError, RecordsError};

/// The addresses that were tried, and why each of them failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable(pub Vec<(String, String)>);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, reason)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {reason}")?;
        }
        Ok(())
    }
}

/// Why a request got no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address that is none.
    #[error(
        "{address:?} is no address of a broker: expected HOST:PORT[,HOST:PORT...], for example localhost:9092"
    )]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// None of the bootstrap servers answers.
    #[error("no broker can be reached ({0}); is it running, and are these its addresses?")]
    NoBootstrap(Unreachable),
    /// A broker that the cluster named does not answer.
    #[error(
        "broker {id} cannot be reached at the address it advertises ({tried}); if that address is not meant for this \
         machine, the broker needs another `advertise`"
    )]
    BrokerUnreachable {
        /// The broker.
        id: i32,
        /// The address and the reason.
        tried: Unreachable,
    },
    /// The cluster does not know the broker.
    #[error("the cluster names no broker {id}; it has {known:?}")]
    UnknownBroker {
        /// The broker wanted.
        id: i32,
        /// The brokers that are there.
        known: Vec<i32>,
    },
    /// The connection broke.
    #[error("{api} to {address}: {source}")]
    Io {
        /// The broker's address.
        address: String,
        /// The request.
        api: ApiKey,
        /// What the operating system says.
        source: io::Error,
    },
    /// What came back is no answer of Kafka's protocol.
    #[error("{api} to {address} was answered with something else than Kafka's protocol: {seen}")]
    NotKafka {
        /// The address.
        address: String,
        /// The request.
        api: ApiKey,
        /// What it looks like.
        seen: String,
    },
    /// No answer in time.
    #[error("{api} to {address} got no answer in {timeout:?}")]
    TimedOut {
        /// The broker's address.
        address: String,
        /// The request.
        api: ApiKey,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The broker has no version of the request that is known here.
    #[error("{address} does not serve {api} in a version from {first} to {last}; it has {theirs}")]
    Unsupported {
        /// The broker's address.
        address: String,
        /// The request.
        api: ApiKey,
        /// The first version that would do.
        first: i16,
        /// The last version that would do.
        last: i16,
        /// What the broker has.
        theirs: String,
    },
    /// An answer that cannot be read.
    #[error("the answer of {address} to {api} cannot be read: {source}")]
    Decode {
        /// The broker's address.
        address: String,
        /// The request.
        api: ApiKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A request too large for a frame, or one that could not be put in memory.
    #[error("{api} of {size} bytes is too large for one request")]
    TooLarge {
        /// The request.
        api: ApiKey,
        /// Its size in bytes.
        size: usize,
    },
    /// The cluster said no.
    #[error("{what}: {}", Refusal { code: *code, message: message.as_deref() })]
    Refused {
        /// What was asked, for example `topic orders`.
        what: String,
        /// The error's number.
        code: i16,
        /// The broker's own words.
        message: Option<String>,
    },
    /// Batches that cannot be taken apart.
    #[error("{topic}-{partition} at offset {offset}: {source}")]
    Batches {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
        /// What is wrong with them.
        source: BatchScanError,
    },
    /// Records that cannot be read.
    #[error("{topic}-{partition} at offset {offset}: {source}")]
    Records {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
        /// What is wrong with them.
        source: RecordsError,
    },
}

impl ClientError {
    /// An error code as a result: `Ok` for 0. `what` says what it is about.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for any other code.
    pub fn check(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> Result<(), ClientError> {
        if code == 0 {
            return Ok(());
        }
        Err(ClientError::Refused { what: what(), code, message: message.map(str::to_owned) })
    }

    /// The error code, if the cluster said no with one that is known.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => ErrorCode::from_code(*code),
            _ => None,
        }
    }
}

/// An error code with whatever words came with it.
struct Refusal<'a> {
    code: i16,
    message: Option<&'a str>,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ErrorCode::from_code(self.code) {
            Some(error) => write!(f, "{error}")?,
            None => write!(f, "error code {}", self.code)?,
        }
        match self.message {
            Some(message) if !message.is_empty() => write!(f, " ({message})"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_was_tried() {
        let tried = Unreachable(vec![
            ("a:1".into(), "connection refused".into()),
            ("b:2".into(), "no answer in 5s".into()),
        ]);
        assert_eq!(
            ClientError::NoBootstrap(tried).to_string(),
            "no broker can be reached (a:1: connection refused; b:2: no answer in 5s); is it running, and are these \
             its addresses?"
        );
        let refused = ClientError::check(36, Some("it is there"), || "topic orders".into()).unwrap_err();
        assert_eq!(refused.to_string(), "topic orders: TOPIC_ALREADY_EXISTS (it is there)");
        assert_eq!(refused.code(), Some(ErrorCode::TopicAlreadyExists));
    }
}
