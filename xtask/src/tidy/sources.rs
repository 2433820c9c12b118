//! Rules about source text.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const LINES: usize = 800;

/// Calls that only a shell around the pure crates may make.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "async fn",
    "async move",
];

/// Crates that read input, disk or network.
const NO_PANIC: &[&str] = &["protocol", "log", "broker", "node"];

const PANICS: &[&str] = &[".unwrap()", ".expect(", "todo!(", "unimplemented!("];

/// The pure crates; of meta everything except what keeps the image on disk.
const PURE: &[&str] = &["protocol", "records", "replica", "coordinator", "config", "meta"];
const PURE_EXCEPT: &[&str] =
    &["crates/meta/src/store", "crates/meta/src/writer.rs", "crates/meta/src/identity.rs"];

/// Every hand-written Rust file of the workspace.
pub struct Sources {
    files: Vec<File>,
}

struct File {
    /// Relative to the repository's top folder.
    path: String,
    text: String,
    /// Belongs to tests: below a tests/ folder or declared under `#[cfg(test)]`.
    of_tests: bool,
}

impl Sources {
    pub fn load(root: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for folder in ["crates", "xtask"] {
            collect(&root.join(folder), &mut paths)?;
        }
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let of_tests = relative.split('/').any(|part| matches!(part, "tests" | "benches" | "examples"));
            files.push(File { path: relative, text, of_tests });
        }
        let test_modules: Vec<PathBuf> = files.iter().flat_map(test_modules).collect();
        for file in &mut files {
            file.of_tests |= test_modules.iter().any(|module| Path::new(&file.path).starts_with(module));
        }
        Ok(Self { files })
    }

    pub fn impure(&self) -> Vec<String> {
        self.product_of(PURE)
            .filter(|file| !PURE_EXCEPT.iter().any(|path| file.path.starts_with(path)))
            .flat_map(|file| hits(file, IMPURE))
            .collect()
    }

    pub fn panics(&self) -> Vec<String> {
        self.product_of(NO_PANIC).flat_map(|file| hits(file, PANICS)).collect()
    }

    pub fn too_long(&self) -> Vec<String> {
        self.files
            .iter()
            .filter(|file| !is_generated(&file.text))
            .map(|file| (file, file.text.lines().count()))
            .filter(|(_, lines)| *lines > LINES)
            .map(|(file, lines)| format!("{}: {lines} lines", file.path))
            .collect()
    }

    pub fn api_headers(&self) -> Vec<String> {
        let api_files = self.files.iter().filter(|file| {
            file.path
                .strip_prefix("crates/broker/src/api/p")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                && !file.of_tests
        });
        api_files
            .filter(|file| {
                let header: Vec<&str> =
                    file.text.lines().take_while(|line| line.starts_with("//!")).collect();
                !header.iter().any(|line| line.to_ascii_lowercase().contains("version"))
            })
            .map(|file| format!("{}: its header comment (//!) does not name versions", file.path))
            .collect()
    }

    /// Files of these crates that are compiled into the product.
    fn product_of<'a>(&'a self, crates: &'static [&'static str]) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| {
            !file.of_tests && crates.iter().any(|name| file.path.starts_with(&format!("crates/{name}/src/")))
        })
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn is_generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.starts_with("//") && line.contains("enerated"))
}

/// Places (without extension) of the modules that a file declares as `#[cfg(test)] mod name;`.
fn test_modules(file: &File) -> Vec<PathBuf> {
    let path = Path::new(&file.path);
    let parent = path.parent().unwrap_or(Path::new(""));
    let home = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => parent.to_owned(),
        Some(stem) => parent.join(stem),
    };
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| is_test_attribute(pair[0]))
        .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'))
        .flat_map(|name| [home.join(format!("{name}.rs")), home.join(name)])
        .collect()
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(any(test")
}

/// Lines of a file, outside comments and inline test items, that contain one of the words.
fn hits(file: &File, words: &[&str]) -> Vec<String> {
    let mut hits = Vec::new();
    // Closing line of the test item that is being skipped; rustfmt puts it at the item's own indentation.
    let mut skip_until: Option<String> = None;
    let mut test_attribute = false;
    for (number, line) in file.text.lines().enumerate() {
        if let Some(end) = &skip_until {
            if line == end {
                skip_until = None;
            }
            continue;
        }
        let code = line.trim_start();
        if is_test_attribute(code) {
            test_attribute = true;
            continue;
        }
        if test_attribute && !code.starts_with("#[") {
            test_attribute = false;
            if code.ends_with('{') {
                skip_until = Some(format!("{}}}", &line[..line.len() - code.len()]));
            }
            continue;
        }
        if code.starts_with("//") {
            continue;
        }
        let code = code.split(" // ").next().unwrap_or(code);
        for word in words.iter().filter(|word| code.contains(**word)) {
            hits.push(format!("{}:{}: {word}", file.path, number + 1));
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "crates/log/src/segment.rs".to_owned(), text: text.to_owned(), of_tests: false }
    }

    #[test]
    fn tests_and_comments_may_unwrap_and_code_may_not() {
        let text = "fn a() {\n    b().unwrap();\n}\n// c().unwrap()\n#[cfg(test)]\nmod tests {\n    fn d() {\n        \
                    e().unwrap();\n    }\n}\nfn f() {\n    g().unwrap();\n}\n";
        assert_eq!(
            hits(&file(text), PANICS),
            ["crates/log/src/segment.rs:2: .unwrap()", "crates/log/src/segment.rs:12: .unwrap()"]
        );
    }

    #[test]
    fn a_module_declared_for_tests_is_found_beside_its_parent() {
        let modules = test_modules(&file("#[cfg(test)]\nmod recovery_tests;\n"));
        assert!(modules.contains(&PathBuf::from("crates/log/src/segment/recovery_tests.rs")), "{modules:?}");
    }
}
