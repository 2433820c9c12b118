//! The table of topic settings: Kafka's names, and for each the settings of the node that hold its default.

use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::search_schema::SearchSchema;
use crate::setting::{Change, Group, Kind, Setting, Unit};
use crate::settings::Settings;
use crate::value::{self, CleanupPolicy, CompressionType, FromValue, Style, TimestampType, Value};

/// One setting of a topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What a plain number counts.
    pub unit: Unit,
    /// Settings of the node that hold its default, in order of precedence. The last one has a default of its own.
    pub defaults: &'static [NodeDefault],
    /// The default where no setting of the node has one.
    pub fallback: &'static str,
    /// True if the setting is accepted because clients set it, and changes nothing here; `doc` says why.
    pub inert: bool,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

/// A setting of the node that is the default of a topic setting.
#[derive(Clone, Copy, Debug)]
pub struct NodeDefault {
    /// Its name.
    pub name: &'static str,
    /// What its plain number counts; where this is not the topic setting's unit, the value is converted.
    pub unit: Unit,
    /// Its default, as text.
    pub default: Option<&'static str>,
}

macro_rules! topic_settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $name:literal, $kind:expr, $unit:ident, $fallback:literal,
        [$($default_name:literal $default_unit:ident $default:expr),*] $(, $inert:ident)?;)*) => {
        /// The settings of one topic as plain fields: the topic's own where it has them, else the node's.
        #[derive(Clone, Debug, PartialEq)]
        pub struct TopicConfig {
            $($(#[doc = $doc])+ #[doc = concat!("\n\nSetting `", $name, "`.")] pub $field: $ty,)*
        }

        static TOPIC_SETTINGS: &[TopicSetting] = &[
            $(TopicSetting {
                name: $name,
                kind: $kind,
                unit: Unit::$unit,
                defaults: &[$(NodeDefault { name: $default_name, unit: Unit::$default_unit, default: $default }),*],
                fallback: $fallback,
                inert: topic_settings!(@inert $($inert)?),
                doc: concat!($($doc),+),
            }),*
        ];

        impl TopicConfig {
            fn from_lookup(mut get: impl FnMut(&'static str) -> Value) -> Self {
                Self {
                    $($field: <$ty as FromValue>::from_value(Some(&get($name))).unwrap_or_default(),)*
                }
            }
        }

        #[cfg(test)]
        fn fits(mut get: impl FnMut(&'static str) -> Value) -> Vec<(&'static str, bool)> {
            vec![$(($name, <$ty as FromValue>::from_value(Some(&get($name))).is_some())),*]
        }
    };
    (@inert inert) => { true };
    (@inert) => { false };
}

topic_settings! {
    /// What happens to old records: `delete` removes segments past the retention limits, `compact` keeps the last record of each
    /// key, both do both. With neither, everything is kept.
    cleanup_policy: CleanupPolicy = "cleanup.policy", Kind::List(&["compact", "delete"]), None, "delete",
        ["log.cleanup.policy" None Some("delete")];
    /// Level of gzip where the broker compresses; -1 is the default one.
    compression_gzip_level: i32 = "compression.gzip.level", Kind::Int { min: -1, max: 9 }, None, "-1",
        ["compression.gzip.level" None Some("-1")];
    /// Accepted and without effect: the broker's LZ4 has one level.
    compression_lz4_level: i32 = "compression.lz4.level", Kind::Int { min: 1, max: 17 }, None, "9",
        [], inert;
    /// How records are stored: `producer` keeps what the producer sent, anything else recompresses what differs.
    compression_type: CompressionType = "compression.type", Kind::Choice(CompressionType::WORDS), None, "producer",
        ["compression.type" None Some("producer")];
    /// Level of Zstandard where the broker compresses.
    compression_zstd_level: i32 = "compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, None, "3",
        ["compression.zstd.level" None Some("3")];
    /// How long a tombstone stays in a compacted topic after its key was cleaned, so that consumers can see it.
    delete_retention_ms: i64 = "delete.retention.ms", Kind::long_from(0), Millis, "1d",
        ["log.cleaner.delete.retention.ms" Millis Some("1d")];
    /// Accepted and without effect: files of deleted segments go when the last reader lets go of them.
    file_delete_delay_ms: i64 = "file.delete.delay.ms", Kind::long_from(0), Millis, "60000",
        [], inert;
    /// Accepted and without effect: `acks=all` is answered after a flush (`flush=disk`), whatever their number.
    flush_messages: i64 = "flush.messages", Kind::long_from(1), None, "9223372036854775807",
        [], inert;
    /// Accepted and without effect: the node's `flush.ms` says when records that nobody waits for are flushed.
    flush_ms: i64 = "flush.ms", Kind::long_from(0), Millis, "9223372036854775807",
        [], inert;
    /// Accepted and without effect, for Kafka's tools: the throttle holds for every replica that catches up.
    follower_replication_throttled_replicas: String = "follower.replication.throttled.replicas", Kind::Text, None, "",
        [], inert;
    /// A new entry of the offset index every so many bytes.
    index_interval_bytes: i32 = "index.interval.bytes", Kind::int_from(0), Bytes, "4096",
        ["log.index.interval.bytes" Bytes Some("4096")];
    /// Accepted and without effect, for Kafka's tools: the throttle holds for every replica that catches up.
    leader_replication_throttled_replicas: String = "leader.replication.throttled.replicas", Kind::Text, None, "",
        [], inert;
    /// A record stays uncompacted no longer than this.
    max_compaction_lag_ms: i64 = "max.compaction.lag.ms", Kind::long_from(1), Millis, "9223372036854775807",
        ["log.cleaner.max.compaction.lag.ms" Millis Some("9223372036854775807")];
    /// The largest batch of records, as the producer sent it.
    max_message_bytes: i32 = "max.message.bytes", Kind::int_from(0), Bytes, "1048588",
        ["message.max.bytes" Bytes Some("1048588")];
    /// How far ahead of the broker's clock a record's timestamp may be.
    message_timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms", Kind::long_from(0), Millis, "1h",
        ["log.message.timestamp.after.max.ms" Millis Some("1h")];
    /// How far behind the broker's clock a record's timestamp may be.
    message_timestamp_before_max_ms: i64 = "message.timestamp.before.max.ms", Kind::long_from(0), Millis, "9223372036854775807",
        ["log.message.timestamp.before.max.ms" Millis Some("9223372036854775807")];
    /// Whose clock stamps a record: the producer's, or the broker's when it appends.
    message_timestamp_type: TimestampType = "message.timestamp.type", Kind::Choice(TimestampType::WORDS), None, "CreateTime",
        ["log.message.timestamp.type" None Some("CreateTime")];
    /// A compacted topic is cleaned when this part of its log was not cleaned yet.
    min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio", Kind::Double { min: 0.0, max: 1.0 }, None, "0.5",
        ["log.cleaner.min.cleanable.ratio" None Some("0.5")];
    /// A record stays uncompacted at least this long.
    min_compaction_lag_ms: i64 = "min.compaction.lag.ms", Kind::long_from(0), Millis, "0",
        ["log.cleaner.min.compaction.lag.ms" Millis Some("0")];
    /// `acks=all` is refused while fewer replicas than this are in sync.
    min_insync_replicas: i32 = "min.insync.replicas", Kind::int_from(1), None, "1",
        ["min.insync.replicas" None Some("1")];
    /// Accepted and without effect: segments are not allocated in advance.
    preallocate: bool = "preallocate", Kind::Bool, None, "false",
        [], inert;
    /// Tiered storage is not there yet: only `false` is accepted.
    remote_storage_enable: bool = "remote.storage.enable", Kind::Bool, None, "false", [];
    /// The oldest segments of a partition are deleted when it is larger than this; negative is without limit.
    retention_bytes: i64 = "retention.bytes", Kind::long_from(i64::MIN), Bytes, "-1",
        ["log.retention.bytes" Bytes Some("-1")];
    /// Segments are deleted when their newest record is older than this; -1 keeps them.
    retention_ms: i64 = "retention.ms", Kind::long_from(-1), Millis, "7d",
        ["log.retention.ms" Millis None, "log.retention.minutes" Minutes None, "log.retention.hours" Hours Some("168")];
    /// Make the topic's records searchable. Those that are there already are indexed first.
    search_enabled: bool = "search.enabled", Kind::Bool, None, "false", [];
    /// How fields of JSON values are indexed: `NAME:TYPE,…` with the types `auto`, `keyword`, `text`, `long`, `double`, `boolean`,
    /// `date` and `none`; the name `*` stands for all that are not named. Without it, by what the values are. A change builds the index anew.
    search_schema: String = "search.schema", Kind::Text, None, "", [];
    /// A segment is left for the next one at this size.
    segment_bytes: i32 = "segment.bytes", Kind::int_from(1024), Bytes, "1GiB",
        ["log.segment.bytes" Bytes Some("1GiB")];
    /// Accepted and without effect: indexes grow with their segment.
    segment_index_bytes: i32 = "segment.index.bytes", Kind::int_from(4), Bytes, "10MiB",
        [], inert;
    /// Up to so much is taken from `segment.ms`, drawn at random for each topic, so that they do not all roll at once.
    segment_jitter_ms: i64 = "segment.jitter.ms", Kind::long_from(0), Millis, "0",
        ["log.roll.jitter.ms" Millis None, "log.roll.jitter.hours" Hours Some("0")];
    /// A segment is left for the next one when its first record is older than this.
    segment_ms: i64 = "segment.ms", Kind::long_from(1), Millis, "7d",
        ["log.roll.ms" Millis None, "log.roll.hours" Hours Some("168")];
    /// Make a replica leader that is not in sync when no other is left: the partition goes on, and acknowledged records are lost.
    unclean_leader_election_enable: bool = "unclean.leader.election.enable", Kind::Bool, None, "false",
        ["unclean.leader.election.enable" None Some("false")];
}

/// Every topic setting, ordered by name.
pub fn topic_settings() -> &'static [TopicSetting] {
    TOPIC_SETTINGS
}

/// The topic setting of that name.
pub fn topic_setting(name: &str) -> Option<&'static TopicSetting> {
    TOPIC_SETTINGS.iter().find(|setting| setting.name == name)
}

/// The settings of the node that the topic settings make.
pub(crate) fn node_defaults() -> impl Iterator<Item = Setting> {
    TOPIC_SETTINGS.iter().flat_map(|topic| {
        topic.defaults.iter().map(|default| Setting {
            name: default.name,
            kind: if default.unit == topic.unit { topic.kind } else { whole_units(topic.kind) },
            unit: default.unit,
            default: default.default,
            change: Change::Running,
            group: Group::TopicDefaults,
            doc: topic.doc,
            topic_setting: Some(topic.name),
        })
    })
}

/// The kind of a setting in minutes or hours: Kafka's INT, with a lower bound of the same sense.
fn whole_units(kind: Kind) -> Kind {
    match kind {
        Kind::Long { min, .. } => Kind::int_from(min.max(i64::from(i32::MIN))),
        other => other,
    }
}

impl TopicSetting {
    /// Reads a value as Kafka's protocol carries it. The error is Kafka's wording.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        value::parse(self.kind, self.unit, text, Style::Kafka)
            .map_err(|problem| ConfigError::topic(self.name, text, &problem))
    }

    /// Reads a value as people write it (`7d`, `64MiB`) and gives it back in Kafka's form.
    pub fn normalize(&self, text: &str) -> Result<String, ConfigError> {
        value::parse(self.kind, self.unit, text, Style::Human)
            .map(|value| value.to_string())
            .map_err(|problem| ConfigError::topic(self.name, text, &problem))
    }

    /// The value for topics that do not set it.
    pub fn default_value(&self, settings: &Settings) -> Value {
        let from_node = self.defaults.iter().find_map(|default| {
            settings.get(default.name).map(|value| convert(value, default.unit, self.unit))
        });
        from_node.or_else(|| self.fallback_value()).unwrap_or(Value::Text(String::new()))
    }

    fn fallback_value(&self) -> Option<Value> {
        value::parse(self.kind, self.unit, self.fallback, Style::Human).ok()
    }
}

