//! UnregisterBroker (64), version 0: the cluster forgets a broker that is gone for good.
//!
//! An unknown broker is `BROKER_ID_NOT_REGISTERED`. Unlike in Kafka, one that still holds partitions is refused with `INVALID_REQUEST`: they are moved
//! away first (AlterPartitionReassignments). A broker that runs registers itself again. Any node takes it.

use chronik_base::ErrorCode;
use chronik_meta::{Command, MetaError};
use chronik_protocol::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::{NO_TIMEOUT, Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let id = UnregisterBrokerRequest::decode(reader, call.version)?.broker_id;
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        let done = broker.commit_within(vec![Command::UnregisterBroker { id }], NO_TIMEOUT).await.pop();
        let outcome = done.unwrap_or(Err(MetaError::Closed)).map_err(refusal);
        let (error_code, error_message) = outcome_of(&outcome);
        UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() }
    }))
}

fn refusal(error: MetaError) -> Refusal {
    match error {
        MetaError::UnknownBroker(id) => Refusal::new(
            ErrorCode::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered."),
        ),
        error => error.into(),
    }
}
