//! DescribeLogDirs (35), versions 1 to 5: how large the partitions are, and the disk they are on (KIP-113, KIP-827).
//!
//! A node has one directory, and tells of the replicas that it holds, whether it leads them or not; others are left out, as in Kafka. A replica's lag is
//! how far its log ends before the high watermark that it knows. The directory is never cordoned (KIP-1066), and there are no future replicas.

use std::collections::BTreeSet;

use chronik_base::ErrorCode;
use chronik_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::Broker;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::partition::Partition;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeLogDirsRequest::decode(reader, call.version)?;
    let topics = topics(call.broker, &request);
    let (total_bytes, usable_bytes) = space(call.broker);
    let data_path = &call.broker.data_path;
    let path = std::path::absolute(data_path).unwrap_or_else(|_| data_path.clone());
    let directory = DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: Str::from(path.to_string_lossy().into_owned()),
        topics,
        total_bytes,
        usable_bytes,
        is_cordoned: false,
    };
    Ok(call
        .ready(&DescribeLogDirsResponse { results: vec![directory], ..DescribeLogDirsResponse::default() }))
}

fn topics(broker: &Broker, request: &DescribeLogDirsRequest) -> Vec<DescribeLogDirsTopic> {
    let Some(wanted) = &request.topics else {
        let mut all = broker.topics.all();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let topics = all.iter().map(|topic| DescribeLogDirsTopic {
            name: topic.name.clone(),
            partitions: topic.partitions().map(|partition| entry(partition)).collect(),
        });
        return topics.collect();
    };
    let found = wanted.iter().filter_map(|wanted| {
        let topic = broker.topics.by_name(&wanted.topic)?;
        let indexes: BTreeSet<i32> = wanted.partitions.iter().copied().collect();
        let partitions = indexes.into_iter().filter_map(|index| topic.hosted(index));
        let partitions: Vec<_> = partitions.map(|partition| entry(partition)).collect();
        (!partitions.is_empty()).then(|| DescribeLogDirsTopic { name: wanted.topic.clone(), partitions })
    });
    found.collect()
}

fn entry(partition: &Partition) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index: partition.index,
        partition_size: i64::try_from(partition.log.size()).unwrap_or(i64::MAX),
        offset_lag: partition.high_watermark().saturating_sub(partition.log.log_end_offset()).max(0),
        is_future_key: false,
    }
}

/// Bytes of the disk, and bytes that are free on it; -1 where the system does not say.
fn space(broker: &Broker) -> (i64, i64) {
    match rustix::fs::statvfs(&broker.data_path) {
        Ok(disk) => {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
            (bytes(disk.f_blocks), bytes(disk.f_bavail))
        }
        Err(error) => {
            tracing::debug!(path = %broker.data_path.display(), "the space on the disk is not known: {error}");
            (-1, -1)
        }
    }
}
