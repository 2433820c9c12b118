//! How soon a broker that is starting takes its first write.

use crate::args::FirstWriteArgs;
use crate::{print, topic};
use anyhow::{Context, Result, bail};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde::Serialize;
use std::io::IsTerminal;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Serialize)]
struct FirstWriteReport {
    kind: &'static str,
    /// When the port took a connection and when the write was acknowledged, in milliseconds since 1970.
    port_open_epoch_ms: f64,
    acknowledged_epoch_ms: f64,
}

/// Waits for the port, then creates the topic and writes one message with acks=all.
pub fn run(args: &FirstWriteArgs) -> Result<bool> {
    let started = Instant::now();
    while !accepts(&args.target.bootstrap_server) {
        if started.elapsed() > args.patience.0 {
            bail!(
                "{} takes no connection within {} s (--patience)",
                args.target.bootstrap_server,
                args.patience.0.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let port_open_epoch_ms = epoch_ms();
    // A broker that has just opened its port may not answer yet; a failed attempt is tried again at once.
    loop {
        match attempt(args) {
            Ok(()) => break,
            Err(error) if started.elapsed() > args.patience.0 => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let found =
        FirstWriteReport { kind: "first write", port_open_epoch_ms, acknowledged_epoch_ms: epoch_ms() };
    if args.json || !std::io::stdout().is_terminal() {
        print::json(&found)?;
    } else {
        println!(
            "acknowledged {:.1} ms after the port opened",
            found.acknowledged_epoch_ms - found.port_open_epoch_ms
        );
    }
    Ok(true)
}

fn accepts(bootstrap: &str) -> bool {
    let first = bootstrap.split(',').next().unwrap_or(bootstrap);
    let addresses = first.to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// Keeps the answer to the one message.
#[derive(Default)]
struct Answer(Mutex<Option<Result<(), KafkaError>>>);

impl ClientContext for Answer {
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ProducerContext for Answer {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let answer = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        if let Ok(mut slot) = self.0.lock() {
            *slot = Some(answer);
        }
    }
}

fn attempt(args: &FirstWriteArgs) -> Result<()> {
    topic::ensure_while_starting(&args.target)?;
    let mut config = topic::client_config(&args.target);
    config.set("acks", "all").set("linger.ms", "0");
    topic::apply_settings(&mut config, &args.target);
    let producer: BaseProducer<Answer> =
        config.create_with_context(Answer::default()).context("making the producer")?;
    let record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(&args.target.topic).partition(0).payload(b"first");
    producer.send(record).map_err(|(error, _)| error).context("queueing the first message")?;
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    match producer.context().0.lock().ok().and_then(|mut slot| slot.take()) {
        Some(answer) => answer.context("the first message"),
        None => bail!("the first message got no answer"),
    }
}

fn epoch_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}
