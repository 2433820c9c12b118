//! The effective settings: what each source says, put one over the other, with the source remembered.

use std::collections::BTreeMap;
use std::fmt;

use crate::address::{check_addresses, check_peers};
use crate::error::{ConfigError, ConfigErrors};
use crate::file;
use crate::mode::{self, Mode};
use crate::node::{index_of, setting, settings};
use crate::setting::{CONFIG_FILE_VARIABLE, Change, Setting, VARIABLE_PREFIX};
use crate::value::{self, Style, Value};

/// Where a value comes from. The order is the precedence: an earlier one wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Altered over the protocol for this node.
    DynamicNode,
    /// Altered over the protocol for all nodes.
    DynamicCluster,
    /// A command line flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File {
        /// Its path, as it was given.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// Nobody set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::DynamicNode => f.write_str("altered for this node"),
            Source::DynamicCluster => f.write_str("altered for the cluster"),
            Source::Flag => f.write_str("flag"),
            Source::Environment => f.write_str("environment"),
            Source::File { path, line } => write!(f, "{path}:{line}"),
            Source::Default => f.write_str("default"),
        }
    }
}

/// What the outside says about settings. Nothing here is read from the system: it is handed in.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// How the node is started; `None` where nothing is started (the settings are only looked at), so that settings of every mode
    /// pass.
    pub mode: Option<Mode>,
    /// Flags as (name, value), the name without dashes in front: `message-max-bytes`; dots are read as dashes.
    pub flags: Vec<(String, String)>,
    /// The environment: all variables may be handed in, those that do not begin with `CHRONIK_` are left alone.
    pub environment: Vec<(String, String)>,
    /// The configuration file, if there is one: its path for messages, and its text.
    pub file: Option<(String, String)>,
}

/// One value and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Where it comes from.
    pub source: Source,
    /// The value.
    pub value: Value,
}

/// Every setting with everything that was said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// In the order of [`settings`]; of each, the layers by precedence.
    layers: Vec<Vec<Layer>>,
    ignored_variables: Vec<String>,
    pub(crate) mode: Option<Mode>,
}

impl Settings {
    /// Every setting at its default.
    pub fn defaults() -> Self {
        let layers = settings()
            .iter()
            .map(|setting| {
                let default =
                    setting.default.map(|text| value::parse(setting.kind, setting.unit, text, Style::Human));
                // The tables' own test reads every default.
                default.into_iter().flatten().map(|value| Layer { source: Source::Default, value }).collect()
            })
            .collect();
        Self { layers, ignored_variables: Vec::new(), mode: None }
    }

    /// Puts the sources one over the other. All that is wrong is reported at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut loaded = Self { mode: sources.mode, ..Self::defaults() };
        let mut errors = Vec::new();
        for (flag, text) in &sources.flags {
            let flag = flag.trim_start_matches('-').replace(['.', '_'], "-");
            match settings().iter().find(|setting| setting.flag() == flag) {
                Some(setting) => loaded.read(setting, text, Source::Flag, &mut errors),
                None => errors.push(ConfigError::unknown_flag(&flag)),
            }
        }
        for (variable, text) in &sources.environment {
            if !variable.starts_with(VARIABLE_PREFIX) || variable == CONFIG_FILE_VARIABLE {
                continue;
            }
            match settings().iter().find(|setting| setting.variable() == *variable) {
                Some(setting) => loaded.read(setting, text, Source::Environment, &mut errors),
                None => match ConfigError::misspelt_variable(variable) {
                    Some(error) => errors.push(error),
                    None => loaded.ignored_variables.push(variable.clone()),
                },
            }
        }
        if let Some((path, text)) = &sources.file {
            match file::read(path, text) {
                Ok(entries) => loaded.read_file(path, entries, &mut errors),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(loaded.at_odds());
        // A list that can't be read counts as empty: that it can't be is said already.
        if errors.is_empty()
            && let Some(mode) = sources.mode
        {
            errors.extend(mode::check(mode, &loaded));
        }
        if errors.is_empty() { Ok(loaded) } else { Err(ConfigErrors(errors)) }
    }

    /// Environment variables that begin like settings and resemble none. They are not errors, because others put such
    /// variables there, too: Kubernetes does for a service that is called chronik.
    pub fn ignored_variables(&self) -> &[String] {
        &self.ignored_variables
    }

    /// Settings given as flags: for tests and tools.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, ConfigErrors> {
        let flags = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::load(&Sources { flags, ..Sources::default() })
    }

