//! The API keys, by the names Kafka's protocol guide gives them.

use std::fmt;
use std::ops::RangeInclusive;

use crate::messages;

macro_rules! flexible {
    (never) => {
        None
    };
    ($first:literal) => {
        Some($first)
    };
}

macro_rules! api_keys {
    ($($key:literal $name:ident $flexible:tt,)*) => {
        /// An API of Kafka's protocol. The set is Kafka's; what can be decoded here says [`ApiKey::codec_versions`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's own, documented in its protocol guide")]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every key, in the order of their numbers.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The key that a number stands for, if Kafka has one.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// The name in Kafka's documentation, for example `ListOffsets`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// The first version with compact lengths, tagged fields and header version 2 (KIP-482), if there is one.
            pub const fn flexible_from(self) -> Option<i16> {
                match self {
                    $(ApiKey::$name => flexible!($flexible),)*
                }
            }
        }
    };
}

api_keys! {
    0 Produce 9,
    1 Fetch 12,
    2 ListOffsets 6,
    3 Metadata 9,
    4 LeaderAndIsr 4,
    5 StopReplica 2,
    6 UpdateMetadata 6,
    7 ControlledShutdown 3,
    8 OffsetCommit 8,
    9 OffsetFetch 6,
    10 FindCoordinator 3,
    11 JoinGroup 6,
    12 Heartbeat 4,
    13 LeaveGroup 4,
    14 SyncGroup 4,
    15 DescribeGroups 5,
    16 ListGroups 3,
    17 SaslHandshake never,
    18 ApiVersions 3,
    19 CreateTopics 5,
    20 DeleteTopics 4,
    21 DeleteRecords 2,
    22 InitProducerId 2,
    23 OffsetForLeaderEpoch 4,
    24 AddPartitionsToTxn 3,
    25 AddOffsetsToTxn 3,
    26 EndTxn 3,
    27 WriteTxnMarkers 1,
    28 TxnOffsetCommit 3,
    29 DescribeAcls 2,
    30 CreateAcls 2,
    31 DeleteAcls 2,
    32 DescribeConfigs 4,
    33 AlterConfigs 2,
    34 AlterReplicaLogDirs 2,
    35 DescribeLogDirs 2,
    36 SaslAuthenticate 2,
    37 CreatePartitions 2,
    38 CreateDelegationToken 2,
    39 RenewDelegationToken 2,
    40 ExpireDelegationToken 2,
    41 DescribeDelegationToken 2,
    42 DeleteGroups 2,
    43 ElectLeaders 2,
    44 IncrementalAlterConfigs 1,
    45 AlterPartitionReassignments 0,
    46 ListPartitionReassignments 0,
    47 OffsetDelete never,
    48 DescribeClientQuotas 1,
    49 AlterClientQuotas 1,
    50 DescribeUserScramCredentials 0,
    51 AlterUserScramCredentials 0,
    52 Vote 0,
    53 BeginQuorumEpoch 1,
    54 EndQuorumEpoch 1,
    55 DescribeQuorum 0,
    56 AlterPartition 0,
    57 UpdateFeatures 0,
    58 Envelope 0,
    59 FetchSnapshot 0,
    60 DescribeCluster 0,
    61 DescribeProducers 0,
    62 BrokerRegistration 0,
    63 BrokerHeartbeat 0,
    64 UnregisterBroker 0,
    65 DescribeTransactions 0,
    66 ListTransactions 0,
    67 AllocateProducerIds 0,
    68 ConsumerGroupHeartbeat 0,
    69 ConsumerGroupDescribe 0,
    70 ControllerRegistration 0,
    71 GetTelemetrySubscriptions 0,
    72 PushTelemetry 0,
    73 AssignReplicasToDirs 0,
    74 ListConfigResources 0,
    75 DescribeTopicPartitions 0,
    76 ShareGroupHeartbeat 0,
    77 ShareGroupDescribe 0,
    78 ShareFetch 0,
    79 ShareAcknowledge 0,
    80 AddRaftVoter 0,
    81 RemoveRaftVoter 0,
    82 UpdateRaftVoter 0,
    83 InitializeShareGroupState 0,
    84 ReadShareGroupState 0,
    85 WriteShareGroupState 0,
    86 DeleteShareGroupState 0,
    87 ReadShareGroupStateSummary 0,
    88 StreamsGroupHeartbeat 0,
    89 StreamsGroupDescribe 0,
    90 DescribeShareGroupOffsets 0,
    91 AlterShareGroupOffsets 0,
    92 DeleteShareGroupOffsets 0,
    93 StreamsGroupTopologyDescriptionUpdate 0,
    94 UnregisterController 0,
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// True if `version` has compact lengths, tagged fields and header version 2.
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.flexible_from() {
            Some(first) => version >= first,
            None => false,
        }
    }

    /// The versions that this crate decodes and encodes, if any. What a broker serves may be less.
    pub const fn codec_versions(self) -> Option<RangeInclusive<i16>> {
        messages::codec_versions(self)
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = i16;

    /// The key of a number; a number without one comes back.
    fn try_from(code: i16) -> Result<Self, i16> {
        Self::from_code(code).ok_or(code)
    }
}

impl From<ApiKey> for i16 {
    fn from(key: ApiKey) -> i16 {
        key.code()
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::ApiKey;

    #[test]
    fn numbers_and_names_agree() {
        assert_eq!(ApiKey::from_code(18), Some(ApiKey::ApiVersions));
        assert_eq!(ApiKey::ApiVersions.code(), 18);
        assert_eq!(ApiKey::try_from(-1), Err(-1));
        assert!(ApiKey::Fetch.is_flexible(12) && !ApiKey::Fetch.is_flexible(11));
        assert!(!ApiKey::SaslHandshake.is_flexible(1));
        assert!(ApiKey::ALL.iter().all(|&key| ApiKey::from_code(key.code()) == Some(key)));
    }

    #[test]
    fn the_codec_has_what_clients_use() {
        assert_eq!(ApiKey::Produce.codec_versions(), Some(3..=13));
        assert_eq!(ApiKey::ShareFetch.codec_versions(), None);
    }
}
