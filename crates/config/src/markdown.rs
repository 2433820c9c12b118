//! The reference of all settings, as a page of the documentation.

use std::fmt::Write;

use crate::node;
use crate::setting::{Change, Group, Kind, Unit};
use crate::topic;

/// Topic settings by which the metadata quorum elects leaders: what it decides must not depend on which node does.
const DECIDED_BY_QUORUM: [&str; 2] = ["min.insync.replicas", "unclean.leader.election.enable"];

/// The page `docs/configuration.md`.
pub fn render_markdown() -> String {
    let mut page = String::from(HEAD);
    for group in Group::ALL {
        let _ = write!(page, "\n## {}\n\n", group.title());
        page.push_str("| setting | type and range | default | |\n|---|---|---|---|\n");
        for setting in node::settings().iter().filter(|setting| setting.group == group) {
            let mut doc = setting.doc.trim().to_owned();
            if let Some(topic) = setting.topic_setting {
                doc = format!("Default of the topic setting `{topic}`.");
                if DECIDED_BY_QUORUM.contains(&topic) {
                    doc.push_str(
                        " Elections go by the topic's own setting, or by the default that was altered for all nodes, not by one node's file.",
                    );
                }
            }
            if setting.change == Change::Running && setting.topic_setting.is_none() {
                doc.push_str(" Can be altered while the node runs.");
            }
            let default = setting.default.filter(|text| !text.is_empty());
            let default = default.map_or("none".to_owned(), |text| format!("`{text}`"));
            let _ = writeln!(
                page,
                "| `{}` | {} | {default} | {doc} |",
                setting.name,
                kind(setting.kind, setting.unit)
            );
        }
    }
    page.push_str(TOPICS);
    for setting in topic::topic_settings() {
        let defaults =
            setting.defaults.iter().map(|default| format!("`{}`", default.name)).collect::<Vec<_>>();
        let _ = writeln!(
            page,
            "| `{}` | {} | `{}` | {} | {} |",
            setting.name,
            kind(setting.kind, setting.unit),
            setting.fallback,
            defaults.join(", "),
            setting.doc.trim()
        );
    }
    page
}

fn kind(kind: Kind, unit: Unit) -> String {
    let name = match kind {
        Kind::Bool => return "true or false".to_owned(),
        Kind::Int { .. } | Kind::Long { .. } => "whole number",
        Kind::Double { .. } => "number",
        Kind::Text => return "text".to_owned(),
        Kind::Choice(words) => return format!("`{}`", words.join("`, `")),
        Kind::List([]) => return "list".to_owned(),
        Kind::List(words) => return format!("list of `{}`", words.join("`, `")),
    };
    let unit = match unit.to_string() {
        unit if unit.is_empty() => unit,
        unit => format!(" ({unit})"),
    };
    match kind.range() {
        Some(range) => format!("{name}{unit}, {range}"),
        None => format!("{name}{unit}"),
    }
}

const HEAD: &str = "# Configuration

This page is generated from the table of settings in `crates/config`; do not edit it.

Every setting has one name in three forms: `message.max.bytes` is the flag `--message-max-bytes`, the environment variable
`CHRONIK_MESSAGE_MAX_BYTES`, and the key `message.max.bytes` of the TOML file given with `--config` (or `CHRONIK_CONFIG`), with dots, in quotes, or
as nested tables. A flag wins over the environment, the environment over the file, the file over the default. `chronik config` shows the
value in force and where it came from. A name that does not exist is an error, never ignored.

Plain numbers count the unit of the table, as Kafka's do. Sizes may be written `64MiB` or `64MB`, times `500ms`, `5s`, `10min`, `2h` or `7d`.
";

const TOPICS: &str = "
## Topic settings

Set with `chronik topic create --config NAME=VALUE`, `chronik topic alter`, or any Kafka admin client. A topic that does not set one takes the
node's default, from the first of the settings named here that is set.

| setting | type and range | default | the node's default | |
|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_on_the_page_once() {
        let page = render_markdown();
        for setting in node::settings() {
            let row = format!("\n| `{}` |", setting.name);
            let group = page.matches(&row).count();
            let same_name = usize::from(topic::topic_setting(setting.name).is_some());
            assert_eq!(group, 1 + same_name, "{}", setting.name);
        }
        assert!(page.lines().all(|line| !line.ends_with(' ')));
    }
}
