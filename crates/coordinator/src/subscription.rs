//! Reads the topics out of what a consumer sends as its metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Adds the topics of a consumer's subscription to `topics`; false if it is not one.
///
/// The layout (`ConsumerProtocolSubscription`): a version, then a list of topic names; later versions only add at
/// the end, so the first fields can be read from all of them.
pub(crate) fn subscribed_topics(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> bool {
    read(metadata, topics).is_some()
}

fn read(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Option<()> {
    let (version, mut rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, tail) = rest.split_first_chunk::<4>()?;
    rest = tail;
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, tail) = tail.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.into());
        rest = tail;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(metadata: &[u8]) -> Option<Vec<String>> {
        let mut topics = BTreeSet::new();
        subscribed_topics(metadata, &mut topics).then(|| topics.iter().map(|t| t.to_string()).collect())
    }

    #[test]
    fn reads_topics_of_any_version() {
        assert_eq!(topics(b"\0\0\0\0\0\x02\0\x01b\0\x01a"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(topics(b"\0\x03\0\0\0\x01\0\x01aand what later versions add"), Some(vec!["a".into()]));
        assert_eq!(topics(b"\0\0\0\0\0\0"), Some(vec![]));
    }

    #[test]
    fn refuses_what_is_not_a_subscription() {
        let whole: &[u8] = b"\0\0\0\0\0\x02\0\x01b\0\x01a";
        for length in 0..whole.len() {
            assert_eq!(topics(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(topics(b"\xff\xff\0\0\0\0"), None);
        assert_eq!(topics(b"\0\0\xff\xff\xff\xff"), None);
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x01\xff"), None);
    }
}
