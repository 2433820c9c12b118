//! A broker in the test's own process, asked without sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use chronik_base::{Chunk, Clock, Timestamp, Uuid};
use chronik_broker::{Broker, BrokerOptions, ConnectionContext, Membership, Outcome, PeerEar};
use chronik_config::{NodeConfig, Settings};
use chronik_log::DataDir;
use chronik_peer::{Hello, PeerSettings, Peers, PeersOptions};
use chronik_protocol::{Decode, Reader, Request, request_frame};
use chronik_quorum::{Mode, Registration};

struct RealClock(Instant);

impl Clock for RealClock {
    fn wall_ms(&self) -> Timestamp {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// A running broker, and one connection to it.
pub struct TestBroker {
    pub broker: Arc<Broker>,
    connection: Arc<ConnectionContext>,
}

impl TestBroker {
    /// Starts a broker on what is in `directory`.
    pub async fn start(directory: &Path, settings: &[(&str, &str)]) -> Self {
        let address = "127.0.0.1:9092".parse().unwrap();
        let settings = Settings::from_pairs(settings).unwrap();
        let (incarnation, directory_id) = (chronik_broker::random_uuid(), Uuid([7; 16]));
        let ear = Arc::new(PeerEar::default());
        let me = Hello {
            cluster_id: Uuid::ZERO,
            node_id: 1,
            incarnation,
            directory: directory_id,
            version: "test".to_owned(),
            has_metadata: false,
        };
        let peers = Peers::start(PeersOptions {
            me,
            handler: ear.clone(),
            runtime: tokio::runtime::Handle::current(),
            settings: PeerSettings::default(),
        });
        let rack = NodeConfig::from_settings(&settings).broker_rack;
        let registration =
            Registration { node_id: 1, rack, endpoints: Vec::new(), incarnation, directory: directory_id };
        let (broker, _) = Broker::start(BrokerOptions {
            settings,
            data_dir: DataDir::open(directory).unwrap(),
            address,
            advertised: None,
            clock: Arc::new(RealClock(Instant::now())),
            membership: Membership {
                mode: Mode::Single,
                cluster_id: None,
                registration,
                replicate_everything: false,
                is_bound: false,
                on_restart: Box::new(|_| {}),
            },
            peers,
            ear,
            first_peers: Vec::new(),
        })
        .await
        .unwrap();
        let peer = "127.0.0.1:50000".parse().unwrap();
        Self { broker, connection: Arc::new(ConnectionContext::new(peer, address)) }
    }

    /// Sends a request and reads its answer.
    pub async fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        let frame = joined(&request_frame(version, 7, None, request)).split_off(4);
        let outcome = self.broker.handle(&self.connection, frame);
        self.broker.end_of_read();
        let response = match outcome {
            Outcome::Ready(response) => response,
            Outcome::Pending(future) => future.await,
            Outcome::NoAnswer => panic!("{} has no answer", R::KEY.name()),
            Outcome::Close(reason) => panic!("{} closes the connection: {reason}", R::KEY.name()),
        };
        let header = if R::KEY.is_flexible(version) { 9 } else { 8 };
        let mut reader = Reader::new(joined(&response.chunks).split_off(header));
        <R::Response as Decode>::decode(&mut reader, version).expect("the answer is readable")
    }

    /// Ends the broker cleanly.
    pub async fn stop(self) {
        self.broker.shutdown().await;
    }
}

fn joined(chunks: &[Chunk]) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(piece) => bytes.extend_from_slice(piece),
            Chunk::File(_) => panic!("no answer of these tests is in a file"),
        }
    }
    bytes.freeze()
}
