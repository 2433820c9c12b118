//! Nodes whose process is gone, as far as this node has seen itself, and of which the quorum has not decided yet.

use std::collections::HashMap;
use std::sync::Mutex;

use chronik_base::NodeId;
use chronik_meta::Image;

use crate::sync::Hold;

/// A broker that was fenced is shown to clients for so long yet, in milliseconds. librdkafka (2.12) drops a broker that it is no longer told of,
/// and with it the partitions that it is just moving away from it: with the one answer that says both, they are without a leader for a second.
const SHOWN_FOR_MS: u64 = 5_000;
/// After this the quorum's word is all that counts, in milliseconds: it has had the time to fence a node that is really gone.
const BELIEVED_FOR_MS: u64 = 2_000;

/// Between the end of a leader's process and the election of another, clients that ask who leads are told that nobody does, and ask
/// again soon. Told the old leader's name, librdkafka takes the partition for led and asks once a second.
#[derive(Default)]
pub(crate) struct Gone {
    /// Each with the broker epoch that it had, and when nobody listened at its address any more.
    nodes: Mutex<HashMap<NodeId, (i64, u64)>>,
    /// When brokers were fenced.
    fenced: Mutex<HashMap<NodeId, u64>>,
}

impl Gone {
    /// Nobody listens at the node's address.
    pub(crate) fn note(&self, node: NodeId, image: &Image, now_ms: u64) {
        let Some(registered) = image.broker(node) else { return };
        let mut nodes = self.nodes.hold();
        if nodes.get(&node).is_none_or(|(epoch, _)| *epoch != registered.epoch) {
            nodes.insert(node, (registered.epoch, now_ms));
        }
    }

    /// It answers again.
    pub(crate) fn forget(&self, node: NodeId) {
        self.nodes.hold().remove(&node);
    }

    /// The metadata changed: notes who is fenced now and was not.
    pub(crate) fn on_image(&self, before: &Image, after: &Image, now_ms: u64) {
        let fenced = |image: &Image, id| image.broker(id).is_some_and(|broker| broker.fenced);
        let newly = after.brokers().filter(|broker| broker.fenced);
        for broker in newly.filter(|broker| before.broker(broker.id).is_some() && !fenced(before, broker.id))
        {
            let mut all = self.fenced.hold();
            all.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < SHOWN_FOR_MS);
            all.insert(broker.id, now_ms);
        }
    }

    /// Whether a fenced broker was not until a moment ago.
    pub(crate) fn is_newly_fenced(&self, node: NodeId, now_ms: u64) -> bool {
        self.fenced.hold().get(&node).is_some_and(|at_ms| now_ms.saturating_sub(*at_ms) < SHOWN_FOR_MS)
    }

    /// The nodes that are gone; none but within moments of a failure.
    pub(crate) fn nodes(&self, image: &Image, now_ms: u64) -> Vec<NodeId> {
        let nodes = self.nodes.hold();
        let gone = nodes.iter().filter(|(node, (epoch, at_ms))| {
            now_ms.saturating_sub(*at_ms) < BELIEVED_FOR_MS
                && image.broker(**node).is_some_and(|registered| registered.epoch == *epoch)
        });
        gone.map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster_view::tests::image;

    #[test]
    fn a_node_is_gone_until_it_is_back_or_the_quorum_has_had_its_time() {
        let (gone, cluster) = (Gone::default(), image(3, &[]));
        assert_eq!(gone.nodes(&cluster, 0), [0; 0]);
        gone.note(2, &cluster, 100);
        gone.note(2, &cluster, 1_500);
        assert_eq!(gone.nodes(&cluster, 1_600), [2]);
        assert_eq!(gone.nodes(&cluster, 100 + BELIEVED_FOR_MS), [0; 0], "since the first refusal");
        gone.forget(2);
        gone.note(2, &cluster, 5_000);
        assert_eq!(gone.nodes(&cluster, 5_000), [2]);
        gone.forget(2);
        assert_eq!(gone.nodes(&cluster, 5_000), [0; 0]);
        gone.note(7, &cluster, 5_000);
        assert_eq!(gone.nodes(&cluster, 5_000), [0; 0], "it is no broker");
    }

    #[test]
    fn a_broker_is_shown_for_a_while_after_it_was_fenced() {
        let (gone, whole, less) = (Gone::default(), image(3, &[]), image(3, &[2]));
        gone.on_image(&Image::default(), &less, 0);
        assert!(!gone.is_newly_fenced(2, 0), "it was fenced when this node first heard of it");
        gone.on_image(&whole, &less, 100);
        assert!(gone.is_newly_fenced(2, 100 + SHOWN_FOR_MS - 1));
        assert!(!gone.is_newly_fenced(2, 100 + SHOWN_FOR_MS));
        assert!(!gone.is_newly_fenced(1, 100));
    }
}
