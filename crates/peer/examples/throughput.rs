//! What a link carries over loopback: small calls, and bulk from memory and from a file.
//!
//! `cargo run --release -p chronik-peer --example throughput [SECONDS]`

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, Chunk, FileRange, Transport, Uuid};
use chronik_peer::{
    BULK_FRAME_BYTES, Handler, Hello, InboundLink, OutFrame, PeerInfo, PeerSettings, Peers, PeersOptions,
    Source,
};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Counter {
    bulk_bytes: AtomicU64,
    frames: AtomicU64,
    link: Mutex<Option<InboundLink>>,
}

struct Counting(Arc<Counter>);

impl Handler for Counting {
    fn call(
        &self,
        _from: &PeerInfo,
        _kind: u8,
        payload: Bytes,
    ) -> BoxFuture<std::result::Result<Bytes, String>> {
        Box::pin(std::future::ready(Ok(payload)))
    }

    fn reply_message(&self, _from: &PeerInfo, _kind: u8, payload: Bytes) {
        self.0.bulk_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        self.0.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn accepted(&self, link: &InboundLink) {
        if let Ok(mut place) = self.0.link.lock() {
            *place = Some(link.clone());
        }
    }
}

/// Gives copies of one frame.
struct Endless {
    chunks: Vec<Chunk>,
    checked_bytes: usize,
}

impl Source for Endless {
    fn next(&self) -> Option<OutFrame> {
        Some(OutFrame::partly_checked(1, self.chunks.clone(), self.checked_bytes))
    }
}

/// Gives nothing.
struct Nothing;

impl Source for Nothing {
    fn next(&self) -> Option<OutFrame> {
        None
    }
}

fn hello(node: u8) -> Hello {
    let id = Uuid([node; 16]);
    Hello {
        cluster_id: Uuid::ZERO,
        node_id: i32::from(node),
        incarnation: id,
        directory: id,
        version: String::new(),
        has_metadata: false,
    }
}

fn start(node: u8, counter: &Arc<Counter>) -> Peers {
    Peers::start(PeersOptions {
        me: hello(node),
        handler: Arc::new(Counting(counter.clone())),
        runtime: tokio::runtime::Handle::current(),
        settings: PeerSettings::default(),
    })
}

/// Seconds of processor time that this process has used.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split(' ').skip(12).take(2).flat_map(str::parse).collect();
    fields.iter().sum::<f64>() / 100.0
}

async fn bulk(
    name: &str,
    link: &InboundLink,
    counter: &Counter,
    time: Duration,
    chunks: Vec<Chunk>,
    checked_bytes: usize,
) {
    link.set_source(Arc::new(Endless { chunks, checked_bytes }));
    tokio::time::sleep(time / 4).await;
    let (bytes, frames) =
        (counter.bulk_bytes.load(Ordering::Relaxed), counter.frames.load(Ordering::Relaxed));
    let (began, used) = (Instant::now(), processor_seconds());
    tokio::time::sleep(time).await;
    let bytes = (counter.bulk_bytes.load(Ordering::Relaxed) - bytes) as f64;
    let frames = (counter.frames.load(Ordering::Relaxed) - frames) as f64;
    let (seconds, used) = (began.elapsed().as_secs_f64(), processor_seconds() - used);
    println!(
        "{name}: {:.2} GB/s, {:.0} frames/s, {:.2} s of processor for each GB on both sides",
        bytes / seconds / 1e9,
        frames / seconds,
        used / (bytes / 1e9)
    );
    link.set_source(Arc::new(Nothing));
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let counter = Arc::new(Counter::default());
    let (dialler, acceptor) = (start(1, &counter), start(2, &counter));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    dialler.set_addresses(vec![(2, listener.local_addr()?.to_string())]);
    let (socket, _) = listener.accept().await?;
    let serving = acceptor.clone();
    tokio::spawn(async move { serving.serve(socket, Bytes::new()).await });
    dialler.call(2, 1, Bytes::new(), time).await?;

    for depth in [1, 64, 1024] {
        let (began, used) = (Instant::now(), processor_seconds());
        let calls: Vec<_> = (0..depth)
            .map(|_| {
                let dialler = dialler.clone();
                tokio::spawn(async move {
                    let payload = Bytes::from_static(&[7; 64]);
                    let mut count = 0u64;
                    while began.elapsed() < time {
                        if dialler.call(2, 1, payload.clone(), Duration::from_secs(10)).await.is_ok() {
                            count += 1;
                        }
                    }
                    count
                })
            })
            .collect();
        let mut count = 0;
        for call in calls {
            count += call.await?;
        }
        let per_second = count as f64 / began.elapsed().as_secs_f64();
        let used = (processor_seconds() - used) / count as f64 * 1e6;
        println!(
            "calls of 64 bytes, {depth} at once: {per_second:.0} each second, {used:.1} µs of processor for each"
        );
    }

    let link = counter.link.lock().ok().and_then(|mut place| place.take());
    let link = link.ok_or("nobody connected")?;
    let memory = Bytes::from(vec![1; BULK_FRAME_BYTES]);
    let one = |bytes: &Bytes| vec![Chunk::Bytes(bytes.clone())];
    bulk("256 KiB from memory, checked", &link, &counter, time, one(&memory), usize::MAX).await;
    bulk("256 KiB from memory, with checksums of their own", &link, &counter, time, one(&memory), 0).await;
    bulk("4 KiB from memory", &link, &counter, time, one(&memory.slice(..4096)), 0).await;
    bulk("100 bytes from memory", &link, &counter, time, one(&memory.slice(..100)), 0).await;
    link.set_source(Arc::new(Endless { chunks: one(&memory), checked_bytes: 0 }));
    let (began, mut waits) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let asked = Instant::now();
        dialler.call(2, 1, Bytes::from_static(&[7; 64]), Duration::from_secs(10)).await?;
        waits.push(asked.elapsed());
    }
    waits.sort_unstable();
    let at = |share: usize| waits.get((waits.len() - 1) * share / 1000).copied().unwrap_or_default();
    println!("calls beside endless bulk: {:?} (p50), {:?} (p99)", at(500), at(990));
    link.set_source(Arc::new(Nothing));
    let mut file = tempfile::tempfile()?;
    file.write_all(&memory)?;
    let range = FileRange { file: Arc::new(file), position: 0, length: memory.len() as u64 - 50 };
    let chunks = vec![Chunk::Bytes(memory.slice(..50)), Chunk::File(range)];
    bulk("256 KiB from a file", &link, &counter, time, chunks, 50).await;
    Ok(())
}
