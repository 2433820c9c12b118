//! `host:port`, as people write it.

use crate::ClientError;

/// The port that is meant where none is written.
const DEFAULT_PORT: u16 = 9092;

/// Splits a list `host:port[,host:port…]` and completes what is left out.
///
/// # Errors
/// [`ClientError::BadAddress`].
pub fn parse_list(text: &str) -> Result<Vec<String>, ClientError> {
    let servers: Result<Vec<String>, ClientError> =
        text.split(',').map(str::trim).filter(|server| !server.is_empty()).map(parse).collect();
    let servers = servers?;
    if servers.is_empty() {
        return Err(ClientError::BadAddress { address: text.to_owned() });
    }
    Ok(servers)
}

fn parse(text: &str) -> Result<String, ClientError> {
    let fail = || ClientError::BadAddress { address: text.to_owned() };
    // Listeners are often written with their protocol in front.
    let bare = text.strip_prefix("PLAINTEXT://").unwrap_or(text);
    let after_host = if bare.starts_with('[') { bare.find(']').ok_or_else(fail)? } else { 0 };
    let (host, port) = match bare.get(after_host..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => bare.split_at(after_host + colon),
        None => (bare, ""),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| fail())?,
        None => DEFAULT_PORT,
    };
    if host.is_empty() || host.contains('/') || (host.contains(':') && !host.starts_with('[')) {
        return Err(fail());
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn addresses_as_people_write_them() {
        let parsed = parse_list("localhost, b:9093,[::1]:1,[::2],PLAINTEXT://c:5").unwrap();
        assert_eq!(parsed, ["localhost:9092", "b:9093", "[::1]:1", "[::2]:9092", "c:5"]);
        for bad in ["", " , ", "host:port", ":9092", "http://host:1", "::1", "[::1"] {
            assert!(parse_list(bad).is_err(), "{bad:?}");
        }
    }
}
