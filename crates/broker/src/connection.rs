//! What the broker knows of a connection.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One client connection, shared by its requests.
#[derive(Debug)]
pub struct ConnectionContext {
    /// Unique in this process.
    pub id: u64,
    /// Where the client is.
    pub peer: SocketAddr,
    /// The address by which the client reached this node: what Metadata names where nothing is advertised.
    pub local: SocketAddr,
    software: OnceLock<ClientSoftware>,
}

/// What a client says of itself in ApiVersions (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSoftware {
    /// For example `librdkafka`.
    pub name: String,
    /// For example `2.10.0`.
    pub version: String,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl ConnectionContext {
    /// A new connection from `peer`, which reached this node at `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), peer, local, software: OnceLock::new() }
    }

    /// What the client said of itself, once it did.
    pub fn software(&self) -> Option<&ClientSoftware> {
        self.software.get()
    }

    /// Remembers what the client says of itself; the first word counts.
    pub(crate) fn set_software(&self, software: ClientSoftware) {
        let _ = self.software.set(software);
    }
}
