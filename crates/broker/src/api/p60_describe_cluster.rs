//! DescribeCluster (60), versions 0 to 2: the cluster's id and its brokers (KIP-700).
//!
//! Brokers are named by the addresses that Metadata names; from version 2 on the fenced ones, too, if the client wants to see them (KIP-1073).
//! Asking for controller endpoints (KIP-919) is refused with `MISMATCHED_ENDPOINT_TYPE`, as Kafka's brokers do. The controller is the metadata leader where
//! it is known; in fact every node takes every request.

use chronik_base::ErrorCode;
use chronik_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use super::cluster_view::{Address, controller_id};
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
    let shown = image.brokers().filter(|other| !other.fenced || request.include_fenced_brokers);
    let brokers = shown.map(|other| {
        let Address { id, host, port, rack, fenced } = Address::new(call.broker, other, call.connection);
        let (host, rack) = (Str::from(host), rack.map(Str::from));
        DescribeClusterBroker { broker_id: id, host, port, rack, is_fenced: fenced }
    });
    let asked = request.include_cluster_authorized_operations;
    Ok(call.ready(&DescribeClusterResponse {
        error_message: None,
        endpoint_type: BROKERS,
        cluster_id: Str::from(image.cluster_id().to_string()),
        controller_id: controller_id(call.broker, &image),
        brokers: brokers.collect(),
        cluster_authorized_operations: if asked { CLUSTER_OPERATIONS } else { i32::MIN },
        ..DescribeClusterResponse::default()
    }))
}
