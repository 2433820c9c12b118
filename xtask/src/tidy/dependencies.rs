//! Rules about crates: who may depend on whom, and on which of others.

use super::licence;
use crate::crate_graph::{Metadata, Package};

/// Which crates of ours each crate of ours may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("chronik-base", &[]),
    ("chronik-records", &["chronik-base"]),
    ("chronik-protocol", &["chronik-base"]),
    ("chronik-config", &["chronik-base"]),
    ("chronik-log", &["chronik-base", "chronik-records"]),
    ("chronik-replica", &["chronik-base"]),
    ("chronik-meta", &["chronik-base"]),
    ("chronik-coordinator", &["chronik-base"]),
    ("chronik-status", &["chronik-base"]),
    ("chronik-metrics", &[]),
    ("chronik-otlp", &["chronik-metrics"]),
    ("chronik-peer", &["chronik-base"]),
    ("chronik-raft", &["chronik-base", "chronik-meta"]),
    ("chronik-quorum", &["chronik-base", "chronik-meta", "chronik-raft"]),
    ("chronik-sim", &["chronik-base", "chronik-meta", "chronik-replica", "chronik-coordinator"]),
    (
        "chronik-broker",
        &[
            "chronik-base",
            "chronik-protocol",
            "chronik-records",
            "chronik-config",
            "chronik-log",
            "chronik-replica",
            "chronik-meta",
            "chronik-coordinator",
            "chronik-peer",
            "chronik-quorum",
            "chronik-status",
            "chronik-metrics",
        ],
    ),
    (
        "chronik-search",
        &["chronik-base", "chronik-config", "chronik-records", "chronik-http", "chronik-metrics"],
    ),
    ("chronik-http", &["chronik-base", "chronik-metrics", "chronik-status"]),
    (
        "chronik-node",
        &[
            "chronik-base",
            "chronik-protocol",
            "chronik-config",
            // For the lock of the data directory and the report of its recovery.
            "chronik-log",
            "chronik-broker",
            "chronik-http",
            "chronik-meta",
            "chronik-metrics",
            "chronik-otlp",
            "chronik-peer",
            "chronik-quorum",
            "chronik-search",
            "chronik-status",
        ],
    ),
    ("chronik-client", &["chronik-base", "chronik-protocol", "chronik-records"]),
    (
        "chronik-cli",
        &[
            "chronik-base",
            "chronik-config",
            "chronik-node",
            "chronik-client",
            "chronik-protocol",
            "chronik-log",
            "chronik-meta",
            // For the metadata of a voter that does not run.
            "chronik-raft",
            "chronik-records",
            "chronik-status",
        ],
    ),
    (
        "chronik-fuzz-targets",
        &["chronik-base", "chronik-protocol", "chronik-records", "chronik-log", "chronik-coordinator"],
    ),
    (
        "chronik-guard",
        &["chronik-base", "chronik-protocol", "chronik-records", "chronik-log", "chronik-replica"],
    ),
    ("chronik-charts", &[]),
    ("chronik-bench", &["chronik-base", "chronik-charts"]),
    ("chronik-harness", &["chronik-base"]),
    ("xtask", &["chronik-charts"]),
];

/// Crates whose code is a function of its input.
pub const PURE: &[&str] = &[
    "chronik-protocol",
    "chronik-records",
    "chronik-replica",
    "chronik-meta",
    "chronik-coordinator",
    "chronik-config",
    "chronik-status",
    "chronik-metrics",
];

/// What a pure crate must not be able to call.
const RUNTIMES: &[&str] = &["tokio", "mio", "hyper", "axum", "async-std", "smol"];

/// Crates that are slow to build, link what we do not ship, or bring a second TLS.
const BANNED: &[&str] = &["openssl-sys", "openssl-src", "aws-lc-sys", "aws-lc-rs", "deno_core", "native-tls"];

/// Of these, tantivy (search) brings about 55 that nothing else needs.
const CRATES_OF_A_BUILD: usize = 270;

pub fn arrows(metadata: &Metadata) -> Vec<String> {
    let mut offences = Vec::new();
    for package in metadata.members() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            offences.push(format!("{} is not in the table of xtask/src/tidy/dependencies.rs", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let ours = ARROWS.iter().any(|(name, _)| *name == dependency.name);
            // Tests may look further, except those of the tools, which must build without the broker.
            let of_tests = dependency.kind.as_deref() == Some("dev") && !is_tool(package);
            if ours && !of_tests && !allowed.contains(&dependency.name.as_str()) {
                offences.push(format!("{} depends on {}", package.name, dependency.name));
            }
        }
    }
    offences
}

fn is_tool(package: &Package) -> bool {
    matches!(package.name.as_str(), "chronik-bench" | "chronik-harness" | "xtask")
}

pub fn pure(metadata: &Metadata) -> Vec<String> {
    let mut offences = Vec::new();
    for name in PURE {
        for package in metadata.built_for(name) {
            if RUNTIMES.contains(&package.name.as_str()) {
                offences.push(format!("{name} builds {}", package.name));
            }
        }
    }
    offences
}

pub fn banned(metadata: &Metadata) -> Vec<String> {
    metadata
        .packages
        .iter()
        .filter(|package| BANNED.contains(&package.name.as_str()))
        .map(|package| format!("{} {}: see `cargo tree --invert {0}`", package.name, package.version))
        .collect()
}

pub fn licences(metadata: &Metadata) -> Vec<String> {
    metadata
        .packages
        .iter()
        .filter_map(|package| {
            let who = format!("{} {}", package.name, package.version);
            match (&package.license, &package.license_file) {
                (Some(expression), _) => match licence::allowed(expression) {
                    Ok(true) => None,
                    Ok(false) => Some(format!("{who}: {expression}")),
                    Err(error) => Some(format!("{who}: {expression}: {error}")),
                },
                (None, Some(file)) => Some(format!("{who}: only a file, {}", file.display())),
                (None, None) => Some(format!("{who}: no licence named")),
            }
        })
        .collect()
}

pub fn count(metadata: &Metadata) -> Vec<String> {
    let built = metadata.built_for("chronik-cli").len();
    match built {
        0 => vec!["chronik-cli is not in the workspace".to_owned()],
        n if n < CRATES_OF_A_BUILD => vec![],
        n => vec![format!("chronik-cli builds {n} crates; `cargo tree --package chronik-cli` shows them")],
    }
}
