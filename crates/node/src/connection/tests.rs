//! The connection over a pipe in memory, with a service that answers as its requests tell it to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use chronik_base::FileRange;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::control::CoarseClock;

/// What the service saw, and the answers that it holds back.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    reads: AtomicUsize,
    is_pressured: AtomicBool,
    reader: Mutex<Option<Waker>>,
    held_back: Mutex<Vec<(u8, oneshot::Sender<()>)>>,
}

/// The first byte of a request (its kind) and the second (its number) say how it is answered: `r`eady, `p`ending until
/// the test releases it, `n`ot at all, `c`lose, `l`ast answer, `b`ig answer, `f`ile.
struct Echo(Arc<Seen>);

const BIG: usize = 100_000;

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn response(body: &[u8]) -> Response {
    Response { chunks: vec![Chunk::Bytes(frame(body).into())], close: false }
}

impl Service for Echo {
    fn handle(&self, request: Bytes) -> Outcome {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        match request.first() {
            Some(b'p') => {
                let (release, released) = oneshot::channel();
                self.0.held_back.lock().unwrap().push((request[1], release));
                Outcome::Pending(Box::pin(async move {
                    let _ = released.await;
                    response(&request)
                }))
            }
            Some(b'n') => Outcome::NoAnswer,
            Some(b'c') => Outcome::Close(CloseReason { kind: "asked for", detail: String::new() }),
            Some(b'l') => Outcome::Ready(Response { close: true, ..response(&request) }),
            Some(b'b') => {
                let mut body = request.to_vec();
                body.resize(BIG, b'.');
                let head = Bytes::from((BIG as u32).to_be_bytes().to_vec());
                Outcome::Ready(Response { chunks: vec![head.into(), Bytes::from(body).into()], close: false })
            }
            Some(b'f') => {
                let file = tempfile::tempfile().unwrap();
                rustix::io::pwrite(&file, b"....from a file....", 0).unwrap();
                let range = FileRange { file: Arc::new(file), position: 4, length: 11 };
                let chunks = vec![
                    Bytes::from_static(&[0, 0, 0, 13, b'f']).into(),
                    Chunk::File(range),
                    Bytes::from_static(b"!").into(),
                ];
                Outcome::Ready(Response { chunks, close: false })
            }
            _ => Outcome::Ready(response(&request)),
        }
    }

    fn end_of_read(&self) {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
    }

    fn poll_unpressured(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        *self.0.reader.lock().unwrap() = Some(cx.waker().clone());
        if self.0.is_pressured.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) }
    }
}

struct Fixture {
    client: DuplexStream,
    seen: Arc<Seen>,
    gate: Arc<Gate>,
    control: Arc<Control>,
    task: JoinHandle<Ending>,
}

const LIMITS: ConnectionLimits = ConnectionLimits { request_bytes_max: 200_000, waiting_bytes_max: 100_000 };

/// A connection whose first bytes were already looked at.
fn start(pipe_bytes: usize, limits: ConnectionLimits) -> Fixture {
    start_as(true, pipe_bytes, limits)
}

fn start_as(is_kafka: bool, pipe_bytes: usize, limits: ConnectionLimits) -> Fixture {
    let (client, server) = tokio::io::duplex(pipe_bytes);
    let seen = Arc::new(Seen::default());
    let gate = Arc::new(Gate::new(1_000_000));
    let control = Arc::new(Control::new(([127, 0, 0, 1], 1).into(), Arc::new(CoarseClock::default())));
    let mut connection = Connection::new(server, Echo(seen.clone()), control.clone(), gate.clone(), limits);
    connection.is_kafka = is_kafka;
    let task = tokio::spawn(connection);
    Fixture { client, seen, gate, control, task }
}

impl Fixture {
    async fn send(&mut self, body: &[u8]) {
        self.client.write_all(&frame(body)).await.unwrap();
    }

