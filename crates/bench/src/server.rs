//! What the broker says of itself before the load begins: is it there, what does it serve.
//!
//! ApiVersions is asked over a plain connection (version 0, and 3 for the features, KIP-511 and KIP-584), because
//! librdkafka keeps its answer to itself, and because a refused connection shows at once and with its reason.

use crate::result::Server;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// No answer to ApiVersions is longer.
const LONGEST: usize = 1 << 20;
const API_VERSIONS: i16 = 18;

/// Key of the Fetch API.
pub const FETCH: i16 = 1;
/// Key of the DescribeConfigs API.
pub const DESCRIBE_CONFIGS: i16 = 32;
/// Keys of the APIs that transactions need: InitProducerId, AddPartitionsToTxn, EndTxn.
const TRANSACTIONS: [i16; 3] = [22, 24, 26];

/// Refuses a load that needs what the broker does not serve.
pub fn require(server: &Server, reads: bool, transactions: bool) -> Result<()> {
    let served = |key: &i16| server.api_versions.contains_key(key);
    if reads && !served(&FETCH) {
        bail!("the broker does not serve Fetch, so nothing can be read back (--verify) or consumed");
    }
    if transactions && !TRANSACTIONS.iter().all(served) {
        bail!(
            "--transactional: the broker does not serve transactions (InitProducerId, AddPartitionsToTxn and EndTxn)"
        );
    }
    Ok(())
}

/// Asks the first of the addresses that answers; the error says why each of them did not.
pub fn ask(bootstrap: &str) -> Result<Server> {
    let mut reasons = Vec::new();
    for address in bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        match ask_one(address) {
            Ok((api_versions, features)) => {
                return Ok(Server {
                    bootstrap: bootstrap.to_owned(),
                    api_versions,
                    features,
                    ..Server::default()
                });
            }
            Err(error) => reasons.push(format!("{address}: {error:#}")),
        }
    }
    if reasons.is_empty() {
        bail!("--bootstrap-server \"{bootstrap}\" names no address; HOST:PORT is wanted");
    }
    bail!("no Kafka broker answers ({}); --bootstrap-server says where to look", reasons.join("; "))
}

type Answer = (BTreeMap<i16, (i16, i16)>, BTreeMap<String, i16>);

