//! One connection to one broker: the versions it speaks, one request at a time.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use chronik_base::{Chunk, ErrorCode};
use chronik_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use chronik_protocol::{ApiKey, Decode, Reader, Request, ResponseHeader, Str, Versioned, request_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{ClientError, Options};

/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 512 << 20;

/// Memory that the structs of one answer may take, in bytes: the metadata of a million partitions fits.
const ANSWER_MEMORY_MAX: usize = 1 << 30;

/// The version of ApiVersions to begin with: the first that tells the broker who asks.
const FIRST_API_VERSIONS: i16 = 3;

pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    client_id: Str,
    timeout: Duration,
    correlation_id: i32,
    versions: HashMap<i16, RangeInclusive<i16>>,
    /// True while a request is under way: if it was given up, the next answer would not belong to the next request.
    in_doubt: bool,
}

impl Connection {
    /// Connects and asks what the broker speaks. The error is the reason in words.
    pub(crate) async fn open(address: &str, options: &Options) -> Result<Self, String> {
        let stream = match timeout(options.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no connection in {:?}", options.connect_timeout)),
        };
        // Requests are written whole, so there is nothing to gain from waiting for more bytes.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut connection = Self {
            address: address.to_owned(),
            stream,
            client_id: Str::from(&options.client_id),
            timeout: options.connect_timeout,
            correlation_id: 0,
            versions: HashMap::new(),
            in_doubt: false,
        };
        connection.negotiate().await.map_err(|error| error.to_string())?;
        connection.timeout = options.request_timeout;
        Ok(connection)
    }

    async fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("chronik"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let answer = self.exchange(FIRST_API_VERSIONS, &request, self.timeout).await?;
        // A broker that does not know the version answers in the form of version 0 (KIP-511), which begins alike.
        let unknown =
            answer.get(..2).is_some_and(|code| code == ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let version = if unknown { 0 } else { FIRST_API_VERSIONS };
        let response = self.decode::<ApiVersionsResponse>(ApiKey::ApiVersions, version, answer)?;
        if !unknown {
            ClientError::check(response.error_code, None, || format!("ApiVersions of {}", self.address))?;
        }
        let ranges = response.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version));
        self.versions = ranges.collect();
        Ok(())
    }

    /// True if the connection can take a request.
    pub(crate) fn is_usable(&self) -> bool {
        !self.in_doubt
    }

    /// Sends the request that `make` makes for the best version up to `version_max`, and waits for the answer
    /// `longer` than for others.
    pub(crate) async fn call<R: Request>(
        &mut self,
        version_max: i16,
        longer: Duration,
        make: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let version = self.pick_version::<R>(version_max)?;
        let request = make(version);
        let answer = self.exchange(version, &request, self.timeout + longer).await?;
        self.decode(R::KEY, version, answer)
    }

    fn pick_version<R: Request>(&self, version_max: i16) -> Result<i16, ClientError> {
        let first = *R::VERSIONS.start();
        let last = (*R::VERSIONS.end()).min(version_max);
        let theirs = self.versions.get(&R::KEY.code());
        let best = theirs.map(|theirs| ((*theirs.start()).max(first), (*theirs.end()).min(last)));
        match best {
            Some((least, best)) if least <= best => Ok(best),
            _ => Err(ClientError::Unsupported {
                address: self.address.clone(),
                api: R::KEY,
                first,
                last,
                theirs: theirs
                    .map_or("none".into(), |theirs| format!("{} to {}", theirs.start(), theirs.end())),
            }),
        }
    }

    fn decode<T: Decode + Versioned>(
        &self,
        api: ApiKey,
        version: i16,
        answer: Bytes,
    ) -> Result<T, ClientError> {
        let mut reader = Reader::with_memory_limit(answer, ANSWER_MEMORY_MAX);
        T::decode(&mut reader, version).map_err(|source| self.undecodable(api, source))
    }

    fn undecodable(&self, api: ApiKey, source: chronik_protocol::DecodeError) -> ClientError {
        ClientError::Decode { address: self.address.clone(), api, source }
    }

    /// Writes the request and reads the body of its answer.
    async fn exchange<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        limit: Duration,
    ) -> Result<Bytes, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = request_frame(version, self.correlation_id, Some(self.client_id.clone()), request);
        let size: usize = frame.iter().map(Chunk::len).sum();
        if size > i32::MAX as usize {
            return Err(ClientError::TooLarge { api: R::KEY, size });
        }
        self.in_doubt = true;
        let answer = match timeout(limit, self.write_and_read(R::KEY, &frame)).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(ClientError::TimedOut {
                    address: self.address.clone(),
                    api: R::KEY,
                    timeout: limit,
                });
            }
        };
        let mut reader = Reader::new(answer);
        let header = ResponseHeader::decode(&mut reader, ResponseHeader::version(R::KEY, version))
            .map_err(|source| self.undecodable(R::KEY, source))?;
        if header.correlation_id != self.correlation_id {
            let seen = format!("correlation id {} instead of {}", header.correlation_id, self.correlation_id);
            return Err(ClientError::NotKafka { address: self.address.clone(), api: R::KEY, seen });
        }
        self.in_doubt = false;
        Ok(reader.rest())
    }

    async fn write_and_read(&mut self, api: ApiKey, frame: &[Chunk]) -> Result<Bytes, ClientError> {
        let address = self.address.clone();
        let io = |source: io::Error| ClientError::Io { address: address.clone(), api, source };
        for chunk in frame {
            // A client's request holds bytes only: it has no log to take file ranges from.
            if let Chunk::Bytes(bytes) = chunk {
                self.stream.write_all(bytes).await.map_err(io)?;
            }
        }
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).await.map_err(closed).map_err(io)?;
        let length = match usize::try_from(i32::from_be_bytes(prefix)) {
            Ok(length) if length <= ANSWER_MAX => length,
            _ => {
                let seen = match prefix {
                    [b'H', b'T', b'T', b'P'] => "HTTP".to_owned(),
                    [0x15 | 0x16, 3, ..] => "TLS, which this client does not speak".to_owned(),
                    _ => format!("a frame of {} bytes, more than {ANSWER_MAX}", u32::from_be_bytes(prefix)),
                };
                return Err(ClientError::NotKafka { address, api, seen });
            }
        };
        // Grows with what arrives, not with what is announced.
        let mut answer = BytesMut::with_capacity(length.min(64 << 10));
        let mut rest = (&mut self.stream).take(length as u64);
        while answer.len() < length {
            if rest.read_buf(&mut answer).await.map_err(io)? == 0 {
                return Err(io(closed(io::ErrorKind::UnexpectedEof.into())));
            }
        }
        debug_assert_eq!(answer.remaining(), length);
        Ok(answer.freeze())
    }
}

/// Says what an end of the stream means here.
fn closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(error.kind(), "the broker closed the connection instead of answering");
    }
    error
}
