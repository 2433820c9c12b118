//! Sends batches to the leader of a partition.

use std::time::Duration;

use bytes::Bytes;
use chronik_base::{ErrorCode, Timestamp};
use chronik_protocol::Str;
use chronik_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};

use crate::client::{Patience, passes};
use crate::{Client, ClientError, To};

/// The last version of Produce that names topics by name.
const BY_NAME: i16 = 12;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The timestamp that the broker gave its records, in milliseconds since the epoch; `None` if they keep their own.
    pub log_append_time: Option<Timestamp>,
}

impl Client {
    /// Appends one batch (from [`chronik_records::BatchBuilder`]) to a partition and waits for the acknowledgement:
    /// `acks` 1 for the leader's, -1 for that of every in-sync replica. Refusals that pass, and before which nothing
    /// was appended, are tried again; after a broken connection nothing is, because the batch may be in the log.
    ///
    /// # Errors
    /// Why it was not acknowledged.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: i16,
        timeout: Duration,
    ) -> Result<Appended, ClientError> {
        let mut patience = Patience::new(timeout);
        loop {
            let leader = self.leader(topic, partition).await?;
            let make = |_| ProduceRequest {
                acks,
                timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
                topic_data: vec![TopicProduceData {
                    name: Str::from(topic),
                    partition_data: vec![PartitionProduceData {
                        index: partition,
                        records: Some(batch.clone()),
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = self.send_patiently(To::Broker(leader), BY_NAME, timeout, make).await?;
            let result = answer.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
            let what = || format!("{topic}-{partition}");
            let Some(result) = result else {
                let message = Some("the answer says nothing about the partition".to_owned());
                let code = ErrorCode::UnknownServerError.code();
                return Err(ClientError::Refused { what: what(), code, message });
            };
            if result.error_code == 0 {
                let time = result.log_append_time_ms;
                return Ok(Appended {
                    base_offset: result.base_offset,
                    log_append_time: (time >= 0).then_some(time),
                });
            }
            self.forget_topic(topic);
            if !passes(result.error_code) || !patience.pause().await {
                ClientError::check(result.error_code, result.error_message.as_deref(), what)?;
            }
        }
    }
}