fn ask_one(address: &str) -> Result<Answer> {
    if !address.contains(':') {
        bail!("there is no port in it; HOST:PORT is wanted");
    }
    let mut last = anyhow!("the name has no address");
    for resolved in address.to_socket_addrs().context("the name is not known")? {
        match TcpStream::connect_timeout(&resolved, PATIENCE) {
            Ok(stream) => {
                let apis = call(&stream, 0).context("asking ApiVersions")?;
                let versions = read_versions(&apis).context("the answer to ApiVersions makes no sense")?;
                // Only brokers that know version 3 have features; a mistake there is not worth the run.
                let features = match versions.get(&API_VERSIONS) {
                    Some((_, highest)) if *highest >= 3 => {
                        call(&stream, 3).ok().and_then(|answer| read_features(&answer)).unwrap_or_default()
                    }
                    _ => BTreeMap::new(),
                };
                return Ok((versions, features));
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Sends one ApiVersions request and returns what follows the correlation id.
fn call(mut stream: &TcpStream, version: i16) -> Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    const CLIENT: &[u8] = b"chronik-bench";
    let mut body = Vec::new();
    body.extend(API_VERSIONS.to_be_bytes());
    body.extend(version.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend((CLIENT.len() as i16).to_be_bytes());
    body.extend(CLIENT);
    if version >= 3 {
        // Tagged fields of the header; name and version of the client as compact strings; tagged fields.
        let tool = env!("CARGO_PKG_VERSION").as_bytes();
        body.push(0);
        body.push(CLIENT.len() as u8 + 1);
        body.extend(CLIENT);
        body.push(tool.len() as u8 + 1);
        body.extend(tool);
        body.push(0);
    }
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(4..=LONGEST).contains(&length) {
        bail!("an answer of {length} bytes; this is no Kafka broker");
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4))
}

/// Reads fields from the front of an answer.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    /// An unsigned varint (KIP-482).
    fn varint(&mut self) -> Option<usize> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A compact string.
    fn string(&mut self) -> Option<String> {
        let length = self.varint()?.checked_sub(1)?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

fn read_versions(answer: &[u8]) -> Result<BTreeMap<i16, (i16, i16)>> {
    let mut fields = Fields(answer);
    let error = fields.i16().context("it is empty")?;
    if error != 0 {
        bail!("error code {error}");
    }
    let count = fields.i32().context("it ends early")?;
    let mut versions = BTreeMap::new();
    for _ in 0..count {
        let (key, low, high) = (fields.i16(), fields.i16(), fields.i16());
        let (Some(key), Some(low), Some(high)) = (key, low, high) else { bail!("it ends early") };
        versions.insert(key, (low, high));
    }
    Ok(versions)
}

/// The finalized features of version 3: tagged field 2.
fn read_features(answer: &[u8]) -> Option<BTreeMap<String, i16>> {
    let mut fields = Fields(answer);
    if fields.i16()? != 0 {
        return None;
    }
    for _ in 1..fields.varint()? {
        fields.take(6)?;
        skip_tags(&mut fields)?;
    }
    fields.i32()?;
    let mut features = BTreeMap::new();
    for _ in 0..fields.varint()? {
        let tag = fields.varint()?;
        let length = fields.varint()?;
        let mut field = Fields(fields.take(length)?);
        if tag == 2 {
            for _ in 1..field.varint()? {
                let (name, highest) = (field.string()?, field.i16()?);
                field.i16()?;
                skip_tags(&mut field)?;
                features.insert(name, highest);
            }
        }
    }
    Some(features)
}

fn skip_tags(fields: &mut Fields<'_>) -> Option<()> {
    for _ in 0..fields.varint()? {
        fields.varint()?;
        let length = fields.varint()?;
        fields.take(length)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_cut_ones_refused() {
        let mut answer = 0i16.to_be_bytes().to_vec();
        answer.extend(2i32.to_be_bytes());
        for number in [0i16, 3, 13, 18, 0, 4] {
            answer.extend(number.to_be_bytes());
        }
        let versions = read_versions(&answer).unwrap();
        assert_eq!(versions, [(0, (3, 13)), (18, (0, 4))].into());
        for length in 0..answer.len() {
            assert!(read_versions(&answer[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_load_needs_what_the_broker_serves() {
        let serving = |keys: &[i16]| {
            let api_versions = keys.iter().map(|key| (*key, (0, 1))).collect();
            Server { api_versions, ..Server::default() }
        };
        assert!(require(&serving(&[]), false, false).is_ok());
        assert!(require(&serving(&[]), true, false).unwrap_err().to_string().contains("Fetch"));
        assert!(require(&serving(&[FETCH, 22]), true, true).unwrap_err().to_string().contains("EndTxn"));
        assert!(require(&serving(&[FETCH, 22, 24, 26]), true, true).is_ok());
    }

    #[test]
    fn features_are_read_and_cut_answers_survived() {
        let mut answer = vec![0, 0, 2, 0, 18, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1, 2, 23, 2, 17];
        answer.extend(b"metadata.version");
        answer.extend([0, 25, 0, 1, 0]);
        // The length of the field: count, name, two levels, no tags.
        let length = answer.len() - 17;
        answer[16] = length as u8;
        assert_eq!(read_features(&answer), Some([("metadata.version".to_owned(), 25)].into()));
        for length in 0..answer.len() {
            read_features(&answer[..length]);
        }
    }

    #[test]
    fn a_port_where_nobody_listens_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = format!("{:#}", ask(&free.to_string()).unwrap_err());
        assert!(error.contains(&free.to_string()) && error.contains("refused"), "{error}");
        for wrong in ["", "localhost", " , "] {
            assert!(ask(wrong).is_err(), "{wrong}");
        }
    }
}
