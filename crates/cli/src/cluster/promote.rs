//! `chronik cluster promote`: a follower becomes the only voter, when those that voted are gone for good.

use std::process::ExitCode;

use anyhow::Context;
use chronik_client::post_json;
use chronik_status::{PromoteAnswer, PromoteRequest, count};
use clap::Args;

use crate::connect::ConnectArgs;
use crate::output;
use crate::plan::listed;

/// Arguments of `chronik cluster promote`.
#[derive(Args)]
pub struct PromoteArgs {
    /// Do it. Without this, only what would happen is shown
    #[arg(long)]
    voters_are_gone: bool,
    /// Also lead partitions of which the node isn't an in-sync replica: what only others had is lost
    #[arg(long)]
    unclean: bool,
}

/// Asks the node to go on alone.
pub async fn run(connect: &ConnectArgs, args: &PromoteArgs) -> anyhow::Result<ExitCode> {
    let servers = connect.servers()?;
    let (Some(server), 1) = (servers.first(), servers.len()) else {
        anyhow::bail!("name the one node that is to go on: --bootstrap-server HOST:PORT");
    };
    let request = PromoteRequest { voters_are_gone: args.voters_are_gone, unclean: args.unclean };
    let limit = std::time::Duration::from_secs(connect.timeout);
    let answer: PromoteAnswer =
        post_json(server, "/v1/cluster/promote", &request, limit).await.context("not promoted")?;
    if connect.json {
        output::json(&answer);
    } else {
        output::print(&text(&answer));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was done, or would be.
pub fn text(answer: &PromoteAnswer) -> String {
    let (goes_on, leads) = if answer.done { ("goes on", "leads") } else { ("would go on", "would lead") };
    let mut text = format!(
        "node {} {goes_on} as the only voter, without {}; it {leads} {}",
        answer.node_id,
        match answer.former_voters.as_slice() {
            [one] => format!("voter {one}"),
            several => format!("voters {}", listed(several)),
        },
        count(answer.leads, "partition", "partitions")
    );
    if answer.led_unclean > 0 {
        text.push_str(&format!(
            ", of which it wasn't in sync on {}: what only others had is lost",
            count(answer.led_unclean, "partition", "partitions")
        ));
    }
    if answer.offline > 0 {
        text.push_str(&format!(
            "\n{} no leader: no in-sync replica is left (--unclean takes what there is)",
            count(answer.offline, "partition has", "partitions have")
        ));
    }
    text.push_str(if answer.done {
        "\na former voter that comes back follows this node as soon as the two reach each other, and gives up what only it has; until then \
         clients must not reach it\n"
    } else {
        "\nnothing was changed. If a former voter still runs, it would go on beside this node, as a second cluster: make sure that it \
         doesn't, then add --voters-are-gone\n"
    });
    text
}
