//! The accepting side: judging a greeting, and the life of the link after it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dial::write_frame;
use crate::error::LinkEnd;
use crate::frame::{FrameError, FrameType, GREETING_BYTES_MAX, PAYLOAD_BYTES_MAX, PROTOCOL_VERSION};
use crate::hello::{Greeting, Hello, Refusal, RefusalCode};
use crate::inbound::InboundLink;
use crate::link::{Link, Role};
use crate::peers::Inner;
use crate::reader::{FrameReader, ReadError};
use crate::socket_options;

/// How long a connection that was refused stays open, so that the refusal arrives: 1 s.
const LINGER: Duration = Duration::from_secs(1);

/// How long a new link waits for the one that it replaces: 1 s.
const REPLACE_WAIT: Duration = Duration::from_secs(1);

/// Why a connection is turned away, in one line, and what the other side is told.
struct TurnAway {
    problem: String,
    refusal: Option<RefusalCode>,
}

impl TurnAway {
    fn silently(problem: String) -> Self {
        Self { problem, refusal: None }
    }

    fn saying(refusal: RefusalCode, problem: String) -> Self {
        Self { problem, refusal: Some(refusal) }
    }
}

/// Serves a connection whose first bytes, `read`, are those of a peer, to its end.
pub(crate) async fn serve(peers: Arc<Inner>, mut socket: TcpStream, read: Bytes) {
    let Ok(address) = socket.peer_addr() else { return };
    socket_options::set(&socket);
    let mut reader = FrameReader::new(GREETING_BYTES_MAX, &read);
    drop(read);
    let greeting = match greeting(&peers, &mut socket, &mut reader).await {
        Ok(greeting) => greeting,
        Err(turned_away) => return turn_away(&peers, socket, address, turned_away).await,
    };
    if let Err(turned_away) = judge(&peers.hello(), &greeting) {
        return turn_away(&peers, socket, address, turned_away).await;
    }
    let shared = peers.new_link(greeting.hello.clone(), address);
    let link = InboundLink::new(shared, greeting.expected.is_some());
    let mut registered = match Registered::register(&peers, link.clone(), greeting.dial).await {
        Ok(registered) => registered,
        Err(turned_away) => return turn_away(&peers, socket, address, turned_away).await,
    };
    // From here on a change of who this node is ends the link; before, it did not know of it.
    let me = peers.hello();
    if let Err(turned_away) = judge(&me, &greeting) {
        drop(registered);
        return turn_away(&peers, socket, address, turned_away).await;
    }
    if let Err(error) = write_frame(&mut socket, FrameType::Hello, me.encode()).await {
        tracing::debug!("the connection from {address} failed: {error}");
        return;
    }
    reader.set_limit(PAYLOAD_BYTES_MAX);
    registered.accepted();
    peers.nudge(link.peer().node());
    let end = Link::new(
        (socket, reader),
        link.shared().clone(),
        peers.handler.clone(),
        Role::Acceptor(link.clone()),
        me,
        peers.settings.link_settings(None),
    )
    .await;
    tracing::debug!("the connection from node {} at {address} ended: {end}", link.peer().node());
    link.shared().end(end);
}

async fn greeting(
    peers: &Inner,
    socket: &mut TcpStream,
    reader: &mut FrameReader,
) -> Result<Greeting, TurnAway> {
    let time = peers.settings.greeting_timeout;
    let Ok(frame) = timeout(time, reader.read_frame(socket)).await else {
        return Err(TurnAway::silently(format!("no greeting came within {} ms", time.as_millis())));
    };
    let frame = match frame {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(TurnAway::silently("it closed before it greeted".to_owned())),
        Err(ReadError::Socket(error)) => return Err(TurnAway::silently(error.to_string())),
        Err(ReadError::Frame(FrameError::Version(theirs))) => {
            let problem = format!(
                "it speaks version {theirs} of the peer protocol, this node version {PROTOCOL_VERSION}: upgrade the older \
                 of the two"
            );
            return Err(TurnAway::saying(RefusalCode::Version, problem));
        }
        Err(ReadError::Frame(error)) => {
            return Err(TurnAway::saying(RefusalCode::Protocol, error.to_string()));
        }
    };
    if frame.frame_type != FrameType::Hello {
        let problem = format!("it sent a {:?} before it greeted", frame.frame_type);
        return Err(TurnAway::saying(RefusalCode::Protocol, problem));
    }
    Greeting::decode(frame.payload)
        .map_err(|error| TurnAway::saying(RefusalCode::Protocol, error.to_string()))
}

