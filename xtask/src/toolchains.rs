//! The tool chains that tests need, checked before anything is built.

use crate::shell::is_installed;

/// A tool chain, the programs that stand for it, and where it comes from.
struct Toolchain {
    name: &'static str,
    programs: &'static [&'static str],
    comes_with: &'static str,
}

/// What building the workspace takes.
const BUILD: &[Toolchain] = &[
    Toolchain { name: "a C compiler", programs: &["cc"], comes_with: "the package gcc or clang" },
    Toolchain {
        name: "make",
        programs: &["make"],
        comes_with: "the package make (librdkafka is built with it)",
    },
];

/// What client suites take; the name is the one that `--without` knows.
const CLIENTS: &[Toolchain] = &[
    Toolchain { name: "python", programs: &["python3"], comes_with: "Python 3" },
    Toolchain {
        name: "java",
        programs: &["java", "javac", "mvn"],
        comes_with: "a JDK 17 or later and Maven",
    },
    Toolchain { name: "node", programs: &["node", "npm"], comes_with: "Node.js 20 or later" },
    Toolchain { name: "go", programs: &["go"], comes_with: "Go 1.24 or later" },
];

/// One line for each missing program of the build.
pub fn missing_for_build() -> Vec<String> {
    BUILD.iter().filter_map(missing).collect()
}

/// What a client suite's tool chain lacks, if anything; the suite's name starts with the tool chain's.
pub fn missing_for_suite(suite: &str) -> Option<String> {
    let toolchain = CLIENTS.iter().find(|toolchain| toolchain.name == language(suite))?;
    missing(toolchain).map(|line| format!("{line}; or leave it out with --without {}", toolchain.name))
}

/// `python-confluent` is a suite of `python`.
pub fn language(suite: &str) -> &str {
    suite.split('-').next().unwrap_or(suite)
}

fn missing(toolchain: &Toolchain) -> Option<String> {
    let programs: Vec<&str> =
        toolchain.programs.iter().filter(|program| !is_installed(program)).copied().collect();
    if programs.is_empty() {
        return None;
    }
    Some(format!("{} is missing ({}): install {}", toolchain.name, programs.join(", "), toolchain.comes_with))
}
