//! OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch of leadership ended, so that consumers see whether what they read
//! was taken back (KIP-320).
//!
//! The answer is the largest epoch of the log that is not above the one asked for, and the offset after its last record; -1 for an
//! epoch that the leader has not reached.

use chronik_base::ErrorCode;
use chronik_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::partition::Partition;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = OffsetForLeaderEpochRequest::decode(reader, call.version)?;
    let topics = request.topics.into_iter().map(|topic| {
        let found = call.broker.topics.by_name(&topic.topic);
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = found
                .as_ref()
                .ok_or(ErrorCode::UnknownTopicOrPartition)
                .and_then(|found| found.led(wanted.partition));
            let outcome = partition.and_then(|partition| end_of_epoch(partition, wanted));
            let (leader_epoch, end_offset) = outcome.unwrap_or((-1, -1));
            let error_code = outcome.err().unwrap_or(ErrorCode::None).code();
            EpochEndOffset { error_code, partition: wanted.partition, leader_epoch, end_offset }
        });
        OffsetForLeaderTopicResult { partitions: partitions.collect(), topic: topic.topic.clone() }
    });
    let topics = topics.collect();
    Ok(call.ready(&OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }))
}

fn end_of_epoch(partition: &Partition, wanted: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let error = partition.check_leader_epoch(wanted.current_leader_epoch);
    if !error.is_ok() {
        return Err(error);
    }
    let epoch = wanted.leader_epoch;
    Ok(if epoch < 0 || epoch > partition.leader_epoch() {
        (-1, -1)
    } else if epoch == partition.leader_epoch() {
        // The log learns of an epoch with its first record; the leader is in it all the same.
        (epoch, partition.log.log_end_offset())
    } else {
        let found = partition.log.end_offset_for_epoch(epoch);
        found.unwrap_or((epoch, partition.log.log_start_offset()))
    })
}
