//! The settings of a coordinator, under Kafka's names.

/// Settings of a [`GroupCoordinator`](crate::GroupCoordinator). `Default` gives this broker's defaults, which are
/// Kafka's except for `group.initial.rebalance.delay.ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// `group.min.session.timeout.ms`: the shortest session timeout that a member may ask for. Kafka: 6,000.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: the longest session timeout that a member may ask for. Kafka: 1,800,000.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members that a group takes. Kafka: 2,147,483,647.
    pub max_group_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for further
    /// members. Every member that joins in this time starts the wait anew, at most
    /// [`MAX_INITIAL_DELAYS`] times in all and never beyond the members' rebalance timeout.
    ///
    /// Kafka waits 3,000 ms, so that nobody sees a first message before that. Members that are started together
    /// join within a few milliseconds of each other, so a short wait that arrivals prolong collects them as well:
    /// the default here is 50 ms. With 0 the first member is served at once, and each further one causes a rebalance.
    pub initial_rebalance_delay_ms: u64,
    /// How long a member that has just joined may wait for its first rebalance to end before it is dropped, in
    /// milliseconds. It has no session yet that could expire; Kafka fixes this at 300,000.
    pub new_member_join_timeout_ms: u64,
    /// `offset.metadata.max.bytes`: length of the text that may go with a committed offset, in UTF-16 units as
    /// Kafka counts. Kafka: 4,096.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets outlive their group's members, or for
    /// groups that never had any, their commit (KIP-211). Kafka: 7 days.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: time from one search for expired offsets to the next. Kafka: 600,000.
    pub offsets_retention_check_interval_ms: u64,
}

/// The first rebalance of a group waits at most this many times [`CoordinatorConfig::initial_rebalance_delay_ms`].
pub const MAX_INITIAL_DELAYS: u64 = 20;

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_group_size: i32::MAX as usize,
            initial_rebalance_delay_ms: 50,
            new_member_join_timeout_ms: 300_000,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}
