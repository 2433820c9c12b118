//! DescribeCluster (60), versions 0 to 2: the cluster's id and its brokers (KIP-700).
//!
//! Brokers are named by the addresses that Metadata names. Asking for controller endpoints (KIP-919) is refused with
//! `MISMATCHED_ENDPOINT_TYPE`, as Kafka's brokers do. No broker is ever fenced on a lone node.

use chronik_base::ErrorCode;
use chronik_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::authorized::CLUSTER_OPERATIONS;
use crate::call::Call;
use crate::outcome::Outcome;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeClusterRequest::decode(reader, call.version)?;
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of the wrong type.",
        )),
        _ => Some((ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type.")),
    };
    if let Some((error, message)) = refused {
        return Ok(call.ready(&DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(Str::from(message)),
            ..DescribeClusterResponse::default()
        }));
    }
    let image = call.broker.metadata.image();
    let brokers = image.brokers().map(|other| {
        let (host, port) = call.broker.address_of(other, call.connection);
        DescribeClusterBroker {
            broker_id: other.id,
            host: Str::from(host),
            port: i32::from(port),
            rack: other.rack.clone().map(Str::from),
            is_fenced: false,
        }
    });
    let asked = request.include_cluster_authorized_operations;
    Ok(call.ready(&DescribeClusterResponse {
        error_message: None,
        endpoint_type: BROKERS,
        cluster_id: Str::from(image.cluster_id().to_string()),
        controller_id: call.broker.node_id,
        brokers: brokers.collect(),
        cluster_authorized_operations: if asked { CLUSTER_OPERATIONS } else { i32::MIN },
        ..DescribeClusterResponse::default()
    }))
}
