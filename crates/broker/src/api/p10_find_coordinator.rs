//! FindCoordinator (10), versions 0 to 6: which node coordinates a group; any number of groups from version 4 on (KIP-699).
//!
//! It is the leader of the partition of the offsets topic that the group belongs to, as any node knows it. Without a leader that clients can be sent to:
//! `COORDINATOR_NOT_AVAILABLE`. The first request for a group creates the offsets topic. Gaps: transactions and share groups are not served yet. A
//! transaction's coordinator is refused with `TRANSACTIONAL_ID_AUTHORIZATION_FAILED`, the one code that every client takes as final
//! (others make librdkafka ask for ever); any other kind with `INVALID_REQUEST`.

use chronik_base::ErrorCode;
use chronik_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::topics::OFFSETS_TOPIC;
use crate::{Broker, ConnectionContext};

/// The type of key that names a group.
const GROUP: i8 = 0;
/// The type of key that is a transactional id.
const TRANSACTION: i8 = 1;
const KEYS_FROM: i16 = 4;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = FindCoordinatorRequest::decode(reader, call.version)?;
    let version = call.version;
    if request.key_type != GROUP || call.broker.topics.by_name(OFFSETS_TOPIC).is_some() {
        return Ok(call.ready(&answer(call.broker, call.connection, request, version, Ok(()))));
    }
    let (broker, connection) = (call.broker.clone(), call.connection.clone());
    Ok(call.spawn(async move {
        let created = broker.groups.create_topic(&broker).await;
        answer(&broker, &connection, request, version, created)
    }))
}

fn answer(
    broker: &Broker,
    connection: &ConnectionContext,
    request: FindCoordinatorRequest,
    version: i16,
    created: Result<(), ErrorCode>,
) -> FindCoordinatorResponse {
    let key_type = request.key_type;
    let one = |key| find(broker, connection, key, key_type, created);
    if version >= KEYS_FROM {
        let coordinators = request.coordinator_keys.into_iter().map(one).collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let found = one(request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

fn find(
    broker: &Broker,
    connection: &ConnectionContext,
    key: Str,
    key_type: i8,
    created: Result<(), ErrorCode>,
) -> Coordinator {
    let found = match created {
        _ if key_type == TRANSACTION => Err((
            ErrorCode::TransactionalIdAuthorizationFailed,
            "transactions are not served yet: use an idempotent producer without a transactional id",
        )),
        _ if key_type != GROUP => Err((
            ErrorCode::InvalidRequest,
            "only groups have coordinators here: share groups are not served yet",
        )),
        Err(error) => Err((error, "the topic of committed offsets can't be created")),
        Ok(()) => leader(broker, connection, &key)
            .ok_or((ErrorCode::CoordinatorNotAvailable, "the group's partition has no leader")),
    };
    match found {
        Ok((node_id, host, port)) => Coordinator {
            key,
            node_id,
            host: Str::from(host),
            port: i32::from(port),
            error_code: 0,
            error_message: None,
        },
        Err((error, message)) => Coordinator {
            key,
            node_id: -1,
            host: Str::default(),
            port: -1,
            error_code: error.code(),
            error_message: Some(Str::from(message)),
        },
    }
}

/// Node id and address of the leader of the partition that a group belongs to.
fn leader(broker: &Broker, connection: &ConnectionContext, group: &str) -> Option<(i32, String, u16)> {
    let partition = broker.groups.partition_of(broker, group)?;
    let image = broker.metadata.image();
    let leader = image.broker(image.partition(OFFSETS_TOPIC, partition)?.leader)?;
    if leader.fenced {
        return None;
    }
    let (host, port) = broker.address_of(leader, connection);
    Some((leader.id, host, port))
}
