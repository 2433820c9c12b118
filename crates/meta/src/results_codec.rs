//! The bytes of results, as the node that leads the metadata sends them to the one that was asked. An error travels as its code and its words; the few
//! that a node acts on travel as themselves.

use chronik_base::ErrorCode;

use crate::codec::{CodecError, Decoder, Encoder};
use crate::command::Reply;
use crate::error::MetaError;
use crate::writer::Results;

const VERSION: u8 = 0;

const DONE: u8 = 0;
const PRODUCER_IDS: u8 = 1;
const REGISTERED: u8 = 2;
const REFUSED: u8 = 16;
const NOT_LEADER: u8 = 17;
const NO_QUORUM: u8 = 18;
const TIMED_OUT: u8 = 19;
const STALE_BROKER_EPOCH: u8 = 20;

/// The bytes of what became of some commands.
pub fn encode_results(results: &[Result<Reply, MetaError>]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.u8(VERSION);
    out.list(results.iter(), |out, result| match result {
        Ok(Reply::Done) => out.u8(DONE),
        Ok(Reply::ProducerIds { first, count }) => {
            out.u8(PRODUCER_IDS);
            out.signed(*first);
            out.unsigned(u64::from(*count));
        }
        Ok(Reply::Registered { epoch }) => {
            out.u8(REGISTERED);
            out.signed(*epoch);
        }
        Err(error) => put_error(out, error),
    });
    out.bytes
}

fn put_error(out: &mut Encoder, error: &MetaError) {
    let mut optional = |kind: u8, value: Option<i64>| {
        out.u8(kind);
        out.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            out.signed(value);
        }
    };
    match error {
        MetaError::NotLeader { leader } => optional(NOT_LEADER, leader.map(i64::from)),
        MetaError::StaleBrokerEpoch { broker, epoch, current } => {
            optional(STALE_BROKER_EPOCH, *current);
            out.signed(i64::from(*broker));
            out.signed(*epoch);
        }
        MetaError::NoQuorum => out.u8(NO_QUORUM),
        MetaError::TimedOut { waited_ms } => {
            out.u8(TIMED_OUT);
            out.unsigned(*waited_ms);
        }
        error => {
            out.u8(REFUSED);
            out.signed(i64::from(error.code().code()));
            out.text(&error.to_string());
        }
    }
}

/// Reads what [`encode_results`] wrote. Most errors come out as [`MetaError::Remote`], with the same code and words.
pub fn decode_results(bytes: &[u8]) -> Result<Results, CodecError> {
    let mut input = Decoder::new(bytes);
    let version = input.u8("the results' version")?;
    if version > VERSION {
        return Err(CodecError::UnknownVersion { name: "results", version, known: VERSION });
    }
    let results = input.list("results", get_result)?;
    input.finish()?;
    Ok(results)
}

fn get_result(input: &mut Decoder<'_>) -> Result<Result<Reply, MetaError>, CodecError> {
    Ok(match input.u8("a result")? {
        DONE => Ok(Reply::Done),
        PRODUCER_IDS => {
            let first = input.signed("a producer id")?;
            let count = input.unsigned("a count of producer ids")?;
            let count = u32::try_from(count).map_err(|_| CodecError::Malformed("a count of producer ids"))?;
            Ok(Reply::ProducerIds { first, count })
        }
        REGISTERED => Ok(Reply::Registered { epoch: input.signed("a broker epoch")? }),
        REFUSED => {
            let code: i16 = input.number("an error code")?;
            let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
            Err(MetaError::Remote { code, message: input.text("an error's words")?.to_owned() })
        }
        NOT_LEADER => {
            let leader = if input.flag("a flag")? { Some(input.number("a leader")?) } else { None };
            Err(MetaError::NotLeader { leader })
        }
        NO_QUORUM => Err(MetaError::NoQuorum),
        TIMED_OUT => Err(MetaError::TimedOut { waited_ms: input.unsigned("a time")? }),
        STALE_BROKER_EPOCH => {
            let current = if input.flag("a flag")? { Some(input.signed("a broker epoch")?) } else { None };
            let (broker, epoch) = (input.number("a broker id")?, input.signed("a broker epoch")?);
            Err(MetaError::StaleBrokerEpoch { broker, epoch, current })
        }
        _ => return Err(CodecError::Malformed("a result")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_base::Uuid;

    #[test]
    fn results_are_read_back() {
        let same = vec![
            Ok(Reply::Done),
            Ok(Reply::ProducerIds { first: 7, count: 3 }),
            Ok(Reply::Registered { epoch: 99 }),
            Err(MetaError::NotLeader { leader: Some(3) }),
            Err(MetaError::NotLeader { leader: None }),
            Err(MetaError::NoQuorum),
            Err(MetaError::TimedOut { waited_ms: 5000 }),
            Err(MetaError::StaleBrokerEpoch { broker: 1, epoch: 2, current: Some(5) }),
            Err(MetaError::StaleBrokerEpoch { broker: 1, epoch: 2, current: None }),
        ];
        let bytes = encode_results(&same);
        assert_eq!(decode_results(&bytes).unwrap(), same);
        for end in 0..bytes.len() {
            assert!(decode_results(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn an_error_keeps_its_code_and_words() {
        let error = MetaError::UnknownTopic(Uuid([3; 16]));
        let results = decode_results(&encode_results(&[Err(error.clone())])).unwrap();
        let Err(remote) = &results[0] else { panic!("{results:?}") };
        assert_eq!((remote.code(), remote.to_string()), (error.code(), error.to_string()));
        // On its way through one more node it stays what it is.
        assert_eq!(decode_results(&encode_results(&results)).unwrap(), results);
    }
}
