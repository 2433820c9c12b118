//! Fetch (1), versions 4 to 18: record batches for consumers, waiting for `min_bytes` up to `max_wait_ms`.
//!
//! Incremental sessions (KIP-227) from version 7 on, topics by id from version 13 on (KIP-516), leader epochs are checked
//! (KIP-320) and a diverging `last_fetched_epoch` is answered with the end of the epoch (KIP-595). The first batch of
//! the answer is always whole. From version 11 on any replica may be read up to the high watermark that it knows; an offset that it does not have
//! yet is `OFFSET_NOT_AVAILABLE`. A leader sends readers that name their rack to an in-sync replica there (KIP-392,
//! `replica.selector.class=rack`). Below version 11 only the leader answers. With `NOT_LEADER_OR_FOLLOWER` and `FENCED_LEADER_EPOCH` go the leader and
//! its address from version 16 on (KIP-951). Gaps: Kafka's own followers can't replicate through it (a `replica_id` is ignored), and no transaction
//! is ever aborted.

use std::sync::Arc;
use std::time::Duration;

use chronik_base::{ErrorCode, Uuid};
use chronik_protocol::messages::fetch::{FetchRequest, FetchResponse};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::{Answerer, Call};
use crate::fetch::{self, Fetch, Limits};
use crate::fetch_session::{FINAL_EPOCH, INITIAL_EPOCH, PartitionRef, Session, TopicRef, Wanted};
use crate::fetch_wait::{FetchWait, Moved};
use crate::outcome::{Outcome, Response};
use crate::sync::Hold;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = FetchRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    let limits = Limits {
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes.min(broker.config.fetch_max_bytes)).unwrap_or(0),
        read_committed: request.isolation_level == 1,
    };
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let fetching = fetch::Reader {
        version: call.version,
        rack: request.rack_id.clone(),
        connection: call.connection.clone(),
    };
    let fetch = match open(&broker, request, fetching, limits) {
        Ok(fetch) => fetch,
        Err(error) => {
            return Ok(call.ready(&FetchResponse { error_code: error.code(), ..FetchResponse::default() }));
        }
    };
    let answerer = call.answerer;
    if let Some(response) = fetch.attempt(max_wait.is_zero()) {
        return Ok(Outcome::Ready(answerer.frame(&response)));
    }
    Ok(Outcome::Pending(Box::pin(wait(broker, fetch, answerer, max_wait))))
}

/// Waits until there is enough, or for as long as the client wants to.
async fn wait(broker: Arc<Broker>, fetch: Fetch, answerer: Answerer, max_wait: Duration) -> Response {
    let wait = Arc::new(FetchWait::default());
    let timeout = tokio::time::sleep(max_wait);
    tokio::pin!(timeout);
    loop {
        // First watch, then look: what comes in between is seen either way.
        fetch.watch(&wait);
        if let Some(response) = fetch.attempt(false) {
            return answerer.frame(&response);
        }
        fetch.ask_for_flush();
        tokio::select! {
            () = Moved(wait.clone()) => {}
            () = &mut timeout => break,
            () = broker.closing() => break,
        }
    }
    match fetch.attempt(true) {
        Some(response) => answerer.frame(&response),
        None => answerer.frame(&FetchResponse::default()),
    }
}

/// Finds or opens the session that the request is part of, and applies the request to it.
fn open(
    broker: &Arc<Broker>,
    request: FetchRequest,
    reader: fetch::Reader,
    limits: Limits,
) -> Result<Fetch, ErrorCode> {
    let version = reader.version;
    let by_id = version >= 13;
    let now = broker.clock.monotonic_ms();
    let wanted = request.topics.into_iter().flat_map(|topic| {
        let reference = topic_ref(by_id, topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |partition| {
            (
                PartitionRef { topic: reference.clone(), partition: partition.partition },
                Wanted {
                    fetch_offset: partition.fetch_offset,
                    max_bytes: partition.partition_max_bytes,
                    current_leader_epoch: partition.current_leader_epoch,
                    last_fetched_epoch: partition.last_fetched_epoch,
                },
            )
        })
    });
    let sessions = &broker.fetch_sessions;
    if version < 7 || matches!(request.session_epoch, FINAL_EPOCH | INITIAL_EPOCH) {
        if request.session_id != 0 {
            sessions.close(request.session_id);
        }
        let mut session = Session::default();
        session.update(wanted);
        let opened =
            if version >= 7 && request.session_epoch == INITIAL_EPOCH && !session.partitions().is_empty() {
                let fresh = std::mem::take(&mut session);
                match sessions.open(fresh, by_id, now) {
                    Ok((id, shared)) => Some((id, shared)),
                    Err(returned) => {
                        session = returned;
                        None
                    }
                }
            } else {
                None
            };
        let (id, session) = opened.unwrap_or_else(|| (0, Arc::new(std::sync::Mutex::new(session))));
        return Ok(Fetch::new(broker, reader, session, id, false, limits));
    }
    let session = sessions.resume(request.session_id, request.session_epoch, by_id, now)?;
    {
        let mut session = session.hold();
        session.update(wanted);
        session.forget(request.forgotten_topics_data.into_iter().flat_map(|topic| {
            let reference = topic_ref(by_id, topic.topic, topic.topic_id);
            topic
                .partitions
                .into_iter()
                .map(move |partition| PartitionRef { topic: reference.clone(), partition })
        }));
    }
    Ok(Fetch::new(broker, reader, session, request.session_id, true, limits))
}

fn topic_ref(by_id: bool, name: chronik_protocol::Str, id: Uuid) -> TopicRef {
    if by_id { TopicRef::Id(id) } else { TopicRef::Name(name) }
}
