//! Every setting of the node and of its topics: name, type, range, default, source, and the check of a value.
//!
//! Nothing here does I/O: the text of the configuration file, the environment and the flags are handed in as [`Sources`]. [`Settings`] puts them one
//! over the other and remembers where each value came from; [`NodeConfig`] and [`TopicConfig`] are the same as plain typed fields, for code
//! that must not look things up by name.
//!
//! ```
//! use chronik_config::{NodeConfig, Settings, Sources};
//!
//! let file = "num.partitions = 6\nlog.retention.ms = \"3d\"\n";
//! let sources = Sources { file: Some(("chronik.toml".to_owned(), file.to_owned())), ..Sources::default() };
//! let settings = Settings::load(&sources)?;
//! assert_eq!(NodeConfig::from_settings(&settings).num_partitions, 6);
//! assert_eq!(settings.source("num.partitions").to_string(), "chronik.toml:1");
//! # Ok::<(), chronik_config::ConfigErrors>(())
//! ```

mod address;
mod alter;
mod describe;
mod error;
mod file;
mod markdown;
mod mode;
mod node;
mod search_schema;
mod setting;
mod settings;
mod suggest;
mod topic;
mod value;

pub use address::{HostPort, Peer};
pub use alter::{AlterOp, Change as ConfigChange, Scope, alter, changed};
pub use describe::{
    ConfigSource, Described, Synonym, describe_cluster_defaults, describe_node, describe_topic,
};
pub use error::{ConfigError, ConfigErrors};
pub use markdown::render_markdown;
pub use mode::Mode;
pub use node::{NodeConfig, setting, settings};
pub use search_schema::{FieldType, SearchSchema};
pub use setting::{CONFIG_FILE_VARIABLE, Change, Group, Kind, Setting, Unit, VARIABLE_PREFIX};
pub use settings::{Layer, Settings, Source, Sources, validate_dynamic};
pub use topic::{NodeDefault, TopicConfig, TopicSetting, topic_setting, topic_settings, validate_topic};
pub use value::{
    CleanupPolicy, CompressionType, Flush, HttpWrites, ReplicaSelector, Style, TimestampType, Value,
};
