//! The life of one connection: Kafka's protocol, or HTTP, whichever its first bytes begin.

use std::net::SocketAddr;
use std::sync::Arc;

use chronik_broker::ConnectionContext;
use chronik_http::Caller;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::connection::{Connection, Ending};
use crate::control::{Control, Phase};
use crate::http;
use crate::listener::Shared;
use crate::registry::Place;
use crate::service::BrokerService;
use crate::transport::PlainSocket;

/// Serves a connection to its end. It holds its `place` as long.
/// `is_local` says that only this machine reaches the listener that took it.
pub(crate) async fn serve(
    stream: TcpStream,
    control: Arc<Control>,
    place: Place,
    shared: Arc<Shared>,
    is_local: bool,
) {
    let peer = control.peer();
    // Answers are small and somebody waits for each.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let context = Arc::new(ConnectionContext::new(peer, canonical(local)));
    let service = BrokerService::new(shared.broker.clone(), context);
    let mut connection = Connection::new(
        PlainSocket::new(stream),
        service,
        control.clone(),
        shared.gate.clone(),
        shared.limits,
    );
    match (&mut connection).await {
        Ending::Http(read) => {
            control.set_phase(Phase::Http);
            let stream = connection.into_transport().into_inner();
            // Boxed, so that the tasks of Kafka's connections need not have room for it.
            match shared.http_places.try_acquire() {
                Ok(_place) => {
                    let caller = Caller { peer, is_local };
                    Box::pin(http::serve(stream, read, &control, shared.routes.clone(), caller)).await;
                }
                Err(_) => {
                    let limit = shared.http_connections_max;
                    shared.warn("HTTP connection limit", || {
                        format!("refused the HTTP connection of {peer}: {limit} are open (raise http.max.connections to allow more)")
                    });
                    Box::pin(http::refuse(stream, limit)).await;
                }
            }
        }
        Ending::Refused(reason) => {
            shared.warn(reason.kind, || format!("closed the connection of {peer} to {local}: {reason}"));
        }
        Ending::Peer(read) => {
            // Nodes say themselves whether they are there; the sweep leaves them alone.
            control.set_phase(Phase::Peer);
            let stream = connection.into_transport().into_inner();
            Box::pin(shared.peers.serve(stream, read)).await;
        }
        Ending::Socket(error) => tracing::debug!("the connection of {peer} failed: {error}"),
        Ending::Client | Ending::Answered | Ending::Draining => {
            let _ = connection.transport_mut().shutdown().await;
        }
    }
    drop(place);
}

/// An IPv4 client of an IPv6 socket is shown, and told, IPv4 addresses.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
