//! `docs/compatibility.md`, made from the table of what is served.

use std::fmt::Write;

use chronik_protocol::ApiKey;

use crate::api::TABLE;

/// APIs that only Kafka's own brokers and controllers use among themselves: no client asks for them.
fn is_between_nodes(key: ApiKey) -> bool {
    matches!(
        key.name(),
        "LeaderAndIsr"
            | "StopReplica"
            | "UpdateMetadata"
            | "ControlledShutdown"
            | "WriteTxnMarkers"
            | "Vote"
            | "BeginQuorumEpoch"
            | "EndQuorumEpoch"
            | "AlterPartition"
            | "Envelope"
            | "FetchSnapshot"
            | "BrokerRegistration"
            | "BrokerHeartbeat"
            | "AllocateProducerIds"
            | "ControllerRegistration"
            | "AssignReplicasToDirs"
            | "InitializeShareGroupState"
            | "ReadShareGroupState"
            | "WriteShareGroupState"
            | "DeleteShareGroupState"
            | "ReadShareGroupStateSummary"
            | "UpdateRaftVoter"
    )
}

/// The page, as Markdown.
pub fn render() -> String {
    let mut page = String::from(
        "# Compatibility\n\n\
         What this broker serves of Kafka's protocol. The page is made from the table that ApiVersions answers from and that requests are\n\
         dispatched through (`crates/broker/src/api/mod.rs`); a test compares them. Each handler's file says how it behaves and what it\n\
         leaves out.\n\n\
         ## Served\n| key | API | versions |\n|---:|---|---|\n",
    );
    for row in TABLE {
        // Writing to a String does not fail.
        let _ = writeln!(
            page,
            "| {} | {} | {}–{} |",
            row.key as i16,
            row.key.name(),
            row.versions.start(),
            row.versions.end()
        );
    }
    page.push_str(
        "\nRecord batches are format v2 (Kafka 0.11 and later), stored as the producer sent them, in every compression of Kafka. Older message\n\
         formats are refused with `UNSUPPORTED_FOR_MESSAGE_FORMAT`.\n\n\
         ## Not yet served\nA request for one of these closes the connection, as Kafka does with what it does not know; clients see from ApiVersions that\n\
         they are not there.\n\n",
    );
    let absent =
        ApiKey::ALL.iter().filter(|key| crate::api::find(**key).is_none() && !is_between_nodes(**key));
    let names: Vec<String> = absent.map(|key| format!("{} ({})", key.name(), *key as i16)).collect();
    page.push_str(&names.join(", "));
    page.push_str(".\n\nAPIs that Kafka's nodes use among themselves are not part of a client's protocol and are left out here.\n\n");
    page.push_str(DEPARTURES);
    page
}

const DEPARTURES: &str = "\
## Where it departs from Apache Kafka
| what | here | why |
|---|---|---|
| `acks=all` | answered after a flush to disk (`flush=os` is Kafka's way) | an acknowledgement should survive a power loss |
| high watermark | what is flushed, not what is written | a consumer never reads what a power loss could take back |
| ListOffsets \"latest\" | flushes first where records wait for it | what was acknowledged with `acks=1` a moment ago is counted |
| `group.initial.rebalance.delay.ms` | 50 ms instead of 3 s | the first message of a new group should not take seconds |
| Metadata of a topic that is created on the way | answered as it then is, not with `LEADER_NOT_AVAILABLE` | clients need not ask twice |
| Metadata after a failure | a leader whose process this node has seen end is not named (for two seconds, then the quorum has decided), and a broker is listed for five seconds after it was fenced | librdkafka finds the new leader three times as fast |
| a batch of an idempotent producer after one that was refused for a reason that passes (full disk, too few in sync, not the leader) | refused with the same error, not with `OUT_OF_ORDER_SEQUENCE_NUMBER` | a client that hears of a gap begins a new epoch, and writes twice what was in the log |
| an idempotent producer at a new leader | for two minutes, duplicates older than five batches are known (`DUPLICATE_SEQUENCE_NUMBER`); for 30 s, one that the log does not know may not begin in the middle (`NOT_LEADER_OR_FOLLOWER`) | what was sent to the old leader may come late; in Kafka it then never gets in |
| a full disk | the node refuses writes, gives its leaderships away, and goes on | Kafka's log directory fails for good |
| advertised address | where nothing is set, the address by which the connection came | no advertised-listeners setting in the ordinary cases |
| producer state that is gone (expired, or its records removed) | the producer goes on, as in Kafka since 2.5 | an idle producer must not fail |
| attribute bits of a batch that no client may set | refused with `INVALID_RECORD` | they would be read as the broker's own |
| a transactional id (FindCoordinator, InitProducerId) | `TRANSACTIONAL_ID_AUTHORIZATION_FAILED` with a message | transactions are not served yet, and this is the code that every client takes as final |
| `__consumer_offsets` | can't be deleted, and gets no more partitions | groups would lose their offsets |
| settings of a node that are not known | refused by AlterConfigs | a setting that nobody reads is a mistake |
| too many partitions | `POLICY_VIOLATION`, naming `max.partitions.per.node` | Kafka has no such limit |
| LeaveGroup | answered before the emptied group is in the log | nothing is lost by it: the members are gone either way |
| requests for the controller | every node takes them and passes them on to the metadata leader | no client has to find the right node |
| DescribeQuorum | any node answers; offsets count the entries of the metadata quorum's log, with one voter its commands | the log is not a topic |
| UnregisterBroker | a broker that still holds partitions is refused | they would be lost sight of; move them first |
| DeleteRecords | followers hear of it right after, and are not waited for | their copies are cut all the same |
| produce to `__consumer_offsets` | refused with `INVALID_TOPIC_EXCEPTION`, whoever asks | a record there is read as a commit |
";
