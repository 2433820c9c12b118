//! First inputs for the fuzzer: a batch of every kind, a request and an answer of every API, a change of every kind to the
//! log's files.

use bytes::Bytes;
use chronik_protocol::{Encode, Request, RequestHeader, Writer};
use chronik_records::{
    BatchBuilder, BatchOptions, BuildError, Compression, FilterOptions, Filtered, filter_batch,
};

use crate::frame::with_each_request;

/// An input: its target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Makes them.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    batches(&mut seeds).expect("batches of a few small records");
    macro_rules! frames {
        ($($module:ident :: $name:ident),* $(,)?) => {
            $(frames::<chronik_protocol::messages::$module::$name>(&mut seeds);)*
        };
    }
    with_each_request!(frames);
    recoveries(&mut seeds);
    seeds
}

fn batches(seeds: &mut Vec<Seed>) -> Result<(), BuildError> {
    for compression in Compression::ALL {
        let plain = batch(BatchOptions { encoding: compression.into(), ..Default::default() })?;
        let idempotent = batch(BatchOptions {
            encoding: compression.into(),
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: 3,
            ..Default::default()
        })?;
        let two = [&plain[..], &idempotent[..]].concat();
        let options =
            FilterOptions { delete_horizon: Some(5), retain_empty: true, max_decompressed_bytes: 1 << 20 };
        let view = chronik_records::Batch::parse(&plain).expect("a batch just made");
        let cleaned = filter_batch(&view, &options, |record| record.key.is_some());
        if let Ok(Filtered::Rewritten(cleaned)) = cleaned {
            seeds.push(("batch", format!("{compression}-cleaned"), cleaned.to_vec()));
        }
        seeds.push(("batch", format!("{compression}-plain"), plain.to_vec()));
        seeds.push(("batch", format!("{compression}-idempotent"), idempotent.to_vec()));
        seeds.push(("batch", format!("{compression}-two"), two));
    }
    let transactional = BatchOptions {
        transactional: true,
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 0,
        ..Default::default()
    };
    seeds.push(("batch", "transactional".to_owned(), batch(transactional)?.to_vec()));
    let control = BatchOptions {
        control: true,
        transactional: true,
        producer_id: 1,
        producer_epoch: 0,
        ..Default::default()
    };
    seeds.push(("batch", "control".to_owned(), batch(control)?.to_vec()));
    Ok(())
}

fn batch(options: BatchOptions) -> Result<Bytes, BuildError> {
    let now = 1_700_000_000_000;
    let mut builder = BatchBuilder::new(options);
    builder.append(now, Some(b"key"), Some(b"value value value value value"), &[])?;
    builder.append(now + 70, Some(b""), None, &[(b"name", Some(b"value")), (b"", None)])?;
    builder.append(now - 70, None, Some(&[b'x'; 150]), &[])?;
    builder.finish()
}

/// One change of every kind to each of the first files, after a kill and after a clean end.
fn recoveries(seeds: &mut Vec<Seed>) {
    const FILES: u8 = 10;
    for closed in 0..2 {
        for file in 0..FILES {
            for kind in 0..7u8 {
                let position = [file.wrapping_mul(29), kind.wrapping_mul(83)];
                let input = [&[closed, file], &position[..], &[kind, 4, 0xff, 0, 1, 0x80]].concat();
                seeds.push((
                    "recovery",
                    format!("{}-{file}-{kind}", ["killed", "closed"][usize::from(closed)]),
                    input,
                ));
            }
        }
    }
}

fn frames<R: Request + Default>(seeds: &mut Vec<Seed>)
where
    R::Response: Default,
{
    let mut versions = vec![*R::VERSIONS.start(), *R::VERSIONS.end()];
    versions.dedup();
    for version in versions {
        seeds.push(frame_seed::<R>("request", version, &R::default()));
        seeds.push(frame_seed::<R>("answer", version, &R::Response::default()));
    }
}

fn frame_seed<R: Request>(kind: &str, version: i16, body: &impl Encode) -> Seed {
    let mut writer = Writer::new();
    let key = R::KEY.code();
    let client_id = Some("client".into());
    RequestHeader { api_key: key, api_version: version, correlation_id: 1, client_id }.encode(&mut writer);
    body.encode(&mut writer, version);
    let bytes = writer.into_bytes().unwrap_or_default().to_vec();
    ("frame", format!("{key}-{version}-{kind}"), bytes)
}
