//! The library's calls to other nodes, over a [`Transport`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{CallError, Transport};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RPCTypes, RaftNetwork, RaftNetworkFactory};

use crate::messages::{Message, SnapshotPiece, kind};
use crate::types::{Snapshot, TypeConfig, Vote, node_id};

/// Bytes of a snapshot that travel in one request.
const PIECE: usize = 1 << 20;

/// A piece of a snapshot has this long; the last one is answered when the snapshot is on the disk there.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// An unreachable node is tried again after this, and then ever more rarely up to the second.
const BACKOFF_MS: (u64, u64) = (20, 200);

/// The ways to all other nodes.
pub(crate) struct Links {
    pub(crate) me: u64,
    pub(crate) transport: Arc<dyn Transport>,
    contacts: Mutex<BTreeMap<u64, Contact>>,
}

/// What is known of another node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    /// When the last request was sent that the node answered to this node as its leader, and the vote it led with.
    pub(crate) answered: Option<(Vote, Instant)>,
    /// What is wrong with the last call.
    pub(crate) problem: Option<String>,
}

impl Links {
    pub(crate) fn new(me: u64, transport: Arc<dyn Transport>) -> Self {
        Self { me, transport, contacts: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Contact>> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a node.
    pub(crate) fn contact(&self, node: u64) -> Contact {
        self.lock().get(&node).cloned().unwrap_or_default()
    }

    /// When those who answered a leader with this vote were sent what they answered.
    pub(crate) fn answered(&self, vote: &Vote) -> BTreeMap<u64, Instant> {
        let contacts = self.lock();
        let of_vote = |contact: &Contact| contact.answered.filter(|(v, _)| v == vote).map(|(_, at)| at);
        contacts.iter().filter_map(|(node, contact)| Some((*node, of_vote(contact)?))).collect()
    }

    fn on_answer(&self, node: u64, vote: &Vote, sent: Instant) {
        let mut contacts = self.lock();
        let contact = contacts.entry(node).or_default();
        let later = contact.answered.is_none_or(|(known, at)| known != *vote || at < sent);
        if later {
            contact.answered = Some((*vote, sent));
        }
        contact.problem = None;
    }

    fn on_problem(&self, node: u64, problem: String) {
        self.lock().entry(node).or_default().problem = Some(problem);
    }

    /// Asks a node, and reads its answer.
    pub(crate) async fn call<A: Message>(
        &self,
        to: u64,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let node = node_id(to);
        let answer = self.transport.call(node, kind, payload, timeout).await.and_then(|answer| {
            A::decode(answer).map_err(|error| CallError::Refused { node, problem: error.to_string() })
        });
        if let Err(error) = &answer {
            self.on_problem(to, error.to_string());
        }
        answer
    }
}

/// Makes the ways.
pub(crate) struct Network(pub(crate) Arc<Links>);

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Link {
        Link { target, links: Arc::clone(&self.0) }
    }
}

/// The way to one node.
pub(crate) struct Link {
    target: u64,
    links: Arc<Links>,
}

type RpcError = RPCError<u64, BasicNode, RaftError<u64>>;

impl Link {
    /// Everything but a timeout makes the library wait a little before it tries again.
    fn rpc_error(&self, action: RPCTypes, timeout: Duration, error: &CallError) -> RpcError {
        match error {
            CallError::TimedOut { .. } => {
                RPCError::Timeout(Timeout { action, id: self.links.me, target: self.target, timeout })
            }
            error => RPCError::Unreachable(Unreachable::new(error)),
        }
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let sent = Instant::now();
        let timeout = option.hard_ttl();
        let answer = self.links.call(self.target, kind::APPEND, rpc.encode(), timeout).await;
        let answer = answer.map_err(|error| self.rpc_error(RPCTypes::AppendEntries, timeout, &error))?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.links.on_answer(self.target, &rpc.vote, sent);
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        let timeout = option.hard_ttl();
        let answer = self.links.call(self.target, kind::VOTE, rpc.encode(), timeout).await;
        answer.map_err(|error| self.rpc_error(RPCTypes::Vote, timeout, &error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let image = Arc::clone(&snapshot.snapshot.0);
        let encoded = tokio::task::spawn_blocking(move || Bytes::from(image.encode())).await;
        let bytes = encoded.map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let (length, crc) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        let mut cancel = pin!(cancel);
        let mut position = 0;
        loop {
            let end = bytes.len().min(position + PIECE);
            let piece = SnapshotPiece {
                vote,
                meta: snapshot.meta.clone(),
                position: position as u64,
                length,
                crc,
                bytes: bytes.slice(position..end),
            };
            let sent = Instant::now();
            let call = self.links.call(self.target, kind::SNAPSHOT, piece.encode(), PIECE_TIMEOUT);
            let answer: Result<SnapshotResponse<u64>, CallError> = tokio::select! {
                closed = &mut cancel => return Err(StreamingError::Closed(closed)),
                answer = call => answer,
            };
            let answer = answer.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
            if answer.vote > vote {
                return Ok(answer);
            }
            self.links.on_answer(self.target, &vote, sent);
            position = end;
            if position == bytes.len() {
                return Ok(answer);
            }
        }
    }

    fn backoff(&self) -> Backoff {
        let (first, most) = BACKOFF_MS;
        let doubled = std::iter::successors(Some(first), move |ms| Some((ms * 2).min(most)));
        Backoff::new(doubled.map(Duration::from_millis))
    }
}
