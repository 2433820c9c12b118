//! What `cargo metadata` says about the workspace and its dependencies.

use crate::shell;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// `cargo metadata`, the parts that tidy reads.
#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub workspace_members: Vec<String>,
    pub resolve: Resolve,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    pub license_file: Option<PathBuf>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    pub kind: Option<String>,
}

#[derive(Deserialize)]
pub struct Resolve {
    pub nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub struct Node {
    pub id: String,
    pub deps: Vec<Edge>,
}

#[derive(Deserialize)]
pub struct Edge {
    pub pkg: String,
    pub dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
pub struct EdgeKind {
    pub kind: Option<String>,
}

impl Metadata {
    /// Of the machine it runs on: dependencies of other platforms are left out.
    pub fn load() -> Result<Self> {
        let text = shell::output(shell::cargo()?.args([
            "metadata",
            "--format-version=1",
            "--filter-platform",
            &shell::host()?,
        ]))?;
        serde_json::from_str(&text).context("reading what cargo metadata printed")
    }

    /// The packages of the workspace.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Every package that a build of `name` compiles, itself included: normal and build dependencies.
    pub fn built_for(&self, name: &str) -> Vec<&Package> {
        let by_id: BTreeMap<&str, &Package> = self.packages.iter().map(|p| (p.id.as_str(), p)).collect();
        let edges: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
        let mut open: Vec<&str> = self.members().filter(|p| p.name == name).map(|p| p.id.as_str()).collect();
        let mut seen: BTreeSet<&str> = open.iter().copied().collect();
        while let Some(id) = open.pop() {
            for edge in edges.get(id).map_or(&[][..], |node| &node.deps) {
                let built = edge.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"));
                if built && seen.insert(&edge.pkg) {
                    open.push(&edge.pkg);
                }
            }
        }
        seen.into_iter().filter_map(|id| by_id.get(id).copied()).collect()
    }
}
