//! What people and programs are told about a partition's followers.

use chronik_base::NodeId;

use crate::leader::Leader;
use crate::member::MemberState;

/// Whom the high watermark waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingOn {
    /// The member; the leader itself where its own disk is what is slow.
    pub node: NodeId,
    /// The end of what it last acknowledged: everything below is flushed there.
    pub acked_end: i64,
    /// How long ago, in milliseconds; `None` if it never did in this leader epoch.
    pub acked_ago_ms: Option<u64>,
    /// Why it is late.
    pub cause: WaitCause,
}

/// Why a member holds the high watermark back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// The leader's own flush.
    OwnFlush,
    /// It is connected and has not flushed yet.
    Slow,
    /// Its stream ended.
    Disconnected,
    /// Nobody listens at its address.
    Refused,
    /// Its disk takes no writes.
    Unable,
    /// It did not subscribe since this leader began.
    NeverSubscribed,
    /// The ISR is smaller than `min.insync.replicas`; the node is the leader.
    TooFewInSync,
}

impl std::fmt::Display for WaitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            WaitCause::OwnFlush => "its own flush to disk",
            WaitCause::Slow => "slow",
            WaitCause::Disconnected => "disconnected",
            WaitCause::Refused => "connection refused",
            WaitCause::Unable => "its disk takes no writes",
            WaitCause::NeverSubscribed => "never subscribed",
            WaitCause::TooFewInSync => "fewer in sync than min.insync.replicas",
        })
    }
}

/// How far a follower is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerLag {
    /// The follower.
    pub node: NodeId,
    /// Whether it is in the ISR that the quorum decided on.
    pub in_isr: bool,
    /// How it is doing.
    pub state: MemberState,
    /// The end of what it has flushed.
    pub flushed_end: i64,
    /// Records of the leader's log that it has not flushed.
    pub records: i64,
    /// Time since it last held everything that the leader held, in milliseconds; 0 while it does.
    pub behind_ms: u64,
    /// How long ago it last acknowledged, in milliseconds; `None` if it never did in this leader epoch.
    pub acked_ago_ms: Option<u64>,
    /// How long it is in the state of its connection, in milliseconds.
    pub link_ms: u64,
}

impl<T> Leader<T> {
    /// Who holds the high watermark back: the one that has flushed least; of several, one that is not there. `None` where nothing is waited for.
    pub fn waiting_on(&self, now_ms: u64) -> Option<WaitingOn> {
        let rank = |state: MemberState| match state {
            MemberState::Refused | MemberState::Unable => 0,
            MemberState::Disconnected => 1,
            MemberState::NeverSubscribed => 2,
            MemberState::CatchingUp => 3,
            MemberState::CaughtUp => 4,
        };
        let slowest = self
            .followers
            .iter()
            .filter(|member| member.counts() && member.flushed < self.appended)
            .min_by_key(|member| (member.flushed, rank(member.state(self.appended))));
        let own = WaitingOn {
            node: self.node,
            acked_end: self.flushed,
            acked_ago_ms: None,
            cause: WaitCause::OwnFlush,
        };
        match slowest {
            Some(member) if member.flushed <= self.flushed => Some(WaitingOn {
                node: member.node,
                acked_end: member.flushed,
                acked_ago_ms: member.last_ack_ms.map(|at| now_ms.saturating_sub(at)),
                cause: match member.state(self.appended) {
                    MemberState::NeverSubscribed => WaitCause::NeverSubscribed,
                    MemberState::Disconnected => WaitCause::Disconnected,
                    MemberState::Refused => WaitCause::Refused,
                    MemberState::Unable => WaitCause::Unable,
                    MemberState::CatchingUp | MemberState::CaughtUp => WaitCause::Slow,
                },
            }),
            _ if self.flushed < self.appended => Some(own),
            _ if self.high_watermark < self.appended => {
                Some(WaitingOn { cause: WaitCause::TooFewInSync, ..own })
            }
            _ => None,
        }
    }

    /// How far each follower is behind.
    pub fn lag(&self, now_ms: u64) -> impl Iterator<Item = FollowerLag> {
        self.followers.iter().map(move |member| FollowerLag {
            node: member.node,
            in_isr: member.in_isr,
            state: member.state(self.appended),
            flushed_end: member.flushed,
            records: self.appended.saturating_sub(member.flushed).max(0),
            behind_ms: member.behind_ms(self.appended, now_ms),
            acked_ago_ms: member.last_ack_ms.map(|at| now_ms.saturating_sub(at)),
            link_ms: now_ms.saturating_sub(member.link_since_ms),
        })
    }
}