    fn read_file(&mut self, path: &str, entries: Vec<file::Entry>, errors: &mut Vec<ConfigError>) {
        for entry in entries {
            let source = Source::File { path: path.to_owned(), line: entry.line };
            match (setting(&entry.name), entry.text) {
                (None, _) => errors.push(ConfigError::unknown_key(&entry.name, &source)),
                (Some(setting), Ok(text)) => match self.said_in_file(setting.name) {
                    Some(line) => errors.push(ConfigError::said_twice(setting.name, &source, line)),
                    None => self.read(setting, &text, source, errors),
                },
                (Some(setting), Err(found)) => {
                    errors.push(ConfigError::wrong_toml_type(setting, found, &source))
                }
            }
        }
    }

    /// The line of the file that has the setting already: TOML sees no duplicate where a name has two spellings.
    fn said_in_file(&self, name: &str) -> Option<usize> {
        self.layers(name).iter().find_map(|layer| match layer.source {
            Source::File { line, .. } => Some(line),
            _ => None,
        })
    }

    fn read(&mut self, setting: &Setting, text: &str, source: Source, errors: &mut Vec<ConfigError>) {
        if text.trim().is_empty() && setting.default.is_none() {
            // An empty value of a setting that may be absent says nothing: so scripts can pass one on that is not set.
            return;
        }
        match read_value(setting, text, Style::Human) {
            Ok(value) => self.put(setting.name, Layer { source, value }),
            Err(problem) => errors.push(ConfigError::bad_value(setting, text, &source, &problem)),
        }
    }

    fn put(&mut self, name: &str, layer: Layer) {
        if let Some(layers) = index_of(name).and_then(|index| self.layers.get_mut(index)) {
            let at = layers.partition_point(|other| other.source < layer.source);
            layers.insert(at, layer);
        }
    }

    /// Pairs of settings of which one must not be above the other.
    fn at_odds(&self) -> Vec<ConfigError> {
        const ORDERED: [(&str, &str); 2] = [
            ("group.min.session.timeout.ms", "group.max.session.timeout.ms"),
            ("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
        ];
        let mut errors = Vec::new();
        for (low, high) in ORDERED {
            if let (Some(low_value), Some(high_value)) = (self.get(low), self.get(high))
                && let (Value::Int(a), Value::Int(b)) = (low_value, high_value)
                && a > b
            {
                errors.push(ConfigError::at_odds((low, low_value), (high, high_value)));
            }
        }
        // One heartbeat that is late or lost must not be taken for a node that is gone.
        const BEATS: [(&str, &str); 2] = [
            ("broker.heartbeat.interval.ms", "broker.session.timeout.ms"),
            ("quorum.heartbeat.interval.ms", "quorum.election.timeout.ms"),
        ];
        for (beat, limit) in BEATS {
            if let (Some(beat_value), Some(limit_value)) = (self.get(beat), self.get(limit))
                && let (Value::Int(a), Value::Int(b)) = (beat_value, limit_value)
                && a.saturating_mul(3) > *b
            {
                errors.push(ConfigError::too_few_beats((beat, beat_value), (limit, limit_value)));
            }
        }
        errors
    }

    /// The effective value, `None` if the setting is absent or unknown.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.layers(name).first().map(|layer| &layer.value)
    }

    /// Where the effective value comes from.
    pub fn source(&self, name: &str) -> &Source {
        self.layers(name).first().map_or(&Source::Default, |layer| &layer.source)
    }

    /// Everything that was said about a setting, the effective value first.
    pub fn layers(&self, name: &str) -> &[Layer] {
        index_of(name).and_then(|index| self.layers.get(index)).map_or(&[], Vec::as_slice)
    }

