//! How nodes come together: one asks for a place in a cluster (`join`), or a standalone node asks others to follow it
//! (`replication.followers`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_base::Uuid;
use chronik_broker::Broker;
use chronik_meta::Endpoint;
use chronik_peer::Peers;
use chronik_quorum::{Invitation, InviteAnswer, JoinRequest, Joined, kind};

use crate::membership::{Place, reachable};

/// How long another node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// What failed is tried again after this long, later after twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);
/// A node that was invited starts anew; it is asked again after this long.
const RESTART_TIME: Duration = Duration::from_millis(500);
/// A follower that follows is looked after so often: it may have come back with an empty disk.
const CARE_INTERVAL: Duration = Duration::from_secs(5);

/// Asks the nodes at `addresses`, in turn, for a place in their cluster, until one of them gives it.
pub(crate) async fn join(
    peers: &Peers,
    addresses: &[String],
    place: &Place,
    wanted: Option<i32>,
    rack: Option<String>,
    endpoints: Vec<Endpoint>,
    incarnation: Uuid,
) -> Joined {
    let request = JoinRequest {
        cluster_id: place.identity.cluster_id.unwrap_or(Uuid::ZERO),
        directory: place.identity.directory,
        incarnation,
        wanted,
        rack,
        endpoints,
    };
    let payload = request.encode();
    let mut retry = RETRY_FIRST;
    let mut told = String::new();
    loop {
        for address in addresses {
            let problem = match peers.call_address(address, kind::JOIN, payload.clone(), ANSWER_TIMEOUT).await
            {
                Ok((answer, _)) => match Joined::decode(answer) {
                    Ok(joined) => {
                        tracing::info!(
                            "node {} of cluster {}, joined at {address}",
                            joined.node_id,
                            joined.cluster_id
                        );
                        return joined;
                    }
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            // One line for each problem, not for each try.
            if problem != told {
                tracing::warn!("can't join the cluster at {address}, trying on: {problem}");
                told = problem;
            }
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MOST);
    }
}

/// Sees to it that the node at `address` follows this one; runs until it is aborted.
pub(crate) async fn keep_follower(
    broker: Arc<Broker>,
    peers: Peers,
    address: String,
    own: std::net::SocketAddr,
) {
    let mut retry = RETRY_FIRST;
    let mut told = None;
    loop {
        let now = match invite(&broker, &peers, &address, own).await {
            Ok(InviteAnswer::Joining) => Ok("comes to follow"),
            Ok(InviteAnswer::Member) => Ok("follows"),
            Ok(InviteAnswer::Refused(why)) | Err(why) => Err(why),
        };
        broker.set_follower_problem(&address, now.as_ref().err().cloned());
        if told.as_ref() != Some(&now) {
            match &now {
                Ok(what) => tracing::info!("the node at {address} {what}"),
                Err(why) => tracing::warn!("no follower at {address}, trying on: {why}"),
            }
        }
        let wait = match &now {
            Ok("follows") => CARE_INTERVAL,
            // It starts anew first.
            Ok(_) => RESTART_TIME,
            Err(_) => retry,
        };
        retry = if now.is_ok() { RETRY_FIRST } else { (retry * 2).min(RETRY_MOST) };
        told = Some(now);
        tokio::time::sleep(wait).await;
    }
}

async fn invite(
    broker: &Arc<Broker>,
    peers: &Peers,
    address: &str,
    own: std::net::SocketAddr,
) -> Result<InviteAnswer, String> {
    let hello = peers.hello_at(address, ANSWER_TIMEOUT).await.map_err(|error| error.to_string())?;
    let (host, port) = address.rsplit_once(':').ok_or("its address is not HOST:PORT")?;
    let port = port.parse().map_err(|_| "its address is not HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let endpoints = [chronik_broker::KAFKA_LISTENER, chronik_broker::INTERNAL_LISTENER]
        .map(|listener| Endpoint { listener: listener.to_owned(), host: host.clone(), port });
    let quorum = broker.quorum();
    let cluster_id = quorum.image().cluster_id();
    let joined = quorum
        .join(JoinRequest {
            cluster_id: hello.cluster_id,
            directory: hello.directory,
            incarnation: hello.incarnation,
            wanted: None,
            rack: None,
            endpoints: endpoints.into(),
        })
        .await?;
    let invitation = Invitation {
        cluster_id,
        leader: broker.node_id(),
        leader_address: format!("{}:{}", bracketed(&reachable(own, Some(address))), own.port()),
        node_id: joined.node_id,
    };
    let payload: Bytes = invitation.encode();
    let (answer, _) = peers
        .call_address(address, kind::INVITE, payload, ANSWER_TIMEOUT)
        .await
        .map_err(|error| error.to_string())?;
    InviteAnswer::decode(answer).map_err(|error| error.to_string())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
