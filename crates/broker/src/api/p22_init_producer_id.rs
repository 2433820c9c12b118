//! InitProducerId (22), versions 0 to 5: an id for an idempotent producer (KIP-98).
//!
//! Always a new id with epoch 0, also for a producer that names one that it has (KIP-360): as in Kafka, only transactional ids
//! keep theirs. Ids come from the metadata in blocks; while no new block can be had, the answer is `COORDINATOR_LOAD_IN_PROGRESS`, as in Kafka: clients ask
//! again. Gap: a transactional id is refused with `TRANSACTIONAL_ID_AUTHORIZATION_FAILED`, which every client takes as
//! final; transactions are not served yet.

use chronik_base::ErrorCode;
use chronik_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = InitProducerIdRequest::decode(reader, call.version)?;
    if let Some(id) = request.transactional_id {
        let error = if id.is_empty() {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TransactionalIdAuthorizationFailed
        };
        return Ok(call.ready(&refused(error)));
    }
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        match broker.producer_ids.next(&broker.metadata).await {
            Ok(producer_id) => {
                InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
            }
            Err(error) => refused(match error {
                ErrorCode::RequestTimedOut | ErrorCode::NotController | ErrorCode::BrokerNotAvailable => {
                    ErrorCode::CoordinatorLoadInProgress
                }
                error => error,
            }),
        }
    }))
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
