//! Whatever is written into a file, a variable or a request: an answer, never a panic; and what is accepted is read back as it was.

use std::collections::BTreeMap;

use chronik_config::{
    NodeConfig, Settings, Sources, TopicConfig, changed, describe_node, describe_topic, settings,
    topic_settings, validate_dynamic, validate_topic,
};
use proptest::prelude::*;

/// Text that is often nearly right.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (any::<i32>(), prop::sample::select(vec!["", "ms", " MiB", "kb", "d", "h", "x", "min"]))
            .prop_map(|(number, unit)| format!("{number}{unit}")),
        prop::sample::select(vec![
            "true",
            "False",
            "disk",
            "compact,delete",
            "delete, delete",
            "zstd",
            "0.5",
            "1e400",
            "NaN"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

fn node_name() -> impl Strategy<Value = &'static str> {
    (0..settings().len()).prop_map(|at| settings()[at].name)
}

fn topic_name() -> impl Strategy<Value = &'static str> {
    (0..topic_settings().len()).prop_map(|at| topic_settings()[at].name)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_is_read_or_refused(file in "(\\PC|\n){0,80}", key in node_name(), value in text()) {
        for file in [file.clone(), format!("{key} = {value}\n{file}"), format!("{key} = \"{value}\"\n{file}")] {
            let sources = Sources { file: Some(("f".to_owned(), file)), ..Sources::default() };
            if let Err(errors) = Settings::load(&sources) {
                prop_assert!(errors.0.iter().all(|error| !error.to_string().is_empty()));
            }
        }
    }

    #[test]
    fn an_accepted_setting_has_one_form_that_is_accepted_again(name in node_name(), value in text()) {
        let Ok(loaded) = Settings::from_pairs(&[(name, &value)]) else { return Ok(()) };
        let Some(effective) = loaded.get(name) else { return Ok(()) };
        let canonical = effective.to_string();
        // The typed form is made of every accepted value.
        let config = NodeConfig::from_settings(&loaded);
        if !canonical.is_empty() {
            let again = Settings::from_pairs(&[(name, &canonical)]).unwrap();
            prop_assert_eq!(again.get(name), Some(effective));
            prop_assert_eq!(NodeConfig::from_settings(&again), config);
        }
        let described = describe_node(&loaded);
        prop_assert!(described.iter().any(|d| d.name == name && d.value.as_deref() == Some(&canonical)));
    }

    #[test]
    fn any_altered_setting_is_checked(name in topic_name(), value in text(), node in node_name()) {
        let settings = Settings::defaults();
        let overrides = BTreeMap::from([(name.to_owned(), value.clone())]);
        match validate_topic(&overrides, &settings) {
            Ok(()) => {
                let described = describe_topic(&overrides, &settings);
                let entry = described.iter().find(|d| d.name == name).unwrap();
                prop_assert_eq!(entry.source as i8, 1);
                // What is described can be set again, and means the same.
                let again = changed(&overrides, &[(name.to_owned(), entry.value.clone())]);
                prop_assert!(validate_topic(&again, &settings).is_ok());
                prop_assert_eq!(TopicConfig::resolve(&again, &settings), TopicConfig::resolve(&overrides, &settings));
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        let dynamic = BTreeMap::from([(node.to_owned(), value)]);
        if validate_dynamic(&dynamic).is_ok() {
            let altered = settings.with_dynamic(&dynamic, &BTreeMap::new());
            prop_assert_eq!(altered.layers(node).first().map(|layer| layer.source.to_string()), Some("altered for the cluster".to_owned()));
        }
    }
}
