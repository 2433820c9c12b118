//! What DescribeConfigs answers about topics and nodes: every setting with its value, its source, and its synonyms (KIP-226, KIP-569).

use std::collections::BTreeMap;

use crate::node;
use crate::setting::{Change, Setting};
use crate::settings::{Settings, Source};
use crate::topic::{TopicSetting, topic_settings};

/// Where a configured value comes from, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// The topic sets it.
    DynamicTopic = 1,
    /// Altered over the protocol for one node.
    DynamicBroker = 2,
    /// Altered over the protocol for all nodes.
    DynamicDefaultBroker = 3,
    /// The node's flags, environment or file.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

impl From<&Source> for ConfigSource {
    fn from(source: &Source) -> Self {
        match source {
            Source::DynamicNode => ConfigSource::DynamicBroker,
            Source::DynamicCluster => ConfigSource::DynamicDefaultBroker,
            Source::Flag | Source::Environment | Source::File { .. } => ConfigSource::StaticBroker,
            Source::Default => ConfigSource::Default,
        }
    }
}

/// One setting in an answer to DescribeConfigs.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// Its value; `None` if it is absent.
    pub value: Option<String>,
    /// True if it cannot be altered over the protocol.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// The values that were set, the effective one first.
    pub synonyms: Vec<Synonym>,
    /// The number of its type: see [`Kind::describe_configs_type`](crate::Kind::describe_configs_type).
    pub config_type: i8,
    /// What it does.
    pub documentation: &'static str,
}

/// A value that was set for a setting, or for one that is its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Synonym {
    /// The name of the setting.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// Every setting of a topic that sets `overrides`, on a node with `settings`.
pub fn describe_topic(overrides: &BTreeMap<String, String>, settings: &Settings) -> Vec<Described> {
    topic_settings().iter().map(|setting| describe_topic_setting(setting, overrides, settings)).collect()
}

fn describe_topic_setting(
    setting: &TopicSetting,
    overrides: &BTreeMap<String, String>,
    settings: &Settings,
) -> Described {
    let mut synonyms: Vec<Synonym> = Vec::new();
    let own =
        overrides.get(setting.name).and_then(|text| setting.parse(text).ok()).map(|value| value.to_string());
    if let Some(value) = &own {
        synonyms.push(Synonym {
            name: setting.name,
            value: value.clone(),
            source: ConfigSource::DynamicTopic,
        });
    }
    for default in setting.defaults {
        for layer in settings.layers(default.name) {
            let source = ConfigSource::from(&layer.source);
            synonyms.push(Synonym { name: default.name, value: layer.value.to_string(), source });
        }
    }
    Described {
        name: setting.name,
        value: Some(own.unwrap_or_else(|| setting.default_value(settings).to_string())),
        read_only: false,
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        synonyms,
        config_type: setting.kind.describe_configs_type(),
        documentation: setting.doc.trim_start(),
    }
}

/// Every setting of the node with `settings`.
pub fn describe_node(settings: &Settings) -> Vec<Described> {
    node::settings().iter().map(|setting| describe_node_setting(setting, settings)).collect()
}

/// The settings that were altered for all nodes, `cluster` being those: what a broker resource without a name has.
pub fn describe_cluster_defaults(cluster: &BTreeMap<String, String>) -> Vec<Described> {
    let settings = Settings::defaults().with_dynamic(cluster, &BTreeMap::new());
    node::settings()
        .iter()
        .filter(|setting| cluster.contains_key(setting.name))
        .map(|setting| describe_node_setting(setting, &settings))
        .collect()
}

fn describe_node_setting(setting: &Setting, settings: &Settings) -> Described {
    let synonyms: Vec<Synonym> = settings
        .layers(setting.name)
        .iter()
        .map(|layer| Synonym {
            name: setting.name,
            value: layer.value.to_string(),
            source: ConfigSource::from(&layer.source),
        })
        .collect();
    Described {
        name: setting.name,
        value: settings.get(setting.name).map(ToString::to_string),
        read_only: setting.change == Change::AtStart,
        source: ConfigSource::from(settings.source(setting.name)),
        synonyms,
        config_type: setting.kind.describe_configs_type(),
        documentation: setting.doc.trim_start(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topics_setting_has_its_nodes_as_synonyms() {
        let settings = Settings::from_pairs(&[("log.retention.minutes", "5")]).unwrap();
        let overrides = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        let described = describe_topic(&overrides, &settings);
        let find = |name| described.iter().find(|entry| entry.name == name).unwrap();
        let policy = find("cleanup.policy");
        assert_eq!((policy.value.as_deref(), policy.source), (Some("compact"), ConfigSource::DynamicTopic));
        assert_eq!(policy.synonyms.len(), 2);
        let retention = find("retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.source),
            (Some("300000"), ConfigSource::StaticBroker)
        );
        let synonyms: Vec<_> =
            retention.synonyms.iter().map(|s| (s.name, s.value.as_str(), s.source as i8)).collect();
        assert_eq!(synonyms, [("log.retention.minutes", "5", 4), ("log.retention.hours", "168", 5)]);
        assert_eq!(find("segment.bytes").source, ConfigSource::Default);
    }

    #[test]
    fn a_node_says_what_cannot_be_altered() {
        let described = describe_node(&Settings::defaults());
        let find = |name| described.iter().find(|entry| entry.name == name).unwrap();
        assert!(find("listen").read_only);
        assert!(!find("log.retention.ms").read_only);
        assert_eq!(find("log.retention.ms").value, None);
        let cluster = BTreeMap::from([("num.partitions".to_owned(), "3".to_owned())]);
        assert_eq!(describe_cluster_defaults(&cluster).len(), 1);
    }
}
