//! IncrementalAlterConfigs (KIP-339): SET, DELETE, APPEND and SUBTRACT as a list of changes.

use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::node;
use crate::setting::Kind;
use crate::settings::Settings;
use crate::topic::topic_setting;

/// What is to be done with one setting, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum AlterOp {
    /// Set the value.
    Set = 0,
    /// Go back to the default.
    Delete = 1,
    /// Add the values to a list.
    Append = 2,
    /// Take the values off a list.
    Subtract = 3,
}

impl AlterOp {
    /// The operation that a number on the wire stands for.
    pub fn from_code(code: i8) -> Option<Self> {
        [AlterOp::Set, AlterOp::Delete, AlterOp::Append, AlterOp::Subtract]
            .into_iter()
            .find(|op| *op as i8 == code)
    }
}

/// What kind of resource is altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A topic's settings.
    Topic,
    /// A node's settings.
    Node,
}

/// One change: `Some` sets the value, `None` removes it.
pub type Change = (String, Option<String>);

/// What `op` with `value` on setting `name` comes to, where `current` is what is set now. Whether the result fits the
/// setting is for [`validate_topic`](crate::validate_topic) and [`validate_dynamic`](crate::validate_dynamic) to say.
pub fn alter(
    scope: Scope,
    name: &str,
    op: AlterOp,
    value: Option<&str>,
    current: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Change, ConfigError> {
    let (kind, default) = match scope {
        Scope::Topic => {
            let setting = topic_setting(name).ok_or_else(|| ConfigError::unknown_topic_setting(name))?;
            (setting.kind, setting.default_value(settings).to_string())
        }
        Scope::Node => {
            let setting = node::setting(name).ok_or_else(|| ConfigError::unknown_node_setting(name))?;
            (setting.kind, settings.get(name).map(ToString::to_string).unwrap_or_default())
        }
    };
    if op == AlterOp::Delete {
        return Ok((name.to_owned(), None));
    }
    let value = value.ok_or_else(|| {
        ConfigError::conflict(format!("Null value not supported for {op:?} operation: {name}"))
    })?;
    if op == AlterOp::Set {
        return Ok((name.to_owned(), Some(value.to_owned())));
    }
    if !matches!(kind, Kind::List(_)) {
        return Err(ConfigError::conflict(format!(
            "Can't {} to key {name} because its type is not LIST.",
            if op == AlterOp::Append { "APPEND" } else { "SUBTRACT" }
        )));
    }
    let mut parts = split(current.get(name).unwrap_or(&default));
    let given = split(value);
    if op == AlterOp::Append {
        for part in given {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    } else {
        parts.retain(|part| !given.contains(part));
    }
    Ok((name.to_owned(), Some(parts.join(","))))
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// `current` after `changes`.
pub fn changed(current: &BTreeMap<String, String>, changes: &[Change]) -> BTreeMap<String, String> {
    let mut result = current.clone();
    for (name, value) in changes {
        match value {
            Some(value) => result.insert(name.clone(), value.clone()),
            None => result.remove(name),
        };
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_shrink_from_what_is_in_force() {
        let settings = Settings::defaults();
        let none = BTreeMap::new();
        let policy = |op, value, current: &BTreeMap<String, String>| {
            alter(Scope::Topic, "cleanup.policy", op, Some(value), current, &settings).unwrap().1.unwrap()
        };
        assert_eq!(policy(AlterOp::Append, "compact", &none), "delete,compact");
        assert_eq!(policy(AlterOp::Append, "delete", &none), "delete");
        let both = BTreeMap::from([("cleanup.policy".to_owned(), "compact,delete".to_owned())]);
        assert_eq!(policy(AlterOp::Subtract, "delete", &both), "compact");
    }

    #[test]
    fn only_lists_do() {
        let error = alter(
            Scope::Topic,
            "retention.ms",
            AlterOp::Append,
            Some("1"),
            &BTreeMap::new(),
            &Settings::defaults(),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "Can't APPEND to key retention.ms because its type is not LIST."
        );
    }

    #[test]
    fn delete_goes_back_to_the_default() {
        let change = alter(
            Scope::Topic,
            "retention.ms",
            AlterOp::Delete,
            None,
            &BTreeMap::new(),
            &Settings::defaults(),
        )
        .unwrap();
        let current = BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]);
        assert!(changed(&current, &[change]).is_empty());
    }
}
