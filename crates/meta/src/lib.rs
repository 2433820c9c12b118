//! The metadata of the cluster: an image, the commands that change it, and the log that makes them durable.
//!
//! - [`Image`] is an immutable value; copies share what they have in common, so a reader's snapshot costs a reference count and one change costs a
//!   path, not the size of the cluster. [`Image::check`] and [`Image::apply`] are functions of image and [`Command`] alone.
//! - [`MetaStore`] keeps the image on disk: a log that is flushed before a command is applied, and a snapshot. It is the only part with I/O (and
//!   [`Identity`], the file that says who the node is).
//! - [`MetaHandle`] is what the rest of the node holds: the image to read, and `submit`, where one flush serves all that wait.

mod apply;
mod brokers;
mod codec;
mod command;
mod command_codec;
mod diff;
mod elections;
mod error;
mod frame;
mod identity;
mod image;
mod image_codec;
mod isr;
mod names;
mod ordered;
mod partitions;
mod placement;
mod reassign;
mod results_codec;
mod sessions;
mod snapshot;
mod store;
mod writer;

pub use codec::CodecError;
pub use command::{AlterPartition, Assignments, Command, ConfigChanges, PartitionChange, Reply};
pub use diff::TopicChange;
pub use error::MetaError;
pub use identity::{FORMAT, Identity, IdentityError, Role};
pub use image::{Broker, Configs, Endpoint, Image, MetaOffset, Partition, Tally, Topic};
pub use names::{MAX_TOPIC_NAME, topic_name_problem};
pub use ordered::{Iter, OrderedMap};
pub use partitions::Partitions;
pub use placement::{Candidate, TooFewBrokers, place};
pub use results_codec::{decode_results, encode_results};
pub use sessions::{Heartbeat, SessionStatus, Sessions};
pub use store::{Cut, MetaStore, Recovery, StoreError, StoreOptions};
pub use writer::{ImageChange, MetaHandle, Results};
