//! `chronik group describe`: who is in a group, what it has committed, and how far behind that is.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chronik_client::{Client, LATEST, To};
use chronik_protocol::messages::consumer_protocol::ConsumerProtocolAssignment;
use chronik_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroupMember};
use chronik_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use chronik_protocol::{Decode, Reader, Str};
use serde::Serialize;

use crate::connect::Refusals;
use crate::output;

/// The last version of OffsetFetch that names topics by name.
const OFFSET_FETCH_BY_NAME: i16 = 9;

/// A partition of a topic.
pub type TopicPartition = (String, i32);

#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    protocol: String,
    members: Vec<Member>,
    offsets: Vec<Offset>,
}

#[derive(Serialize)]
struct Member {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    partitions: Vec<String>,
}

#[derive(Serialize)]
struct Offset {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    client_id: Option<String>,
}

/// Prints groups.
pub async fn run(is_json: bool, client: &Client, groups: &[String]) -> anyhow::Result<ExitCode> {
    let mut refusals = Refusals::default();
    let mut all = Vec::new();
    for group in groups {
        all.extend(describe(client, group, &mut refusals).await?);
    }
    if is_json {
        output::json(&all);
    } else {
        all.iter().for_each(print);
    }
    Ok(refusals.exit_code())
}

async fn describe(
    client: &Client,
    group: &str,
    refusals: &mut Refusals,
) -> anyhow::Result<Option<Described>> {
    let request = DescribeGroupsRequest { groups: vec![Str::from(group)], ..Default::default() };
    let answer = client.send(To::Group(group), &request).await?;
    let Some(described) = answer.groups.into_iter().next() else { return Ok(None) };
    let message = described.error_message.as_deref();
    if !refusals.check(described.error_code, message, || format!("group {group}")) {
        return Ok(None);
    }
    let mut owners = BTreeMap::new();
    let mut members = Vec::new();
    for member in &described.members {
        let assigned = assignment(member);
        for partition in &assigned {
            owners.insert(partition.clone(), member.client_id.to_string());
        }
        members.push(Member {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: assigned.iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect(),
        });
    }
    let committed = committed_offsets(client, group).await?;
    let mut partitions: Vec<TopicPartition> = committed.keys().chain(owners.keys()).cloned().collect();
    partitions.sort();
    partitions.dedup();
    let mut offsets = Vec::new();
    for key in partitions {
        let committed = committed.get(&key).copied();
        // A topic may be gone while its offsets are still there.
        let end = client.offset_at(&key.0, key.1, LATEST).await.unwrap_or_default();
        offsets.push(Offset {
            committed,
            end,
            lag: committed.zip(end).map(|(committed, end)| end - committed),
            client_id: owners.get(&key).cloned(),
            topic: key.0,
            partition: key.1,
        });
    }
    Ok(Some(Described {
        group: group.to_owned(),
        state: described.group_state.to_string(),
        protocol: described.protocol_data.to_string(),
        members,
        offsets,
    }))
}

/// What a member was assigned, if it speaks the consumer protocol.
fn assignment(member: &DescribedGroupMember) -> Vec<TopicPartition> {
    let Some((version, body)) = member.member_assignment.split_first_chunk::<2>() else { return Vec::new() };
    let mut reader = Reader::new(member.member_assignment.slice_ref(body));
    // Later versions only add fields at the end.
    let version = i16::from_be_bytes(*version).clamp(0, 3);
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut reader, version) else { return Vec::new() };
    let of_topic = |topic: &chronik_protocol::messages::consumer_protocol::TopicPartition| {
        let name = topic.topic.to_string();
        topic.partitions.iter().map(|partition| (name.clone(), *partition)).collect::<Vec<_>>()
    };
    assignment.assigned_partitions.iter().flat_map(of_topic).collect()
}

/// What a group has committed.
pub async fn committed_offsets(
    client: &Client,
    group: &str,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let make = |version| {
        if version >= 8 {
            let group =
                OffsetFetchRequestGroup { group_id: Str::from(group), topics: None, ..Default::default() };
            OffsetFetchRequest { groups: vec![group], ..Default::default() }
        } else {
            OffsetFetchRequest { group_id: Str::from(group), topics: None, ..Default::default() }
        }
    };
    let answer = client.send_up_to(To::Group(group), OFFSET_FETCH_BY_NAME, make).await?;
    let mut committed = BTreeMap::new();
    let what = || format!("group {group}");
    chronik_client::ClientError::check(answer.error_code, None, what)?;
    for topic in answer.topics {
        for partition in topic.partitions {
            committed.insert((topic.name.to_string(), partition.partition_index), partition.committed_offset);
        }
    }
    for answered in answer.groups {
        chronik_client::ClientError::check(answered.error_code, None, what)?;
        for topic in answered.topics {
            for partition in topic.partitions {
                committed
                    .insert((topic.name.to_string(), partition.partition_index), partition.committed_offset);
            }
        }
    }
    committed.retain(|_, offset| *offset >= 0);
    Ok(committed)
}

fn print(group: &Described) {
    output::line(&format!("group {} ({}), {} members", group.group, group.state, group.members.len()));
    let number = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let rows = group.offsets.iter().map(|offset| {
        [
            offset.topic.clone(),
            offset.partition.to_string(),
            number(offset.committed),
            number(offset.end),
            number(offset.lag),
            offset.client_id.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    output::table(["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "CLIENT"], rows);
    if !group.members.is_empty() {
        let rows = group.members.iter().map(|member| {
            let instance = member.instance_id.clone().unwrap_or_else(|| "-".to_owned());
            [member.id.clone(), instance, member.host.clone(), member.partitions.len().to_string()]
        });
        output::table(["MEMBER", "INSTANCE", "HOST", "PARTITIONS"], rows);
    }
}
