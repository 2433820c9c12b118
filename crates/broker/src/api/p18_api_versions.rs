//! ApiVersions (18), versions 0 to 5: what this broker serves, from the table that dispatch uses.
//!
//! Any other version is answered in version 0 with `UNSUPPORTED_VERSION` and the served range (KIP-511). The client's
//! name and version are remembered for its connection. Features (KIP-584): `metadata.version` is not versioned here
//! and none is finalised, so none is listed.

use chronik_base::ErrorCode;
use chronik_protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use chronik_protocol::{ApiKey, Decode, DecodeError, Reader};

use super::TABLE;
use crate::call::Call;
use crate::connection::ClientSoftware;
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ApiVersionsRequest::decode(reader, call.version)?;
    let mut response = ApiVersionsResponse { api_keys: served_versions(), ..ApiVersionsResponse::default() };
    if call.version >= 3 {
        if is_plain(&request.client_software_name) && is_plain(&request.client_software_version) {
            call.connection.set_software(ClientSoftware {
                name: request.client_software_name.to_string(),
                version: request.client_software_version.to_string(),
            });
        } else {
            response = ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..ApiVersionsResponse::default()
            };
        }
    }
    Ok(call.ready(&response))
}

/// The table as the wire wants it, with the one exception that Kafka 4 makes as well (KAFKA-18659): Produce is announced from
/// version 0 on, because librdkafka takes compression for granted only then. It produces with newer versions all the same; versions
/// below the table's are refused like any other that is not served.
pub(crate) fn served_versions() -> Vec<ApiVersion> {
    TABLE
        .iter()
        .map(|row| ApiVersion {
            api_key: row.key as i16,
            min_version: if row.key == ApiKey::Produce { 0 } else { *row.versions.start() },
            max_version: *row.versions.end(),
        })
        .collect()
}

/// KIP-511: letters and digits at both ends, `-` and `.` between them.
fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 256 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn names_of_clients() {
        assert!(is_plain("apache-kafka-java"));
        assert!(is_plain("4.1.0"));
        for bad in ["", "-x", "x-", "a b", "x\n", "é"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
