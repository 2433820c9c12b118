//! One member of a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::RequestId;
use crate::records::MemberRecord;
use crate::request::JoinGroupRequest;
use crate::timers::TimerHandle;

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) session_timeout_ms: u64,
    pub(crate) rebalance_timeout_ms: u64,
    /// Supported protocols with their metadata, the preferred first.
    pub(crate) protocols: Vec<(Arc<str>, Bytes)>,
    pub(crate) assignment: Bytes,
    /// The member has never completed a rebalance, so its client cannot send heartbeats yet.
    pub(crate) is_new: bool,
    /// The join that waits for the rebalance to end.
    pub(crate) join: Option<RequestId>,
    /// The sync that waits for the leader's assignment.
    pub(crate) sync: Option<RequestId>,
    /// When the session ends. The timer may be set earlier: a heartbeat only moves this, and the timer, when it
    /// fires too early, is set anew.
    pub(crate) session_deadline: u64,
    pub(crate) session_timer: Option<TimerHandle>,
}

impl Member {
    /// A member that joins for the first time.
    pub(crate) fn joining(id: Arc<str>, request: &JoinGroupRequest) -> Self {
        let mut member = Self {
            id,
            instance_id: request.group_instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            is_new: true,
            join: None,
            sync: None,
            session_deadline: 0,
            session_timer: None,
        };
        member.update(request);
        member
    }

    /// A member of a stable group, read from the log.
    pub(crate) fn loaded(record: MemberRecord, protocol: Arc<str>) -> Self {
        let session_timeout_ms = millis(record.session_timeout_ms);
        Self {
            id: record.member_id,
            instance_id: record.group_instance_id,
            client_id: record.client_id,
            client_host: record.client_host,
            session_timeout_ms,
            rebalance_timeout_ms: match record.rebalance_timeout_ms {
                ..0 => session_timeout_ms,
                timeout => millis(timeout),
            },
            protocols: vec![(protocol, owned(&record.subscription))],
            assignment: owned(&record.assignment),
            is_new: false,
            join: None,
            sync: None,
            session_deadline: 0,
            session_timer: None,
        }
    }

    /// Takes over what a join says about timeouts and protocols.
    pub(crate) fn update(&mut self, request: &JoinGroupRequest) {
        self.session_timeout_ms = millis(request.session_timeout_ms);
        self.rebalance_timeout_ms = match request.rebalance_timeout_ms {
            ..0 => self.session_timeout_ms,
            timeout => millis(timeout),
        };
        // Named twice, a protocol would count twice among what the members have in common.
        let mut seen = BTreeSet::new();
        self.protocols = request
            .protocols
            .iter()
            .filter(|(name, _)| seen.insert(name))
            .map(|(name, metadata)| (name.clone(), owned(metadata)))
            .collect();
    }

    /// True if a join brings the very protocols that the member has already.
    pub(crate) fn matches(&self, protocols: &[(Arc<str>, Bytes)]) -> bool {
        self.protocols == protocols
    }

    /// What the member sent for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| **name == *protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// The member's favourite among the candidates.
    pub(crate) fn vote(&self, candidates: &BTreeSet<Arc<str>>) -> Option<Arc<str>> {
        self.protocols.iter().map(|(name, _)| name).find(|name| candidates.contains(*name)).cloned()
    }

    /// The member as a record of the group's metadata.
    pub(crate) fn record(&self, protocol: &str, assignment: Bytes) -> MemberRecord {
        MemberRecord {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: i32::try_from(self.rebalance_timeout_ms).unwrap_or(i32::MAX),
            session_timeout_ms: i32::try_from(self.session_timeout_ms).unwrap_or(i32::MAX),
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}

/// A copy that does not keep the request's whole frame in memory for as long as the member lives.
pub(crate) fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn millis(timeout: i32) -> u64 {
    u64::try_from(timeout).unwrap_or(0)
}
