//! What can be wrong with a setting.

use crate::node;
use crate::setting::{Setting, VARIABLE_PREFIX};
use crate::settings::Source;
use crate::suggest::{nearest, nearest_within};
use crate::topic;
use crate::value::Value;

/// What is wrong with one setting, in one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Everything that is wrong with the settings, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigErrors(pub Vec<ConfigError>);

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(|error| error.0.as_str()).collect::<Vec<_>>().join("\n")
}

fn suggestion(name: Option<String>) -> String {
    name.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

impl ConfigError {
    /// Kafka's wording of an unusable value of a topic's or node's setting that came over the protocol.
    pub(crate) fn topic(name: &str, text: &str, problem: &str) -> Self {
        Self(format!("Invalid value {text} for configuration {name}: {problem}"))
    }

    pub(crate) fn conflict(message: String) -> Self {
        Self(message)
    }

    pub(crate) fn unknown_topic_setting(name: &str) -> Self {
        let near = nearest(name, topic::topic_settings().iter().map(|setting| setting.name));
        Self(format!("Unknown topic config name: {name}{}", suggestion(near.map(str::to_owned))))
    }

    pub(crate) fn unknown_key(name: &str, source: &Source) -> Self {
        let near = nearest(name, node::settings().iter().map(|setting| setting.name));
        let hint = match (near, topic::topic_setting(name)) {
            (_, Some(setting)) => match setting.defaults.first() {
                Some(default) => {
                    format!(" ({name} is a topic's setting; the node's default of it is {})", default.name)
                }
                None => format!(" ({name} is a topic's setting)"),
            },
            (near, None) => suggestion(near.map(str::to_owned)),
        };
        Self(format!("{source}: there is no setting {name}{hint}"))
    }

    pub(crate) fn unknown_flag(flag: &str) -> Self {
        let flags: Vec<String> = node::settings().iter().map(Setting::flag).collect();
        let near = nearest(flag, flags.iter().map(String::as_str));
        Self(format!("there is no flag --{flag}{}", suggestion(near.map(|near| format!("--{near}")))))
    }

    /// For a variable that is no setting's; `None` if none is near enough to be meant.
    pub(crate) fn misspelt_variable(variable: &str) -> Option<Self> {
        let name = variable.strip_prefix(VARIABLE_PREFIX)?;
        let variables: Vec<String> = node::settings().iter().map(Setting::variable).collect();
        let names = variables.iter().filter_map(|known| known.strip_prefix(VARIABLE_PREFIX));
        let near = nearest_within(name.len().div_ceil(4), name, names)?;
        Some(Self(format!(
            "the environment variable {variable} is not a setting (did you mean {VARIABLE_PREFIX}{near}?)"
        )))
    }

    pub(crate) fn bad_value(setting: &Setting, text: &str, source: &Source, problem: &str) -> Self {
        let unit = match setting.unit.to_string() {
            unit if unit.is_empty() => unit,
            unit => format!(" {unit}"),
        };
        let range = setting.kind.range().map(|range| format!("; allowed: {range}{unit}")).unwrap_or_default();
        Self(format!("{} = {text:?} ({source}): {}{range}", setting.name, lower_first(problem)))
    }

    pub(crate) fn wrong_toml_type(setting: &Setting, found: &str, source: &Source) -> Self {
        let name = setting.name;
        Self(format!(
            "{name} ({source}): a {found} cannot be the value of this setting of type {}",
            setting.kind.kafka_name()
        ))
    }

    pub(crate) fn said_twice(name: &str, source: &Source, line: usize) -> Self {
        Self(format!("{name} ({source}): it is set in line {line} already"))
    }

    pub(crate) fn file_syntax(path: &str, line: usize, problem: &str) -> Self {
        Self(format!("{path}:{line}: not valid TOML: {problem}"))
    }

    pub(crate) fn at_odds(low: (&str, &Value), high: (&str, &Value)) -> Self {
        Self(format!(
            "{} = {} is above {} = {}: lower the first or raise the second",
            low.0, low.1, high.0, high.1
        ))
    }

    pub(crate) fn too_few_beats(beat: (&str, &Value), limit: (&str, &Value)) -> Self {
        Self(format!(
            "{} = {} is more than a third of {} = {}: lower the first or raise the second",
            beat.0, beat.1, limit.0, limit.1
        ))
    }

    pub(crate) fn not_dynamic(name: &str) -> Self {
        Self(format!(
            "Cannot update these configs dynamically: Set({name}). Set it in the configuration file and restart the node."
        ))
    }

    pub(crate) fn unknown_node_setting(name: &str) -> Self {
        let near = nearest(name, node::settings().iter().map(|setting| setting.name));
        Self(format!("Unknown broker config name: {name}{}", suggestion(near.map(str::to_owned))))
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
