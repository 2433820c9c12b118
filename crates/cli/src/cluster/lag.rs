//! `chronik cluster lag`: how far followers are behind.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use chronik_base::NodeId;
use chronik_status::{FollowerLag, LagReport, PartitionLag};
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::render::{self, Speeds};
use super::view::{self, Answer, NodeView};
use crate::connect::ConnectArgs;
use crate::moving::Ongoing;
use crate::output;

/// Arguments of `chronik cluster lag`.
#[derive(Args)]
pub struct LagArgs {
    /// One topic only
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Partitions that aren't behind, too
    #[arg(long)]
    all: bool,
    /// How many partitions to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show it again and again, with how fast followers catch up
    #[arg(long)]
    watch: bool,
    /// How long to wait in between, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..), requires = "watch")]
    interval: u64,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a LagReport,
    /// Nodes that didn't answer: what they lead is not in the report.
    silent: &'a [NodeView],
}

/// Asks every node, and prints what is behind; with `--watch` until it is told to stop.
pub async fn run(connect: &ConnectArgs, args: &LagArgs) -> anyhow::Result<ExitCode> {
    const CLEAR: &str = "\x1b[2J\x1b[H";
    let servers = connect.servers()?;
    let path = path(args)?;
    let mut before: Option<(LagReport, Instant)> = None;
    loop {
        let answers = view::ask_everyone::<LagReport>(&servers, &path, connect.http_limit()).await?;
        let asked = Instant::now();
        let (report, silent) = merge(answers, args.limit);
        match (connect.json, args.watch) {
            (true, false) => output::json(&Shown { report: &report, silent: &silent }),
            // One line each, for programs.
            (true, true) => {
                output::line(&serde_json::to_string(&Shown { report: &report, silent: &silent })?)
            }
            (false, _) => {
                let speeds = before.as_ref().map_or_else(Speeds::new, |(was, at)| {
                    let elapsed = u64::try_from((asked - *at).as_millis()).unwrap_or(u64::MAX);
                    render::speeds(was, &report, elapsed)
                });
                let clear = if args.watch && std::io::stdout().is_terminal() { CLEAR } else { "" };
                output::print(&format!("{clear}{}", render::lag(&report, &silent, &speeds)));
            }
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        before = Some((report, asked));
        tokio::time::sleep(Duration::from_secs(args.interval)).await;
    }
}

fn path(args: &LagArgs) -> anyhow::Result<String> {
    let mut path = format!("/v1/cluster/lag?limit={}", args.limit);
    if args.all {
        path.push_str("&all=true");
    }
    // A topic's name needs no escaping: letters, digits, dots, dashes and underscores are all that is allowed.
    if let Some(topic) = &args.topic {
        let is_name = topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        anyhow::ensure!(
            is_name,
            "{topic:?} can't be a topic's name: letters, digits, dots, dashes and underscores only"
        );
        path.push_str(&format!("&topic={topic}"));
    }
    Ok(path)
}

/// Bytes that these moves still have to copy; `None` where the nodes don't say.
pub async fn of_moves(connect: &ConnectArgs, ongoing: &Ongoing) -> Option<u64> {
    let servers = connect.servers().ok()?;
    let path = format!("/v1/cluster/lag?limit={}", ongoing.len().saturating_mul(2).max(1_000));
    let answers = view::ask_everyone::<LagReport>(&servers, &path, connect.http_limit()).await.ok()?;
    let reports = answers.into_values().filter_map(|(_, answer)| answer.ok());
    Some(
        reports
            .flat_map(|report| report.partitions)
            .map(|partition| bytes_to_copy(&partition, ongoing))
            .sum(),
    )
}

fn bytes_to_copy(partition: &PartitionLag, ongoing: &Ongoing) -> u64 {
    let Some(moving) = ongoing.get(&(partition.topic.clone(), partition.partition)) else { return 0 };
    let is_new = |follower: &&FollowerLag| !follower.in_sync && moving.adding_replicas.contains(&follower.id);
    partition.followers.iter().filter(is_new).map(|follower| follower.lag_bytes).sum()
}

/// Puts the leaders' reports together: at most `limit` partitions, the furthest behind first.
pub fn merge(
    answers: BTreeMap<NodeId, (String, Answer<LagReport>)>,
    limit: usize,
) -> (LagReport, Vec<NodeView>) {
    let mut whole = LagReport::default();
    let mut silent = Vec::new();
    for (id, (address, answer)) in answers {
        match answer {
            Ok(report) => {
                whole.leads += report.leads;
                whole.followers.extend(report.followers);
                whole.partitions.extend(report.partitions);
                whole.partitions_left_out += report.partitions_left_out;
            }
            Err(reason) => silent.push(NodeView { id, address, silent: Some(reason), ..NodeView::default() }),
        }
    }
    whole.followers.sort_by_key(|follower| (follower.id, follower.leader));
    let furthest = |partition: &PartitionLag| {
        partition.followers.iter().map(|follower| follower.lag_ms).max().unwrap_or(0)
    };
    whole.partitions.sort_by(|a, b| {
        furthest(b).cmp(&furthest(a)).then_with(|| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)))
    });
    whole.partitions_left_out += whole.partitions.len().saturating_sub(limit) as u64;
    whole.partitions.truncate(limit);
    (whole, silent)
}
