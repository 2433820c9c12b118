//! `chronik group reset-offsets`: moves the committed offsets of a group.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use chronik_client::{Client, EARLIEST, LATEST, To};
use chronik_protocol::Str;
use chronik_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use clap::Args;
use serde::Serialize;

use crate::connect::Refusals;
use crate::group_describe::{TopicPartition, committed_offsets};
use crate::{output, timestamp};

/// The last version of OffsetCommit that names topics by name.
const OFFSET_COMMIT_BY_NAME: i16 = 9;

/// Arguments of `chronik group reset-offsets`.
#[derive(Args)]
pub struct Reset {
    /// The group; it must not have members
    group: String,
    /// A topic, or some of its partitions
    #[arg(long, value_name = "TOPIC[:PARTITION,...]", required_unless_present = "all_topics")]
    topic: Vec<String>,
    /// Every partition that the group has committed
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    #[command(flatten)]
    target: Target,
    /// Commit; without this, what would be committed is shown
    #[arg(long)]
    execute: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To an offset
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// By this many records, back if negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To the first record from a time on: 2026-01-31T12:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse)]
    to_datetime: Option<i64>,
}

#[derive(Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: i64,
}

/// Runs the command.
pub async fn run(is_json: bool, client: &Client, reset: &Reset) -> anyhow::Result<ExitCode> {
    let committed = committed_offsets(client, &reset.group).await?;
    let mut moves = Vec::new();
    for (topic, partition) in partitions(client, reset, &committed).await? {
        let before = committed.get(&(topic.clone(), partition)).copied();
        let after = target(client, &reset.target, &topic, partition, before).await?;
        moves.push(Moved { topic, partition, before, after });
    }
    let mut refusals = Refusals::default();
    if reset.execute {
        commit(client, &reset.group, &moves, &mut refusals).await?;
    }
    if is_json {
        output::json(&moves);
    } else {
        let rows = moves.iter().map(|moved| {
            let before = moved.before.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            [moved.topic.clone(), moved.partition.to_string(), before, moved.after.to_string()]
        });
        output::table(["TOPIC", "PARTITION", "BEFORE", "AFTER"], rows);
        if !reset.execute {
            output::line("nothing was committed; add --execute to do it");
        }
    }
    Ok(refusals.exit_code())
}

async fn partitions(
    client: &Client,
    reset: &Reset,
    committed: &BTreeMap<TopicPartition, i64>,
) -> anyhow::Result<Vec<TopicPartition>> {
    if reset.all_topics {
        ensure!(!committed.is_empty(), "group {} has committed nothing; name a --topic", reset.group);
        return Ok(committed.keys().cloned().collect());
    }
    let mut partitions = Vec::new();
    for text in &reset.topic {
        match text.split_once(':') {
            Some((topic, list)) => {
                for index in list.split(',') {
                    let index = index.parse().with_context(|| {
                        format!("--topic {text}: expected TOPIC:PARTITION,..., for example orders:0,1")
                    })?;
                    partitions.push((topic.to_owned(), index));
                }
            }
            None => {
                let topic = client.topic(text, false).await?;
                partitions.extend(topic.partitions.keys().map(|index| (text.clone(), *index)));
            }
        }
    }
    Ok(partitions)
}

async fn target(
    client: &Client,
    target: &Target,
    topic: &str,
    partition: i32,
    before: Option<i64>,
) -> anyhow::Result<i64> {
    let start = client.offset_at(topic, partition, EARLIEST).await?.unwrap_or(0);
    let end = client.offset_at(topic, partition, LATEST).await?.unwrap_or(start);
    let wanted = match *target {
        Target { to_earliest: true, .. } => start,
        Target { to_latest: true, .. } => end,
        Target { to_offset: Some(offset), .. } => offset,
        Target { shift_by: Some(by), .. } => {
            let before = before.with_context(|| {
                format!("{topic}-{partition} has no committed offset that could be shifted")
            })?;
            before.saturating_add(by)
        }
        Target { to_datetime: Some(time), .. } => {
            client.offset_at(topic, partition, time).await?.unwrap_or(end)
        }
        Target { .. } => end,
    };
    Ok(wanted.clamp(start, end))
}

async fn commit(
    client: &Client,
    group: &str,
    moves: &[Moved],
    refusals: &mut Refusals,
) -> anyhow::Result<()> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for moved in moves {
        topics.entry(&moved.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: moved.partition,
            committed_offset: moved.after,
            ..Default::default()
        });
    }
    let make = |_| OffsetCommitRequest {
        group_id: Str::from(group),
        // Outside of any generation: only a group without members takes it.
        generation_id_or_member_epoch: -1,
        topics: topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: Str::from(name),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let answer = client.send_up_to(To::Group(group), OFFSET_COMMIT_BY_NAME, make).await?;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            refusals.check(partition.error_code, None, || {
                format!("{}-{} (a group with members can't be reset)", topic.name, partition.partition_index)
            });
        }
    }
    Ok(())
}
