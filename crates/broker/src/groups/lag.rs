//! Figures of groups for the metrics page: how many there are, and how far each is behind.

use chronik_coordinator::GroupState;
use chronik_metrics::Page;

use crate::Broker;
use crate::groups::Groups;
use crate::metric_families as families;

impl Groups {
    /// Appends the figures to the page.
    pub(crate) fn write_metrics(&self, broker: &Broker, page: &mut Page) {
        let most = broker.dynamic().config.metrics_groups_max;
        let shards = self.shards();
        let mut states = GroupState::ALL.map(|state| (state, 0usize));
        let mut committed = Vec::new();
        let mut left_out = 0usize;
        for shard in shards.iter() {
            shard.inspect(|coordinator| {
                for (total, (_, count)) in states.iter_mut().zip(coordinator.groups_by_state()) {
                    total.1 += count;
                }
                for (group, topic, partition, offset) in coordinator.committed_offsets() {
                    if committed.len() < most {
                        committed.push((group.clone(), topic.clone(), partition, offset.offset));
                    } else {
                        left_out += 1;
                    }
                }
            });
        }
        page.lines(&families::GROUPS, states.map(|(state, count)| ([state.to_string()], count as f64)));
        let lags = committed.into_iter().filter_map(|(group, topic, partition, offset)| {
            let found = broker.topics.partition(&topic, partition)?;
            let lag = found.high_watermark().saturating_sub(offset).max(0);
            Some(([group.to_string(), topic.to_string(), partition.to_string()], lag as f64))
        });
        page.lines(&families::CONSUMER_LAG, lags);
        page.value(&families::CONSUMER_LAG_LEFT_OUT, left_out);
    }
}
