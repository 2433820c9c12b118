//! The style guide as a test.

mod dependencies;
mod licence;
mod sources;

use crate::crate_graph::Metadata;
use crate::shell;
use anyhow::{Result, bail};

/// One rule and what breaks it.
struct Finding {
    rule: &'static str,
    offences: Vec<String>,
}

/// Runs every check; prints each rule and what breaks it.
pub fn run() -> Result<()> {
    let metadata = Metadata::load()?;
    let files = sources::Sources::load(&shell::root()?)?;
    let findings = [
        Finding {
            rule: "crates depend only on what the arrows allow",
            offences: dependencies::arrows(&metadata),
        },
        Finding {
            rule: "pure crates have no runtime among their dependencies",
            offences: dependencies::pure(&metadata),
        },
        Finding { rule: "no banned crate is in the tree", offences: dependencies::banned(&metadata) },
        Finding {
            rule: "every dependency has a licence on the list",
            offences: dependencies::licences(&metadata),
        },
        Finding {
            rule: "a build of chronik stays below 270 crates",
            offences: dependencies::count(&metadata),
        },
        Finding { rule: "pure crates do no I/O and read no clock", offences: files.impure() },
        Finding { rule: "protocol, log, broker and node do not panic on purpose", offences: files.panics() },
        Finding { rule: "hand-written files stay below 800 lines", offences: files.too_long() },
        Finding { rule: "every API file opens with the versions it serves", offences: files.api_headers() },
    ];
    let mut failed = 0;
    for finding in &findings {
        let ok = finding.offences.is_empty();
        println!("{} {}", if ok { "ok  " } else { "FAIL" }, finding.rule);
        for offence in &finding.offences {
            println!("       {offence}");
        }
        failed += usize::from(!ok);
    }
    println!("{} passed, {failed} failed", findings.len() - failed);
    if failed > 0 {
        bail!("{failed} of {} rules are broken; each is listed above", findings.len());
    }
    Ok(())
}
