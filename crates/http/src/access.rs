//! Who may ask for what: the one place where authentication will have its say.

use std::net::SocketAddr;

use axum::http::StatusCode;

use crate::error::ApiError;
use crate::operation::Operation;

/// What is known of who asks. The listener adds it to each request (as an extension).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where the request comes from.
    pub peer: SocketAddr,
    /// True if the listener that it came to can be reached from this machine only.
    pub is_local: bool,
}

/// Whether requests may change state (`http.writes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// Never.
    Off,
    /// Where only this machine reaches the listener.
    #[default]
    Local,
    /// Wherever the listener is.
    On,
}

impl Writes {
    /// Refuses `operation` if `caller` must not ask for it. A caller of whom nothing is known counts as remote.
    pub(crate) fn check(self, operation: &Operation, caller: Option<&Caller>) -> Result<(), ApiError> {
        let is_local = caller.is_some_and(|caller| caller.is_local);
        let refused = |why: &str, hint: &str| {
            let message = format!("{} {} changes state, and {why}", operation.method, operation.path);
            Err(ApiError::new(StatusCode::FORBIDDEN, "writes_off", message).hint(hint))
        };
        match self {
            _ if !operation.writes => Ok(()),
            Writes::On => Ok(()),
            Writes::Local if is_local => Ok(()),
            Writes::Local => refused(
                "this listener is not loopback (http.writes = local)",
                "start the node with http.writes = on if everyone who reaches this address may change the cluster",
            ),
            Writes::Off => refused("http.writes = off", "start the node with http.writes = local or on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_changed_where_that_is_allowed() {
        let (reads, writes) = (Operation::post("/r", "r", "R"), Operation::post("/w", "w", "W").writes());
        let caller = |is_local| Caller { peer: SocketAddr::from(([10, 0, 0, 1], 1)), is_local };
        for (setting, remote, local) in
            [(Writes::Off, false, false), (Writes::Local, false, true), (Writes::On, true, true)]
        {
            assert_eq!(setting.check(&writes, Some(&caller(false))).is_ok(), remote);
            assert_eq!(setting.check(&writes, Some(&caller(true))).is_ok(), local);
            assert_eq!(setting.check(&writes, None).is_ok(), remote);
            assert!(setting.check(&reads, None).is_ok());
        }
        let error = Writes::Local.check(&writes, None).unwrap_err();
        assert_eq!((error.status(), error.body().code.as_str()), (StatusCode::FORBIDDEN, "writes_off"));
        assert!(error.body().hint.contains("http.writes = on"));
    }
}