    /// Each setting with its effective value (`None`: absent) and where it comes from, in the order of the documentation.
    pub fn effective(&self) -> impl Iterator<Item = (&'static Setting, Option<&Value>, &Source)> {
        settings().iter().map(|setting| (setting, self.get(setting.name), self.source(setting.name)))
    }

    /// These settings with what was altered over the protocol put on top: for all nodes, and for this one. An entry that
    /// cannot be read counts as not set, as it was checked by [`validate_dynamic`] when it was set.
    pub fn with_dynamic(&self, cluster: &BTreeMap<String, String>, node: &BTreeMap<String, String>) -> Self {
        let mut result = self.clone();
        for layers in &mut result.layers {
            layers.retain(|layer| layer.source > Source::DynamicCluster);
        }
        for (source, entries) in [(Source::DynamicCluster, cluster), (Source::DynamicNode, node)] {
            for (name, text) in entries {
                if let Some(setting) = setting(name)
                    && let Ok(value) = read_value(setting, text, Style::Kafka)
                {
                    result.put(name, Layer { source: source.clone(), value });
                }
            }
        }
        result
    }
}

/// Reads a value, and checks what its type alone doesn't say.
fn read_value(setting: &Setting, text: &str, style: Style) -> Result<Value, String> {
    let value = value::parse(setting.kind, setting.unit, text, style)?;
    match (setting.name, &value) {
        ("peers", Value::List(parts)) => check_peers(parts)?,
        ("join" | "replication.followers", Value::List(parts)) => check_addresses(parts)?,
        ("default.replication.factor" | "offsets.topic.replication.factor", Value::Int(0)) => {
            return Err("Value must be at least 1, or -1 for as many as the cluster has nodes for".to_owned());
        }
        _ => {}
    }
    Ok(value)
}

