//! Producer ids: taken from the metadata in blocks, so that most of them cost nothing.

use std::ops::Range;

use chronik_base::ErrorCode;
use chronik_meta::{Command, Reply};
use tokio::sync::Mutex;

use crate::metadata::Metadata;

/// Ids in a block. What is left of one when the node ends is never used.
const BLOCK: u32 = 1000;

/// The block in use.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// An id that nobody had before.
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<i64, ErrorCode> {
        // Whoever comes while a block is being taken waits for that one.
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        let results = metadata.commit(vec![Command::AllocateProducerIds { count: BLOCK }]).await;
        match results.first() {
            Some(Ok(Reply::ProducerIds { first, count })) => {
                *block = *first..first.saturating_add(i64::from(*count));
                block.next().ok_or(ErrorCode::UnknownServerError)
            }
            Some(Err(error)) => {
                tracing::warn!("no producer ids: {error}");
                Err(error.code())
            }
            _ => Err(ErrorCode::UnknownServerError),
        }
    }
}
