//! Addresses of other nodes: HOST:PORT, and a voter's ID@HOST:PORT.

use std::fmt;

use crate::value::{FromValue, Value};

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address, in small letters; an IPv6 address without its brackets.
    pub host: String,
    /// The port, from 1.
    pub port: u16,
}

/// A voter of the cluster: its id, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its `node.id`.
    pub id: i32,
    /// Where the other nodes reach it.
    pub address: HostPort,
}

impl HostPort {
    /// Reads `HOST:PORT`, `[IPV6]:PORT`. The error is what is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} is not HOST:PORT: {what}"));
        if text.contains("://") {
            return wrong("leave out the protocol");
        }
        let Some((host, port)) = text.rsplit_once(':') else { return wrong("the port is missing") };
        let port = match port.parse::<u16>() {
            Ok(0) | Err(_) => return wrong("the port is not a number from 1 to 65535"),
            Ok(port) => port,
        };
        let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return wrong("write an IPv6 address in brackets, [::1]:9092");
        }
        let host = bare.unwrap_or(host);
        let is_host_char = |c: char| {
            c.is_alphanumeric() || matches!(c, '.' | '-' | '_') || (bare.is_some() && matches!(c, ':' | '%'))
        };
        match host {
            "" => wrong("the host is missing"),
            "0.0.0.0" | "::" => wrong("other nodes can't connect to \"every address\""),
            host if !host.chars().all(is_host_char) => wrong("the host has a character that no host has"),
            host => Ok(Self { host: host.to_lowercase(), port }),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Peer {
    /// Reads `ID@HOST:PORT`. The error is what is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((id, address)) = text.split_once('@') else {
            return Err(format!("{text:?} is not ID@HOST:PORT: the id is missing"));
        };
        match id.parse() {
            Ok(id) if id >= 0 => Ok(Self { id, address: HostPort::parse(address)? }),
            _ => Err(format!("{text:?} is not ID@HOST:PORT: the id is not a number from 0 on")),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// Reads each part of a list.
fn parts<T>(value: Option<&Value>, parse: fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    match value {
        Some(Value::List(parts)) => parts.iter().map(|part| parse(part).ok()).collect(),
        _ => None,
    }
}

impl FromValue for Vec<HostPort> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        parts(value, HostPort::parse)
    }
}

impl FromValue for Vec<Peer> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        parts(value, Peer::parse)
    }
}

/// What is wrong with a list of addresses.
pub(crate) fn check_addresses(parts: &[String]) -> Result<(), String> {
    let mut seen: Vec<HostPort> = Vec::new();
    for part in parts {
        let address = HostPort::parse(part)?;
        if seen.contains(&address) {
            return Err(format!("{address} is named twice"));
        }
        seen.push(address);
    }
    Ok(())
}

/// What is wrong with a list of voters.
pub(crate) fn check_peers(parts: &[String]) -> Result<(), String> {
    let mut seen: Vec<Peer> = Vec::new();
    for part in parts {
        let peer = Peer::parse(part)?;
        if let Some(other) = seen.iter().find(|other| other.id == peer.id) {
            return Err(format!("{other} and {peer} have the same id"));
        }
        if let Some(other) = seen.iter().find(|other| other.address == peer.address) {
            return Err(format!("{other} and {peer} have the same address"));
        }
        seen.push(peer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "localhost:9092",
            "10.0.0.1:1",
            "[::1]:9092",
            "[fe80::1%eth0]:9092",
            "my_host-2.example.com:65535",
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HostPort::parse("Host-A:9092").unwrap().host, "host-a");
        assert_eq!(Peer::parse("3@[::1]:5").unwrap().to_string(), "3@[::1]:5");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let wrong = |text: &str, what: &str| {
            let error = HostPort::parse(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        };
        wrong("localhost", "port is missing");
        wrong("localhost:0", "1 to 65535");
        wrong("localhost:65536", "1 to 65535");
        wrong("::1:9092", "brackets");
        wrong(":9092", "host is missing");
        wrong("0.0.0.0:9092", "every address");
        wrong("a b:9092", "no host has");
        wrong("http://a:9092", "protocol");
        assert!(Peer::parse("a:9092").unwrap_err().contains("the id is missing"));
        assert!(Peer::parse("-1@a:9092").unwrap_err().contains("number from 0 on"));
        assert!(Peer::parse("x@a:9092").unwrap_err().contains("number from 0 on"));
    }
}