/// A number of units of time as a number of others; negative ones (`no limit`) stay as they are.
pub(crate) fn convert(value: &Value, from: Unit, to: Unit) -> Value {
    match (value, from.millis(), to.millis()) {
        (Value::Int(number), Some(from), Some(to)) if *number >= 0 => {
            Value::Int(number.saturating_mul(from) / to)
        }
        _ => value.clone(),
    }
}

impl TopicConfig {
    /// The configuration of a topic that sets `overrides` on a node with `settings`. An override that cannot be read counts
    /// as not set: they were checked when they were set, so only a change of the table can make one unreadable.
    pub fn resolve(overrides: &BTreeMap<String, String>, settings: &Settings) -> Self {
        Self::from_lookup(|name| lookup(name, overrides, settings))
    }
}

fn lookup(name: &'static str, overrides: &BTreeMap<String, String>, settings: &Settings) -> Value {
    let Some(setting) = topic_setting(name) else { return Value::Text(String::new()) };
    overrides
        .get(name)
        .and_then(|text| setting.parse(text).ok())
        .unwrap_or_else(|| setting.default_value(settings))
}

/// Checks what a topic is to be created with, or altered to: every name known, every value in its range, and no two values at odds
/// with each other, as Kafka's own check does it. The error is what `INVALID_CONFIG` says.
pub fn validate_topic(overrides: &BTreeMap<String, String>, settings: &Settings) -> Result<(), ConfigError> {
    for (name, text) in overrides {
        let setting = topic_setting(name).ok_or_else(|| ConfigError::unknown_topic_setting(name))?;
        setting.parse(text)?;
    }
    let config = TopicConfig::resolve(overrides, settings);
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(ConfigError::conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            config.min_compaction_lag_ms, config.max_compaction_lag_ms
        )));
    }
    if config.compression_gzip_level == 0 {
        return Err(ConfigError::topic(
            "compression.gzip.level",
            "0",
            "Value must be between 1 and 9 or equal to -1",
        ));
    }
    if let Err(problem) = SearchSchema::parse(&config.search_schema) {
        return Err(ConfigError::topic("search.schema", &config.search_schema, &problem));
    }
    if config.remote_storage_enable {
        return Err(ConfigError::conflict(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_default_fits_its_field_and_the_table_is_ordered() {
        let settings = Settings::defaults();
        for (name, fits) in fits(|name| lookup(name, &BTreeMap::new(), &settings)) {
            assert!(fits, "{name}");
        }
        assert!(TOPIC_SETTINGS.iter().is_sorted_by_key(|setting| setting.name));
        for setting in TOPIC_SETTINGS {
            assert_eq!(Some(setting.default_value(&settings)), setting.fallback_value(), "{}", setting.name);
            assert_eq!(setting.inert, setting.doc.contains("without effect"), "{}", setting.name);
        }
    }

    #[test]
    fn the_topic_then_the_node_then_the_default() {
        let plain = TopicConfig::resolve(&BTreeMap::new(), &Settings::defaults());
        assert_eq!(plain.retention_ms, 604_800_000);
        assert!(plain.cleanup_policy.delete && !plain.cleanup_policy.compact);
        let node =
            Settings::from_pairs(&[("log.retention.minutes", "10"), ("log.retention.hours", "1")]).unwrap();
        assert_eq!(TopicConfig::resolve(&BTreeMap::new(), &node).retention_ms, 600_000);
        let own = overrides(&[("retention.ms", "-1"), ("cleanup.policy", "compact,delete")]);
        let config = TopicConfig::resolve(&own, &node);
        assert_eq!(config.retention_ms, -1);
        assert!(config.cleanup_policy.delete && config.cleanup_policy.compact);
    }

    #[test]
    fn checks_are_kafkas() {
        let settings = Settings::defaults();
        let error =
            |pairs: &[(&str, &str)]| validate_topic(&overrides(pairs), &settings).unwrap_err().to_string();
        assert_eq!(
            error(&[("retention.ms", "-2")]),
            "Invalid value -2 for configuration retention.ms: Value must be at least -1"
        );
        assert_eq!(
            error(&[("retenton.ms", "1")]),
            "Unknown topic config name: retenton.ms (did you mean retention.ms?)"
        );
        assert!(
            error(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]).starts_with("conflict")
        );
        assert!(error(&[("remote.storage.enable", "true")]).starts_with("Tiered Storage"));
        assert!(validate_topic(&overrides(&[("retention.ms", "1")]), &settings).is_ok());
    }
}
