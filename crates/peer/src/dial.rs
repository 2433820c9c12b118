//! Making a connection to another node, up to the greeting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::error::DialError;
use crate::frame::{FrameError, FrameType, GREETING_BYTES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use crate::hello::{Greeting, Hello, Refusal, RefusalCode};
use crate::out_frame::Outgoing;
use crate::reader::{FrameReader, ReadError};
use crate::socket_options;

/// Bytes of a foreign answer that are shown.
const SHOWN_BYTES: usize = 16;

/// What is said of who closes without a word.
const CLOSES: &str =
    "closes the connection without an answer (a Chronik node does so only if it has too many connections)";

/// How long the steps of a dial may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialTimes {
    /// Finding the host's addresses, and connecting to each.
    pub(crate) connect: Duration,
    /// From there to the other node's greeting.
    pub(crate) greeting: Duration,
}

/// A connection on which both sides have greeted.
pub(crate) struct Dialled {
    pub(crate) socket: TcpStream,
    pub(crate) reader: FrameReader,
    pub(crate) address: SocketAddr,
    pub(crate) hello: Hello,
}

/// Connects to `address` and greets. `me` says who expects whom.
pub(crate) async fn dial(address: &str, me: &Greeting, times: DialTimes) -> Result<Dialled, DialError> {
    let (mut socket, peer) = connect(address, times.connect).await?;
    socket_options::set(&socket);
    let mut reader = FrameReader::new(GREETING_BYTES_MAX, &[]);
    let greeted = timeout(times.greeting, greet(&mut socket, &mut reader, address, me)).await;
    let hello = greeted.unwrap_or_else(|_| {
        let waited_ms = u64::try_from(times.greeting.as_millis()).unwrap_or(u64::MAX);
        Err(DialError::Silent { address: address.to_owned(), waited_ms })
    })?;
    check(address, me, &hello)?;
    reader.set_limit(PAYLOAD_BYTES_MAX);
    Ok(Dialled { socket, reader, address: peer, hello })
}

/// Connects to the first of the host's addresses that takes the connection.
async fn connect(address: &str, time: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    let unresolved = |problem: String| DialError::Unresolved { address: address.to_owned(), problem };
    let waited = format!("no answer within {} ms", time.as_millis());
    let candidates = match timeout(time, lookup_host(address)).await {
        Ok(Ok(candidates)) => candidates,
        Ok(Err(error)) => return Err(unresolved(error.to_string())),
        Err(_) => return Err(unresolved(waited)),
    };
    let mut error = unresolved("the host has no address".to_owned());
    let (mut any_refused, mut any_timed_out) = (false, false);
    for candidate in candidates {
        let problem = match timeout(time, TcpStream::connect(candidate)).await {
            Ok(Ok(socket)) => return Ok((socket, candidate)),
            Ok(Err(error)) => {
                any_refused |= error.kind() == io::ErrorKind::ConnectionRefused;
                error.to_string()
            }
            Err(_) => {
                any_timed_out = true;
                waited.clone()
            }
        };
        error = DialError::Unreachable { address: address.to_owned(), problem };
    }
    // A host may have addresses that lead nowhere from here; its process is known to be absent if one of them refuses, unless another
    // might yet lead to it.
    if any_refused && !any_timed_out {
        error = DialError::Refused { address: address.to_owned() };
    }
    Err(error)
}

async fn greet(
    socket: &mut TcpStream,
    reader: &mut FrameReader,
    address: &str,
    me: &Greeting,
) -> Result<Hello, DialError> {
    let not_chronik = |what: String| DialError::NotChronik { address: address.to_owned(), what };
    write_frame(socket, FrameType::Hello, me.encode()).await.map_err(|error| broken(address, &error))?;
    let frame = match reader.read_frame(socket).await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(not_chronik(CLOSES.to_owned())),
        Err(ReadError::Socket(error)) => return Err(broken(address, &error)),
        Err(ReadError::Frame(FrameError::Version(theirs))) => {
            return Err(DialError::Version { address: address.to_owned(), theirs });
        }
        Err(ReadError::Frame(FrameError::Magic(_))) => {
            let shown = reader.buffered();
            let shown = shown.get(..SHOWN_BYTES).unwrap_or(shown).escape_ascii();
            return Err(not_chronik(format!("answers \"{shown}\"")));
        }
        Err(ReadError::Frame(error)) => return Err(not_chronik(format!("answers wrongly: {error}"))),
    };
    match frame.frame_type {
        FrameType::Hello => Hello::decode(frame.payload).map_err(|error| not_chronik(error.to_string())),
        FrameType::Refused => match Refusal::decode(frame.payload) {
            Ok(refusal) => Err(refused(address, me, refusal)),
            Err(error) => Err(not_chronik(error.to_string())),
        },
        other => Err(not_chronik(format!("sends a {other:?} before it greets"))),
    }
}

/// Judges who answered.
fn check(address: &str, me: &Greeting, found: &Hello) -> Result<(), DialError> {
    let address = address.to_owned();
    let ours = &me.hello;
    if found.incarnation == ours.incarnation {
        return Err(DialError::Myself { address });
    }
    if let Some(expected) = me.expected
        && expected != found.node_id
    {
        return Err(DialError::WrongNode { address, expected, found: found.node_id });
    }
    if ours.is_of_another_cluster(found) {
        return Err(DialError::OtherCluster { address, theirs: found.cluster_id, ours: ours.cluster_id });
    }
    Ok(())
}

/// What the other node's refusal means here.
fn refused(address: &str, me: &Greeting, refusal: Refusal) -> DialError {
    let Refusal { code, hello, text } = refusal;
    let address = address.to_owned();
    match (code, me.expected) {
        (RefusalCode::WrongNode, Some(expected)) => {
            DialError::WrongNode { address, expected, found: hello.node_id }
        }
        (RefusalCode::OtherCluster, _) => {
            DialError::OtherCluster { address, theirs: hello.cluster_id, ours: me.hello.cluster_id }
        }
        (RefusalCode::Myself, _) => DialError::Myself { address },
        (RefusalCode::SameNodeId, _) => DialError::SameNodeId { address, node: hello.node_id },
        _ => DialError::Declined { address, problem: text },
    }
}

/// A connection that breaks before the greeting. Programs that don't know the protocol often reset it.
fn broken(address: &str, error: &io::Error) -> DialError {
    let address = address.to_owned();
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            DialError::NotChronik { address, what: "resets the connection without an answer".to_owned() }
        }
        _ => DialError::Unreachable { address, problem: error.to_string() },
    }
}

/// Writes one frame that is all in memory.
pub(crate) async fn write_frame(
    socket: &mut TcpStream,
    frame_type: FrameType,
    payload: bytes::Bytes,
) -> io::Result<()> {
    let header = Outgoing::new(frame_type, 0, 0, payload.clone()).header();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&payload);
    socket.write_all(&bytes).await
}
