//! Every API that is served: one table, and one file for each handler, named by its key.

pub(crate) mod cluster_view;
pub(crate) mod p00_produce;
pub(crate) mod p01_fetch;
pub(crate) mod p02_list_offsets;
pub(crate) mod p03_metadata;
pub(crate) mod p08_offset_commit;
pub(crate) mod p09_offset_fetch;
pub(crate) mod p10_find_coordinator;
pub(crate) mod p11_join_group;
pub(crate) mod p12_heartbeat;
pub(crate) mod p13_leave_group;
pub(crate) mod p14_sync_group;
pub(crate) mod p15_describe_groups;
pub(crate) mod p16_list_groups;
pub(crate) mod p18_api_versions;
pub(crate) mod p19_create_topics;
pub(crate) mod p20_delete_topics;
pub(crate) mod p21_delete_records;
pub(crate) mod p22_init_producer_id;
pub(crate) mod p23_offset_for_leader_epoch;
pub(crate) mod p32_describe_configs;
pub(crate) mod p33_alter_configs;
pub(crate) mod p35_describe_log_dirs;
pub(crate) mod p37_create_partitions;
pub(crate) mod p42_delete_groups;
pub(crate) mod p43_elect_leaders;
pub(crate) mod p44_incremental_alter_configs;
pub(crate) mod p45_alter_partition_reassignments;
pub(crate) mod p46_list_partition_reassignments;
pub(crate) mod p47_offset_delete;
pub(crate) mod p55_describe_quorum;
pub(crate) mod p60_describe_cluster;
pub(crate) mod p61_describe_producers;
pub(crate) mod p64_unregister_broker;
pub(crate) mod p75_describe_topic_partitions;
pub(crate) mod p80_add_raft_voter;
pub(crate) mod p81_remove_raft_voter;
mod voters;

use std::ops::RangeInclusive;

use chronik_protocol::{ApiKey, DecodeError, Reader};

use crate::call::Call;
use crate::outcome::Outcome;

/// Reads the request's body and acts on it. What fixes the order of requests happens before it returns.
pub(crate) type Handler = fn(&Call<'_>, &mut Reader) -> Result<Outcome, DecodeError>;

/// One row of the table.
pub(crate) struct Served {
    pub(crate) key: ApiKey,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) handler: Handler,
}

const fn served(key: ApiKey, versions: RangeInclusive<i16>, handler: Handler) -> Served {
    Served { key, versions, handler }
}

/// What this broker serves. ApiVersions answers from it and dispatch goes through it, so that nothing is claimed that is
/// not done. In the order of the keys.
pub(crate) static TABLE: &[Served] = &[
    served(ApiKey::Produce, 3..=13, p00_produce::handle),
    served(ApiKey::Fetch, 4..=18, p01_fetch::handle),
    served(ApiKey::ListOffsets, 1..=11, p02_list_offsets::handle),
    served(ApiKey::Metadata, 0..=13, p03_metadata::handle),
    served(ApiKey::OffsetCommit, 2..=10, p08_offset_commit::handle),
    served(ApiKey::OffsetFetch, 1..=10, p09_offset_fetch::handle),
    served(ApiKey::FindCoordinator, 0..=6, p10_find_coordinator::handle),
    served(ApiKey::JoinGroup, 0..=9, p11_join_group::handle),
    served(ApiKey::Heartbeat, 0..=4, p12_heartbeat::handle),
    served(ApiKey::LeaveGroup, 0..=5, p13_leave_group::handle),
    served(ApiKey::SyncGroup, 0..=5, p14_sync_group::handle),
    served(ApiKey::DescribeGroups, 0..=6, p15_describe_groups::handle),
    served(ApiKey::ListGroups, 0..=5, p16_list_groups::handle),
    served(ApiKey::ApiVersions, 0..=5, p18_api_versions::handle),
    served(ApiKey::CreateTopics, 2..=7, p19_create_topics::handle),
    served(ApiKey::DeleteTopics, 1..=6, p20_delete_topics::handle),
    served(ApiKey::DeleteRecords, 0..=2, p21_delete_records::handle),
    served(ApiKey::InitProducerId, 0..=5, p22_init_producer_id::handle),
    served(ApiKey::OffsetForLeaderEpoch, 2..=4, p23_offset_for_leader_epoch::handle),
    served(ApiKey::DescribeConfigs, 1..=4, p32_describe_configs::handle),
    served(ApiKey::AlterConfigs, 0..=2, p33_alter_configs::handle),
    served(ApiKey::DescribeLogDirs, 1..=5, p35_describe_log_dirs::handle),
    served(ApiKey::CreatePartitions, 0..=3, p37_create_partitions::handle),
    served(ApiKey::DeleteGroups, 0..=3, p42_delete_groups::handle),
    served(ApiKey::ElectLeaders, 0..=2, p43_elect_leaders::handle),
    served(ApiKey::IncrementalAlterConfigs, 0..=1, p44_incremental_alter_configs::handle),
    served(ApiKey::AlterPartitionReassignments, 0..=1, p45_alter_partition_reassignments::handle),
    served(ApiKey::ListPartitionReassignments, 0..=0, p46_list_partition_reassignments::handle),
    served(ApiKey::OffsetDelete, 0..=0, p47_offset_delete::handle),
    served(ApiKey::DescribeQuorum, 0..=2, p55_describe_quorum::handle),
    served(ApiKey::DescribeCluster, 0..=2, p60_describe_cluster::handle),
    served(ApiKey::DescribeProducers, 0..=0, p61_describe_producers::handle),
    served(ApiKey::UnregisterBroker, 0..=0, p64_unregister_broker::handle),
    served(ApiKey::DescribeTopicPartitions, 0..=0, p75_describe_topic_partitions::handle),
    served(ApiKey::AddRaftVoter, 0..=1, p80_add_raft_voter::handle),
    served(ApiKey::RemoveRaftVoter, 0..=0, p81_remove_raft_voter::handle),
];

/// The row of a key.
pub(crate) fn find(key: ApiKey) -> Option<&'static Served> {
    TABLE.binary_search_by_key(&(key as i16), |row| row.key as i16).ok().and_then(|at| TABLE.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_within_the_codec() {
        assert!(TABLE.is_sorted_by_key(|row| row.key as i16));
        for row in TABLE {
            let codec = row.key.codec_versions().unwrap();
            assert!(
                codec.start() <= row.versions.start() && row.versions.end() <= codec.end(),
                "{}",
                row.key.name()
            );
            assert!(find(row.key).is_some());
        }
    }
}
