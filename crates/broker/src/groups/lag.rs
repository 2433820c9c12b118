//! Figures of groups for the metrics page: how many there are, and how far each is behind.

use std::fmt::Write;

use chronik_coordinator::GroupState;

use crate::Broker;
use crate::groups::Groups;

/// Lines of lag on the page at most; what is left out is counted.
const LAG_LINES_MAX: usize = 10_000;

impl Groups {
    /// Appends the figures as Prometheus text.
    pub(crate) fn render(&self, broker: &Broker, page: &mut String) {
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
                    if committed.len() < LAG_LINES_MAX {
                        committed.push((group.clone(), topic.clone(), partition, offset.offset));
                    } else {
                        left_out += 1;
                    }
                }
            });
        }
        page.push_str("# HELP chronik_groups Groups, by state.\n# TYPE chronik_groups gauge\n");
        for (state, count) in states {
            let _ = writeln!(page, "chronik_groups{{state=\"{state}\"}} {count}");
        }
        page.push_str(
            "# HELP chronik_consumer_lag Records between a group's committed offset and the end of the partition.\n\
             # TYPE chronik_consumer_lag gauge\n",
        );
        for (group, topic, partition, offset) in committed {
            let Some(found) = broker.topics.partition(&topic, partition) else { continue };
            let lag = found.high_watermark().saturating_sub(offset).max(0);
            page.push_str("chronik_consumer_lag{group=\"");
            escape(&group, page);
            page.push_str("\",topic=\"");
            escape(&topic, page);
            let _ = writeln!(page, "\",partition=\"{partition}\"}} {lag}");
        }
        page.push_str(
            "# HELP chronik_consumer_lag_left_out Committed offsets that the page had no room for.\n\
             # TYPE chronik_consumer_lag_left_out gauge\n",
        );
        let _ = writeln!(page, "chronik_consumer_lag_left_out {left_out}");
    }
}

/// A label's value, as the text format wants it.
fn escape(value: &str, page: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels_are_escaped() {
        let mut page = String::new();
        super::escape("a\"b\\c\nd", &mut page);
        assert_eq!(page, "a\\\"b\\\\c\\nd");
    }
}
