//! The metadata quorum: voters that agree on one log of commands, and with it on one [`Image`](chronik_meta::Image).
//!
//! The consensus is the library's (`openraft`). Here are its disk (a log, a vote and a snapshot that are flushed before they count), its network
//! (messages of our own over [`chronik_base::Transport`]), its state machine (the metadata image), and its clock: who asks for votes and when.
//!
//! - [`RaftNode`] is what the owner holds: the image to read, `write` for commands on the leader, the voters, a status.
//! - An entry carries commands. Each is checked against the image that those before it make, then applied; one that is refused changes nothing,
//!   on every node alike.
//! - A leader serves while a majority answered it within its lease, by the clock, also after a pause. A voter that hears a leader votes for nobody
//!   else, and asks before it stands for election: so a node that was cut off disturbs nobody when it comes back.

mod codec;
mod core;
mod driver;
mod election;
mod error;
mod machine;
mod membership;
mod messages;
mod network;
mod node;
mod offline;
mod options;
mod status;
mod storage;
mod types;
mod writer;

pub use error::{ChangeError, StartError, WriteError};
pub use node::RaftNode;
pub use offline::read_image;
pub use options::{OnChange, RaftOptions, Timing};
pub use status::{FollowerStatus, Leadership, RaftStatus, Role};
pub use storage::Cut;