    async fn receive(&mut self) -> Vec<u8> {
        let length = timeout(Duration::from_secs(5), self.client.read_u32()).await.unwrap().unwrap();
        let mut body = vec![0; length as usize];
        timeout(Duration::from_secs(5), self.client.read_exact(&mut body)).await.unwrap().unwrap();
        body
    }

    fn release(&self, number: u8) {
        let mut held_back = self.seen.held_back.lock().unwrap();
        let at = held_back.iter().position(|(n, _)| *n == number).unwrap();
        let _ = held_back.remove(at).1.send(());
    }

    /// Lets the connection do what it can.
    async fn quiesce(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    async fn end(self) -> Ending {
        timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn answers_go_out_in_the_order_of_the_requests() {
    let mut fixture = start(1 << 20, LIMITS);
    for body in [b"p1", b"r2", b"p3", b"n4", b"r5"] {
        fixture.send(body).await;
    }
    fixture.quiesce().await;
    assert_eq!(fixture.requests(), 5);
    assert_eq!(fixture.control.phase(), Phase::Waiting);
    fixture.release(b'3');
    fixture.quiesce().await;
    fixture.release(b'1');
    for body in [b"p1", b"r2", b"p3", b"r5"] {
        assert_eq!(fixture.receive().await, body);
    }
    fixture.quiesce().await;
    assert_eq!(fixture.gate.held(), 0);
    assert_eq!(fixture.control.phase(), Phase::Kafka);
    fixture.client.shutdown().await.unwrap();
    assert!(matches!(fixture.end().await, Ending::Client));
}

#[tokio::test]
async fn one_read_of_many_frames_ends_once() {
    let mut fixture = start(1 << 20, LIMITS);
    let burst: Vec<u8> = (0..8).flat_map(|i| frame(&[b'r', i])).collect();
    fixture.client.write_all(&burst).await.unwrap();
    for i in 0..8 {
        assert_eq!(fixture.receive().await, [b'r', i]);
    }
    assert_eq!(fixture.seen.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn frames_may_be_split_anywhere() {
    let bytes: Vec<u8> = [&b"r1"[..], b"f", b"r2 longer", b""].into_iter().flat_map(frame).collect();
    for split in 1..bytes.len() {
        let mut fixture = start(1 << 20, LIMITS);
        fixture.client.write_all(&bytes[..split]).await.unwrap();
        fixture.quiesce().await;
        fixture.client.write_all(&bytes[split..]).await.unwrap();
        assert_eq!(fixture.receive().await, b"r1");
        assert_eq!(fixture.receive().await, b"ffrom a file!");
        assert_eq!(fixture.receive().await, b"r2 longer");
        assert_eq!(fixture.receive().await, b"");
    }
}

#[tokio::test]
async fn a_bad_length_ends_the_connection_after_earlier_answers() {
    for bad in [-1, i32::MIN, i32::MAX, 200_001] {
        let mut fixture = start(1 << 20, LIMITS);
        let mut bytes = frame(b"p1");
        bytes.extend_from_slice(&bad.to_be_bytes());
        fixture.client.write_all(&bytes).await.unwrap();
        fixture.quiesce().await;
        fixture.release(b'1');
        assert_eq!(fixture.receive().await, b"p1");
        let Ending::Refused(reason) = fixture.end().await else { panic!("not refused") };
        assert_eq!(reason.kind, "bad request length");
        assert!(reason.detail.contains(&bad.to_string()), "{reason}");
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_in_the_socket() {
    let limits = ConnectionLimits { waiting_bytes_max: 10 * REQUEST_OVERHEAD_BYTES, ..LIMITS };
    let mut fixture = start(1 << 20, limits);
    for i in 0..20 {
        fixture.send(&[b'p', i]).await;
    }
    fixture.quiesce().await;
    assert_eq!(fixture.requests(), 10);
    for i in 0..20 {
        fixture.release(i);
        assert_eq!(fixture.receive().await, [b'p', i]);
    }
}

#[tokio::test]
async fn request_bytes_beyond_the_limit_wait_in_the_socket() {
    let mut fixture = start(1 << 20, LIMITS);
    let mut body = vec![b'x'; 60_000];
    for i in 0..4 {
        body[..2].copy_from_slice(&[b'p', i]);
        fixture.send(&body).await;
    }
    fixture.quiesce().await;
    assert_eq!(fixture.requests(), 2);
    assert!(fixture.gate.held() >= 120_000);
    for i in 0..4 {
        fixture.release(i);
        assert_eq!(fixture.receive().await.len(), 60_000);
    }
    fixture.quiesce().await;
    assert_eq!(fixture.gate.held(), 0);
}

#[tokio::test]
async fn a_closed_gate_stops_reading_until_it_opens() {
    let mut fixture = start(1 << 20, LIMITS);
    fixture.client.write_all(&frame(b"r1")[..5]).await.unwrap();
    fixture.quiesce().await;
    fixture.gate.change(0, 600_000);
    fixture.client.write_all(&frame(b"r1")[5..]).await.unwrap();
    assert_eq!(fixture.receive().await, b"r1", "a request that has begun goes on");
    fixture.send(b"r2").await;
    fixture.quiesce().await;
    assert_eq!(fixture.requests(), 1);
    fixture.gate.change(600_000, 0);
    assert_eq!(fixture.receive().await, b"r2");
}

#[tokio::test]
async fn nothing_is_read_while_storage_is_behind() {
    let mut fixture = start(1 << 20, LIMITS);
    fixture.seen.is_pressured.store(true, Ordering::SeqCst);
    fixture.send(b"p1").await;
    fixture.quiesce().await;
    assert_eq!(fixture.requests(), 0);
    fixture.seen.is_pressured.store(false, Ordering::SeqCst);
    fixture.seen.reader.lock().unwrap().take().unwrap().wake();
    fixture.quiesce().await;
    assert_eq!(fixture.requests(), 1);
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_held_back() {
    let mut fixture = start(10_000, LIMITS);
    let asked = tokio::spawn(async move {
        for i in 0..100 {
            if timeout(Duration::from_millis(300), fixture.send(&[b'b', i])).await.is_err() {
                break;
            }
        }
        fixture.quiesce().await;
        fixture
    });
    let mut fixture = asked.await.unwrap();
    let taken = fixture.requests();
    assert!(taken <= UNSENT_BYTES_MAX / BIG + 2, "{taken} requests were taken");
    for i in 0..taken.min(100) {
        let body = fixture.receive().await;
        assert_eq!(body.len(), BIG);
        assert_eq!(body[..2], [b'b', i as u8]);
    }
}

#[tokio::test]
async fn what_was_asked_before_the_client_stopped_sending_is_answered() {
    let mut fixture = start(1 << 20, LIMITS);
    fixture.send(b"p1").await;
    fixture.client.write_all(&[0, 0]).await.unwrap();
    fixture.quiesce().await;
    fixture.client.shutdown().await.unwrap();
    fixture.quiesce().await;
    assert_eq!(fixture.control.phase(), Phase::Ending);
    fixture.release(b'1');
    assert_eq!(fixture.receive().await, b"p1");
    assert!(matches!(fixture.end().await, Ending::Client));
}

#[tokio::test]
async fn a_drained_connection_answers_and_ends() {
    let mut fixture = start(1 << 20, LIMITS);
    fixture.send(b"p1").await;
    fixture.quiesce().await;
    fixture.control.drain();
    fixture.quiesce().await;
    fixture.send(b"r2").await;
    fixture.release(b'1');
    assert_eq!(fixture.receive().await, b"p1");
    assert_eq!(fixture.requests(), 1);
    assert!(matches!(fixture.end().await, Ending::Draining));
}

#[tokio::test]
async fn the_service_may_close_at_once_or_after_an_answer() {
    let mut fixture = start(1 << 20, LIMITS);
    fixture.send(b"r1").await;
    fixture.send(b"c2").await;
    fixture.send(b"r3").await;
    assert_eq!(fixture.receive().await, b"r1");
    assert!(matches!(fixture.end().await, Ending::Refused(_)));

    let mut fixture = start(1 << 20, LIMITS);
    fixture.send(b"l1").await;
    assert_eq!(fixture.receive().await, b"l1");
    assert!(matches!(fixture.end().await, Ending::Answered));
}

#[tokio::test]
async fn other_protocols_are_told_apart() {
    let mut fixture = start_as(false, 1 << 20, LIMITS);
    fixture.client.write_all(b"GE").await.unwrap();
    fixture.quiesce().await;
    assert_eq!(fixture.control.phase(), Phase::FirstBytes);
    fixture.client.write_all(b"T /metrics HTTP/1.1\r\n").await.unwrap();
    let Ending::Http(read) = fixture.end().await else { panic!("not HTTP") };
    assert_eq!(&read[..], b"GET /metrics HTTP/1.1\r\n");

    let mut fixture = start_as(false, 1 << 20, LIMITS);
    fixture.send(b"r1 of Kafka").await;
    assert_eq!(fixture.receive().await, b"r1 of Kafka");

    let mut fixture = start_as(false, 1 << 20, LIMITS);
    fixture.client.write_all(b"\xc7CHK\x01\x01").await.unwrap();
    let Ending::Peer(read) = fixture.end().await else { panic!("not a peer") };
    assert_eq!(&read[..], b"\xc7CHK\x01\x01");

    let mut fixture = start_as(false, 1 << 20, LIMITS);
    fixture.client.write_all(b"SSH-2.0-OpenSSH_9.6").await.unwrap();
    let Ending::Refused(reason) = fixture.end().await else { panic!("not refused") };
    assert!(reason.detail.contains("SSH-"), "{reason}");

    let mut fixture = start_as(false, 1 << 20, LIMITS);
    fixture.client.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    let Ending::Refused(reason) = fixture.end().await else { panic!("not refused") };
    assert!(reason.kind.contains("TLS"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sizes, the splits and the order in which the answers come: they arrive in order and whole.
    #[test]
    fn any_mix_comes_back_in_order(
        kinds in proptest::collection::vec((prop::sample::select(&b"prbfn"[..]), 0usize..5_000), 1..40),
        piece in 1usize..20_000,
        pipe in 64usize..50_000,
        release_last_first: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let fixture = start(pipe, LIMITS);
            let requests: Vec<Vec<u8>> = kinds.iter().enumerate().map(|(i, (kind, size))| {
                let mut body = vec![*kind, i as u8];
                body.resize(2 + size, b'-');
                body
            }).collect();
            let sent: Vec<u8> = requests.iter().flat_map(|r| frame(r)).collect();
            let (mut read, mut write) = tokio::io::split(fixture.client);
            let writer = tokio::spawn(async move {
                for part in sent.chunks(piece) {
                    write.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                write
            });
            let seen = fixture.seen.clone();
            let releaser = tokio::spawn(async move {
                loop {
                    {
                        let mut held_back = seen.held_back.lock().unwrap();
                        let at = if release_last_first { held_back.len().saturating_sub(1) } else { 0 };
                        if !held_back.is_empty() {
                            let _ = held_back.remove(at).1.send(());
                        }
                    }
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            });
            for request in requests {
                let expected = match request[0] {
                    b'n' => continue,
                    b'f' => b"ffrom a file!".to_vec(),
                    b'b' => { let mut body = request; body.resize(BIG, b'.'); body }
                    _ => request,
                };
                let length = timeout(Duration::from_secs(10), read.read_u32()).await.unwrap().unwrap();
                let mut body = vec![0; length as usize];
                read.read_exact(&mut body).await.unwrap();
                assert!(body == expected, "{:?}", &expected[..2.min(expected.len())]);
            }
            drop(writer.await.unwrap());
            releaser.abort();
        });
    }
}
