//! Connections between nodes: one for each direction of a pair, on the one port.
//!
//! Node A dials B. The connection A→B carries A's calls and their answers, A's messages to B, and what B sends back to A on
//! it; B dials A for the rest. [`Peers`] keeps these connections, dials again when they break, and says what is wrong with each.
//! `docs/peer-protocol.md` has the bytes.
//!
//! ```text
//!  Transport::call, send ──► LinkShared (queue) ──►┐            ┌──► Handler::call, message, reply_message
//!  InboundLink::send, wake ─► Source::next ───────►┴ Link: task ┴──► answers to who waits
//! ```
//!
//! What is queued (calls, answers, messages, signs of life) goes before what a [`Source`] gives, and the source is asked only
//! when the socket can take more: so memory is bounded by what is being written, and bulk delays a heartbeat by one frame.

mod accept;
mod by_address;
mod dial;
mod error;
mod file_sender;
mod frame;
mod handler;
mod hello;
mod inbound;
mod link;
mod link_shared;
mod log_limit;
mod out_frame;
mod output;
mod peers;
mod reader;
mod socket_options;
mod status;
mod target;

pub use error::{AddressCallError, DialError, LinkEnd, SendError};
pub use file_sender::FileSender;
pub use frame::{
    BULK_FRAME_BYTES, FrameError, GREETING_BYTES_MAX, HEADER_BYTES, MAGIC, PAYLOAD_BYTES_MAX,
    PROTOCOL_VERSION,
};
pub use handler::{Handler, PeerEvent, PeerInfo, Source};
pub use hello::Hello;
pub use inbound::InboundLink;
pub use out_frame::OutFrame;
pub use peers::{PeerSettings, Peers, PeersOptions};
pub use reader::count_frames;
pub use status::{InboundStatus, PeerState, PeerStatus, TurnedAway};
