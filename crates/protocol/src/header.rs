//! The headers before every request and every answer.

use crate::{ApiKey, Decode, DecodeError, Encode, Reader, Str, Writer};

/// What stands before every request: version 1, or 2 (with tagged fields) for flexible versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number; it need not be one that Kafka has.
    pub api_key: i16,
    /// The version of the request that follows.
    pub api_version: i16,
    /// A number of the client's choice that the answer repeats.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// The API, if Kafka has it.
    pub fn key(&self) -> Option<ApiKey> {
        ApiKey::from_code(self.api_key)
    }

    fn is_flexible(&self) -> bool {
        self.key().is_some_and(|key| key.is_flexible(self.api_version))
    }

    /// Reads a header; its own first fields say which form it has. After it the request's body follows.
    ///
    /// # Errors
    /// The bytes are no header.
    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let header = Self {
            api_key: r.i16("RequestHeader.api_key")?,
            api_version: r.i16("RequestHeader.api_version")?,
            correlation_id: r.i32("RequestHeader.correlation_id")?,
            // KIP-511: classic form in every version, so that a broker can answer an ApiVersions it does not know.
            client_id: r.nullable_string(false, "RequestHeader.client_id")?,
        };
        r.skip_tags(header.is_flexible(), "RequestHeader")?;
        Ok(header)
    }

    /// Writes the header in the form that its API and version ask for.
    pub fn encode(&self, w: &mut Writer) {
        w.i16(self.api_key);
        w.i16(self.api_version);
        w.i32(self.correlation_id);
        w.nullable_string(false, self.client_id.as_ref());
        w.no_tags(self.is_flexible());
    }
}

/// What stands before every answer: version 0, or 1 (with tagged fields) for flexible versions. The answer to
/// ApiVersions always has version 0, because the client cannot know yet what the broker speaks (KIP-511).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The number of the request that is answered.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// The header's version for the answer to `key` in `version`.
    pub const fn version(key: ApiKey, version: i16) -> i16 {
        (key.is_flexible(version) && !matches!(key, ApiKey::ApiVersions)) as i16
    }
}

impl Decode for ResponseHeader {
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let correlation_id = r.i32("ResponseHeader.correlation_id")?;
        r.skip_tags(version >= 1, "ResponseHeader")?;
        Ok(Self { correlation_id })
    }
}

impl Encode for ResponseHeader {
    fn encode(&self, w: &mut Writer, version: i16) {
        w.i32(self.correlation_id);
        w.no_tags(version >= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_form_follows_the_version() {
        for (key, version, length) in
            [(ApiKey::Fetch, 11, 12), (ApiKey::Fetch, 12, 13), (ApiKey::SaslHandshake, 1, 12)]
        {
            let header = RequestHeader {
                api_key: key.code(),
                api_version: version,
                correlation_id: 7,
                client_id: Some(Str::from("me")),
            };
            let mut w = Writer::new();
            header.encode(&mut w);
            let bytes = w.into_bytes().unwrap();
            assert_eq!(bytes.len(), length);
            let mut r = Reader::new(bytes);
            assert_eq!(RequestHeader::decode(&mut r), Ok(header));
            assert_eq!(r.remaining(), 0);
        }
        assert_eq!(ResponseHeader::version(ApiKey::Fetch, 12), 1);
        assert_eq!(ResponseHeader::version(ApiKey::ApiVersions, 3), 0);
    }

    #[test]
    fn an_unknown_key_still_gives_its_correlation() {
        let bytes = Bytes::from_static(&[0x7f, 0, 0, 3, 0, 0, 0, 9, 0xff, 0xff]);
        let header = RequestHeader::decode(&mut Reader::new(bytes)).unwrap();
        assert_eq!((header.key(), header.correlation_id, header.client_id), (None, 9, None));
    }
}
