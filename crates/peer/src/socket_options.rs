//! What is set on every socket between nodes.

use tokio::net::TcpStream;

/// Bytes that the system takes from a link before it has sent those from before: 256 KiB. Without this bound, megabytes of bulk could
/// lie between an answer and a slow network.
#[cfg(target_os = "linux")]
const NOT_SENT_BYTES_MAX: u32 = 256 << 10;

/// Sets the options. Where one can't be set, links are slower and work.
pub(crate) fn set(socket: &TcpStream) {
    // Somebody waits for each small frame.
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX);
}
