//! `chronik cluster status`: what is wrong with the cluster, and what to do.

use std::process::ExitCode;

use super::{render, view};
use crate::connect::ConnectArgs;
use crate::output;

/// Asks every node, and prints one screen.
pub async fn run(connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let view = view::gather(&connect.servers()?, connect.http_limit()).await?;
    if connect.json {
        output::json(&view);
    } else {
        output::print(&render::status(&view));
    }
    Ok(ExitCode::SUCCESS)
}
