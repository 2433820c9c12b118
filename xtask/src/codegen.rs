//! Makes the message structs of crates/protocol out of its schema tables.

mod emit;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// Writes the generated files; with `check` it only compares and fails if one differs.
pub fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let protocol = root.join("crates/protocol");
    let tables = protocol.join("schemas");
    let names = read_names(&tables.join("names.table"))?;
    let mut schemas = Vec::new();
    for path in sorted(&tables, "schema")? {
        let module = path.file_stem().and_then(|stem| stem.to_str()).context("a table's name is text")?;
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        schemas.push(schema::parse(module, &text).map_err(anyhow::Error::msg)?);
    }
    let fields = |schema: &schema::Schema| -> Vec<String> {
        schema.blocks.iter().flat_map(|block| &block.body.fields).map(|field| field.name.clone()).collect()
    };
    let used: BTreeSet<String> = schemas.iter().flat_map(fields).collect();
    let unused: Vec<&String> = names.keys().filter(|name| !used.contains(*name)).collect();
    ensure!(unused.is_empty(), "names.table explains what no table has: {unused:?}");
    let target = protocol.join("src/messages");
    let mut files = BTreeMap::new();
    for schema in &schemas {
        let text = emit::module(schema, &names).map_err(anyhow::Error::msg)?;
        files.insert(target.join(format!("{}.rs", schema.module)), text);
    }
    files.insert(protocol.join("src/messages.rs"), emit::index(&schemas));
    let mut stale = Vec::new();
    for (path, text) in &files {
        let text = format_rust(text, root).with_context(|| path.display().to_string())?;
        if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
            continue;
        }
        stale.push(path.clone());
        if !check {
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
        }
    }
    for path in sorted(&target, "rs")? {
        if !files.contains_key(&path) {
            if !check {
                std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
            stale.push(path);
        }
    }
    if check && !stale.is_empty() {
        bail!("not what the schema tables say: {stale:?}; run `cargo xtask codegen`");
    }
    Ok(())
}

/// What each field name means, where a table does not say it: lines of `name | meaning`.
fn read_names(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut names = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, meaning) =
            line.split_once('|').with_context(|| format!("{}: no `|` in {line:?}", path.display()))?;
        let old = names.insert(name.trim().to_owned(), meaning.trim().to_owned());
        ensure!(old.is_none(), "{}: {} is there twice", path.display(), name.trim());
    }
    Ok(names)
}

fn sorted(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn format_rust(text: &str, root: &Path) -> anyhow::Result<String> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("rustfmt is needed: `rustup component add rustfmt`")?;
    let mut input = rustfmt.stdin.take().context("rustfmt has an input")?;
    let bytes = text.as_bytes().to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&bytes));
    let output = rustfmt.wait_with_output()?;
    feeder.join().map_err(|_| anyhow::anyhow!("the thread that feeds rustfmt panicked"))??;
    ensure!(output.status.success(), "rustfmt refused the generated code:\n{text}");
    Ok(String::from_utf8(output.stdout)?)
}