/// Judges who greets.
fn judge(me: &Hello, greeting: &Greeting) -> Result<(), TurnAway> {
    let Greeting { hello, expected, .. } = greeting;
    let node = hello.node_id;
    if hello.incarnation == me.incarnation {
        let problem = "this node dialled itself: one of the addresses of other nodes is its own".to_owned();
        return Err(TurnAway::saying(RefusalCode::Myself, problem));
    }
    if let Some(expected) = expected
        && *expected != me.node_id
    {
        let problem = format!("node {node} looks for node {expected} here, but this is node {}", me.node_id);
        return Err(TurnAway::saying(RefusalCode::WrongNode, problem));
    }
    if me.is_of_another_cluster(hello) {
        let problem = format!(
            "node {node} belongs to cluster {}, this node to {}: a node can't be in two clusters",
            hello.cluster_id, me.cluster_id
        );
        return Err(TurnAway::saying(RefusalCode::OtherCluster, problem));
    }
    // Where only the address was known, ids may not be settled yet.
    if expected.is_some() && node == me.node_id {
        let problem = format!("another node has the id {node}, too: give one of the two another id");
        return Err(TurnAway::saying(RefusalCode::SameNodeId, problem));
    }
    Ok(())
}

async fn turn_away(peers: &Inner, mut socket: TcpStream, address: SocketAddr, turned_away: TurnAway) {
    let TurnAway { problem, refusal } = turned_away;
    peers.turned_away(address, &problem);
    let Some(code) = refusal else { return };
    let payload = Refusal { code, hello: peers.hello(), text: problem }.encode();
    // Closing while bytes are unread would take the refusal back; so they are read, for a while.
    let _ = timeout(LINGER, async {
        write_frame(&mut socket, FrameType::Refused, payload).await?;
        socket.shutdown().await?;
        let mut sink = [0; 4096];
        let mut left = GREETING_BYTES_MAX;
        while left > 0 {
            match socket.read(&mut sink).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}

/// A link that is known to the node, until this goes.
struct Registered {
    peers: Arc<Inner>,
    link: InboundLink,
    is_accepted: bool,
}

impl Registered {
    /// Makes `link` known, in place of an earlier one of the same node.
    async fn register(peers: &Arc<Inner>, link: InboundLink, dial: u64) -> Result<Self, TurnAway> {
        let deadline = Instant::now() + REPLACE_WAIT;
        loop {
            let changed = peers.inbound_changed.notified();
            match peers.register_inbound(&link, dial) {
                Ok(None) => {
                    return Ok(Self { peers: peers.clone(), link, is_accepted: false });
                }
                Ok(Some(earlier)) => {
                    earlier.shared().close(LinkEnd::Replaced);
                    if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                        let problem = "an earlier connection from the same node does not end".to_owned();
                        return Err(TurnAway::saying(RefusalCode::Superseded, problem));
                    }
                }
                Err(code) => {
                    let problem = match code {
                        RefusalCode::Stopping => "this node stops",
                        _ => "a later connection from the same node is open",
                    };
                    return Err(TurnAway::saying(code, problem.to_owned()));
                }
            }
        }
    }

    fn accepted(&mut self) {
        self.is_accepted = true;
        self.peers.handler.accepted(&self.link);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.link.shared().end(LinkEnd::Stopped);
        if self.is_accepted {
            self.peers.handler.closed(&self.link);
        }
        self.peers.unregister_inbound(&self.link);
    }
}
