//! Which names the node answers to. A page of another site can have its own name resolve to this node's address (DNS rebinding) and then
//! reads answers as its own; the name in its requests gives it away.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};

use crate::error::ApiError;

/// The names that requests may be for, besides addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// These names, without ports; `*` stands for every name.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            names: names.into_iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect(),
        }
    }

    /// Refuses a request for another name. One without a name passes: browsers always send one. So does one for the node's health or metrics,
    /// which orchestrators and Prometheus ask for by whatever name they know the node by, and which say nothing of the data.
    pub(crate) fn check(&self, request: &Request) -> Result<(), ApiError> {
        let path = request.uri().path();
        if path == "/metrics" || path.starts_with("/health/") {
            return Ok(());
        }
        let Some(host) = host_of(request.uri(), request.headers())? else { return Ok(()) };
        let name = without_port(host);
        if self.knows(name) {
            return Ok(());
        }
        let message = format!("this node is not known as {name:?}");
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message)
            .hint("ask for it by its address, or start it with that name in http.hosts"))
    }

    fn knows(&self, name: &str) -> bool {
        let bare =
            name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        bare.parse::<IpAddr>().is_ok()
            || bare == "localhost"
            || bare.ends_with(".localhost")
            || self.names.iter().any(|known| *known == "*" || *known == bare)
    }
}

/// The authority that a request is for: HOST or HOST:PORT.
pub(crate) fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, ApiError> {
    let bad = |message: &str| ApiError::new(StatusCode::BAD_REQUEST, "bad_host", message);
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    let mut values = headers.get_all(header::HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("the request has several Host headers"));
    }
    value.to_str().map(Some).map_err(|_| bad("the Host header is no text"))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // In [::1] the last colon is the address's.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_not() {
        let hosts = Hosts::new(["Node-1.Example.com".to_owned()]);
        for known in [
            "127.0.0.1",
            "127.0.0.1:9092",
            "[::1]:9092",
            "[::1]",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:1",
            "a.localhost",
            "node-1.example.com:9092",
            "node-1.example.com.",
        ] {
            assert!(hosts.knows(without_port(known)), "{known}");
        }
        for unknown in
            ["evil.com", "evil.com:9092", "127.0.0.1.evil.com", "localhost.evil.com", "", "example.com"]
        {
            assert!(!hosts.knows(without_port(unknown)), "{unknown}");
        }
        assert!(Hosts::new(["*".to_owned()]).knows("evil.com"));
    }
}