/// Checks what a node's settings are to be altered to over the protocol: names known, changeable at run time, values in range.
pub fn validate_dynamic(entries: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for (name, text) in entries {
        let setting = setting(name).ok_or_else(|| ConfigError::unknown_node_setting(name))?;
        if setting.change == Change::AtStart {
            return Err(ConfigError::not_dynamic(name));
        }
        read_value(setting, text, Style::Kafka)
            .map_err(|problem| ConfigError::topic(name, text, &problem))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeConfig;

    fn sources(flags: &[(&str, &str)], environment: &[(&str, &str)], file: &str) -> Sources {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Sources {
            flags: own(flags),
            environment: own(environment),
            file: Some(("chronik.toml".to_owned(), file.to_owned())),
            mode: None,
        }
    }

    fn errors(flags: &[(&str, &str)], environment: &[(&str, &str)], file: &str) -> String {
        Settings::load(&sources(flags, environment, file)).unwrap_err().to_string()
    }

    #[test]
    fn flag_over_environment_over_file_over_default() {
        let file = "num.partitions = 2\nmax.connections = 10\nmax.connections.per.ip = 5\n[log]\nretention.ms = \"1h\"\n";
        let loaded = Settings::load(&sources(
            &[("num-partitions", "4")],
            &[
                ("CHRONIK_NUM_PARTITIONS", "3"),
                ("CHRONIK_MAX_CONNECTIONS", "20"),
                ("HOME", "/"),
                ("CHRONIK_CONFIG", "x"),
            ],
            file,
        ))
        .unwrap();
        let node = NodeConfig::from_settings(&loaded);
        assert_eq!((node.num_partitions, node.max_connections, node.max_connections_per_ip), (4, 20, 5));
        assert_eq!(loaded.get("log.retention.ms"), Some(&Value::Int(3_600_000)));
        assert_eq!(loaded.source("num.partitions"), &Source::Flag);
        assert_eq!(loaded.source("max.connections"), &Source::Environment);
        assert_eq!(loaded.source("log.retention.ms").to_string(), "chronik.toml:5");
        assert_eq!(loaded.source("flush"), &Source::Default);
        assert_eq!(loaded.layers("num.partitions").len(), 4);
        let listed = sources(&[], &[], "[replication]\nfollowers = [\"a:1\", \"b:2\"]\n");
        let followers = NodeConfig::from_settings(&Settings::load(&listed).unwrap()).replication_followers;
        assert_eq!(followers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:2"]);
        let unset = Settings::load(&sources(&[], &[("CHRONIK_ADVERTISE", "")], "")).unwrap();
        assert_eq!(NodeConfig::from_settings(&unset).advertise, None);
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        assert_eq!(
            errors(&[], &[], "\nmessage.max.byte = 5\n"),
            "chronik.toml:2: there is no setting message.max.byte (did you mean message.max.bytes?)"
        );
        assert_eq!(errors(&[("lisen", "x")], &[], ""), "there is no flag --lisen (did you mean --listen?)");
        assert!(errors(&[], &[("CHRONIK_DATADIR", "x")], "").contains("did you mean CHRONIK_DATA_DIR?"));
        let others =
            [("CHRONIK_SERVICE_HOST", "10.0.0.1"), ("CHRONIK_BIN", "x"), ("CHRONIK_CLIENTS_DIR", "x")];
        let loaded = Settings::load(&sources(&[], &others, "")).unwrap();
        assert_eq!(loaded.ignored_variables(), others.map(|(name, _)| name));
        assert!(
            errors(&[], &[], "retention.ms = 5").contains("the node's default of it is log.retention.ms")
        );
    }

    #[test]
    fn bad_values_name_key_value_range_and_source() {
        assert_eq!(
            errors(&[("socket-request-max-bytes", "12")], &[], ""),
            "socket.request.max.bytes = \"12\" (flag): value must be at least 1024; allowed: at least 1024 bytes"
        );
        assert_eq!(
            errors(&[], &[("CHRONIK_FLUSH", "never")], ""),
            "flush = \"never\" (environment): string must be one of: disk, os; allowed: one of disk, os"
        );
        assert_eq!(
            errors(&[], &[], "[node]\nid = [1]"),
            "node.id (chronik.toml:2): a list cannot be the value of this setting of type INT"
        );
        assert!(errors(&[], &[], "a = = 1").starts_with("chronik.toml:1: not valid TOML"));
        assert_eq!(
            errors(&[], &[], "num.partitions = 1\n[num]\npartitions = 2"),
            "num.partitions (f:3): it is set in line 1 already".replace("f:", "chronik.toml:")
        );
        assert_eq!(
            errors(&[("broker-heartbeat-interval-ms", "501ms")], &[], ""),
            "broker.heartbeat.interval.ms = 501 is more than a third of broker.session.timeout.ms = 1500: lower the first or raise the second"
        );
        assert_eq!(
            errors(&[], &[("CHRONIK_REPLICATION_FOLLOWERS", "a:9092,b")], ""),
            "replication.followers = \"a:9092,b\" (environment): \"b\" is not HOST:PORT: the port is missing"
        );
        assert!(errors(&[("group-min-session-timeout-ms", "2h")], &[], "").contains("lower the first"));
    }

    #[test]
    fn dynamic_entries_lie_on_top_and_come_off_again() {
        let entry = |value: &str| BTreeMap::from([("num.partitions".to_owned(), value.to_owned())]);
        let base = Settings::from_pairs(&[("num.partitions", "2")]).unwrap();
        let altered = base.with_dynamic(&entry("3"), &entry("4"));
        assert_eq!(altered.get("num.partitions"), Some(&Value::Int(4)));
        assert_eq!(
            altered.with_dynamic(&entry("3"), &BTreeMap::new()).get("num.partitions"),
            Some(&Value::Int(3))
        );
        assert_eq!(altered.with_dynamic(&BTreeMap::new(), &BTreeMap::new()), base);
        assert!(validate_dynamic(&entry("3")).is_ok());
        let fixed = BTreeMap::from([("listen".to_owned(), "x".to_owned())]);
        assert!(validate_dynamic(&fixed).unwrap_err().to_string().contains("Cannot update"));
    }
}
