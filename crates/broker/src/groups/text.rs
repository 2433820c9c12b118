//! Texts between the protocol, which shares them with a request's frame, and the coordinator, which keeps them.

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_protocol::Str;

use crate::ConnectionContext;

/// A text of a request, to be kept.
pub(crate) fn arc(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// A text of the coordinator, for an answer.
pub(crate) fn text(text: &str) -> Str {
    Str::from(text)
}

/// A client's address as Kafka shows it in a group: that of a Java `InetAddress` without a name.
pub(crate) fn client_host(connection: &ConnectionContext) -> Arc<str> {
    format!("/{}", connection.peer.ip().to_canonical()).into()
}

/// The message that Kafka sends with the error of a group that is described or deleted.
pub(crate) fn group_error_message(error: ErrorCode, group: &str) -> Option<Str> {
    (error == ErrorCode::GroupIdNotFound).then(|| Str::from(format!("Group {group} not found.")))
}
