//! What a setting is: its name in three forms, its type, its range, its default.

use std::fmt;

/// One setting of the node.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The name, with dots; Kafka's own where Kafka has the setting.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What a plain number counts.
    pub unit: Unit,
    /// The value where nobody sets one, as text; `None` for a setting that may be absent.
    pub default: Option<&'static str>,
    /// When a change takes effect.
    pub change: Change,
    /// The chapter of the documentation it belongs to.
    pub group: Group,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// The topic setting it is the default of, if it is one.
    pub topic_setting: Option<&'static str>,
}

/// The type of a setting's value, with its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number that Kafka calls INT.
    Int {
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        max: i64,
    },
    /// A whole number that Kafka calls LONG.
    Long {
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        max: i64,
    },
    /// A number with a fraction.
    Double {
        /// The smallest value allowed.
        min: f64,
        /// The largest value allowed.
        max: f64,
    },
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Words separated by commas, each one of these; with none given, any.
    List(&'static [&'static str]),
}

/// What a plain number counts. Where the unit is clear, text such as `64MiB` or `5s` is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things, or not a number.
    None,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

/// When a change of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At the next start of the node; refused over the protocol.
    AtStart,
    /// At once: it can be altered over the protocol (IncrementalAlterConfigs on a broker).
    Running,
}

/// Chapters of the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the titles below say it")]
pub enum Group {
    Node,
    Cluster,
    Replication,
    Durability,
    Limits,
    Topics,
    TopicDefaults,
    Groups,
    Fetching,
    Cleaning,
    Http,
    Observability,
    Search,
}

impl Group {
    /// Every chapter, in the order of the documentation.
    pub const ALL: [Group; 13] = [
        Group::Node,
        Group::Cluster,
        Group::Replication,
        Group::Durability,
        Group::Limits,
        Group::Topics,
        Group::TopicDefaults,
        Group::Groups,
        Group::Fetching,
        Group::Cleaning,
        Group::Http,
        Group::Observability,
        Group::Search,
    ];

    /// The chapter's heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Node => "The node",
            Group::Cluster => "The cluster",
            Group::Replication => "Replication",
            Group::Durability => "Durability",
            Group::Limits => "Limits",
            Group::Topics => "Topics",
            Group::TopicDefaults => "Defaults of topic settings",
            Group::Groups => "Consumer groups",
            Group::Fetching => "Fetching",
            Group::Cleaning => "Retention and compaction",
            Group::Http => "HTTP",
            Group::Observability => "Metrics, slow requests and traces",
            Group::Search => "Search",
        }
    }
}

impl Setting {
    /// The command line flag without its dashes: `message-max-bytes`.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// The environment variable: `CHRONIK_MESSAGE_MAX_BYTES`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace(['.', '-'], "_").to_ascii_uppercase())
    }
}

/// What every environment variable of a setting begins with.
pub const VARIABLE_PREFIX: &str = "CHRONIK_";

/// The environment variable that names the configuration file. It is not a setting: the file cannot name itself.
pub const CONFIG_FILE_VARIABLE: &str = "CHRONIK_CONFIG";

impl Kind {
    /// Shorthand for a [`Kind::Int`] from `min` up.
    pub const fn int_from(min: i64) -> Kind {
        Kind::Int { min, max: i32::MAX as i64 }
    }

    /// Shorthand for a [`Kind::Long`] from `min` up.
    pub const fn long_from(min: i64) -> Kind {
        Kind::Long { min, max: i64::MAX }
    }

    /// The number DescribeConfigs version 3 gives this type (KIP-569).
    pub fn describe_configs_type(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text | Kind::Choice(_) => 2,
            Kind::Int { .. } => 3,
            Kind::Long { .. } => 5,
            Kind::Double { .. } => 6,
            Kind::List(_) => 7,
        }
    }

    /// The type's name in Kafka's messages: `INT`, `LONG`, …
    pub fn kafka_name(self) -> &'static str {
        match self {
            Kind::Bool => "BOOLEAN",
            Kind::Text | Kind::Choice(_) => "STRING",
            Kind::Int { .. } => "INT",
            Kind::Long { .. } => "LONG",
            Kind::Double { .. } => "DOUBLE",
            Kind::List(_) => "LIST",
        }
    }

    /// What is allowed, in words; `None` if anything is.
    pub fn range(self) -> Option<String> {
        fn bounds(min: i64, max: i64, natural_max: i64) -> Option<String> {
            match (min == i64::MIN, max == natural_max || max == i64::MAX) {
                (true, true) => None,
                (false, true) => Some(format!("at least {min}")),
                (true, false) => Some(format!("at most {max}")),
                (false, false) => Some(format!("{min} to {max}")),
            }
        }
        match self {
            Kind::Bool => Some("true or false".to_owned()),
            Kind::Int { min, max } => bounds(min, max, i64::from(i32::MAX)),
            Kind::Long { min, max } => bounds(min, max, i64::MAX),
            Kind::Double { min, max } => Some(format!("{min} to {max}")),
            Kind::Text => None,
            Kind::Choice(words) => Some(format!("one of {}", words.join(", "))),
            Kind::List([]) => None,
            Kind::List(words) => Some(format!("a list of {}", words.join(", "))),
        }
    }
}

impl Unit {
    /// How many milliseconds one unit is, for units of time.
    pub(crate) fn millis(self) -> Option<i64> {
        match self {
            Unit::None | Unit::Bytes => None,
            Unit::Millis => Some(1),
            Unit::Seconds => Some(1_000),
            Unit::Minutes => Some(60_000),
            Unit::Hours => Some(3_600_000),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::None => "",
            Unit::Bytes => "bytes",
            Unit::Millis => "ms",
            Unit::Seconds => "seconds",
            Unit::Minutes => "minutes",
            Unit::Hours => "hours",
        })
    }
}
