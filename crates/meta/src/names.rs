//! Names of topics: what Kafka allows, and what it keeps apart.

/// The longest name of a topic, in characters.
pub const MAX_TOPIC_NAME: usize = 249;

/// What is wrong with a topic's name, in Kafka's words. `None` if nothing is.
pub fn topic_name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Some("Topic name is invalid: '.' or '..' is not allowed".to_owned());
    }
    if name.len() > MAX_TOPIC_NAME {
        return Some(format!(
            "Topic name is invalid: the length of '{}' is longer than the max allowed length {MAX_TOPIC_NAME}",
            name.chars().take(MAX_TOPIC_NAME).collect::<String>()
        ));
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Some(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    None
}

/// What names that differ only in `.` and `_` have in common; `None` for a name with neither.
pub(crate) fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_names() {
        for good in ["a", "A-Z_0.9", "...", &"x".repeat(249), "__consumer_offsets"] {
            assert_eq!(topic_name_problem(good), None, "{good}");
        }
        for bad in ["", ".", "..", &"x".repeat(250), "a b", "ä", "a/b", "a:b"] {
            assert!(topic_name_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn dots_and_underscores_are_alike() {
        assert_eq!(collision_key("a.b"), collision_key("a_b"));
        assert_eq!(collision_key("ab"), None);
    }
}
