//! What every command does around its load: asks the broker, makes the topic, reads back, removes the topic, tells.

use crate::args::{Acks, Content, Output, Sending, Target};
use crate::hlog;
use crate::maker;
use crate::message::{Keys, Payloads, STAMP_LEN, SizeSpec, Sizes};
use crate::producers::{Load, Pace};
use crate::result::{RunResult, SCHEMA, Server, Tool};
use crate::scenario::{Found, Scenario};
use crate::topic::{self, Topic};
use crate::{interrupt, machine, print, server, verdict, verify};
use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes that a batch with one message needs besides its value, at most.
const BATCH_OVERHEAD: usize = 100;

/// One run, from before its load to its result.
pub struct Session {
    /// The topic.
    pub topic: Topic,
    /// A number that no other run has.
    pub run: u64,
    /// The broker.
    pub server: Server,
    target: Target,
    output: Output,
    result: RunResult,
    starts: verify::Starts,
}

impl Session {
    /// Looks at the broker and the machine and makes the topic.
    pub fn begin(
        command: &str,
        settings: &impl Serialize,
        target: &Target,
        output: &Output,
        warmup: Duration,
    ) -> Result<Self> {
        interrupt::listen();
        let started = SystemTime::now();
        let mut server = server::ask(&target.bootstrap_server)?;
        let mut warnings = Vec::new();
        let mut machine = machine::describe();
        if !output.no_disk_probe {
            match machine::probe_disk(&output.disk_probe) {
                Ok(flush) => machine.disk_flush = Some(flush),
                Err(error) => warnings.push(format!("{error:#}")),
            }
        }
        let topic = Topic::prepare(target)?;
        server.brokers = topic.brokers()?;
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        if cfg!(debug_assertions) {
            warnings.push(
                "this is a debug build of the tool: it says whether things work, not how fast".to_owned(),
            );
        }
        let since_1970 = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let result = RunResult {
            schema: SCHEMA.to_owned(),
            command: command.to_owned(),
            label: output.label.clone(),
            started_at: machine::utc(started),
            settings: settings_map(settings)?,
            tool: Tool {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                librdkafka: rdkafka::util::get_rdkafka_version().1,
                build: build.to_owned(),
            },
            machine,
            warmup_seconds: warmup.as_secs_f64(),
            generator_ceiling_messages_per_second: output.generator_ceiling,
            warnings,
            ..RunResult::default()
        };
        let starts = if server.api_versions.contains_key(&server::FETCH) {
            verify::starts(&topic)?
        } else {
            Vec::new()
        };
        if interrupt::requested() {
            bail!("stopped before the load began");
        }
        Ok(Self {
            topic,
            run: crate::random::Random::new(since_1970.as_nanos() as u64 ^ u64::from(std::process::id()))
                .next(),
            server,
            target: target.clone(),
            output: output.clone(),
            result,
            starts,
        })
    }

    /// Refuses what the broker can't do, before any load: reading, transactions, messages that are too large.
    pub fn require(&self, reads: bool, transactions: bool, content: &Content) -> Result<()> {
        server::require(&self.server, reads, transactions)?;
        if self.server.api_versions.contains_key(&server::DESCRIBE_CONFIGS)
            && let Some(limit) = self.topic.largest_batch()
        {
            let largest = self.payloads(content)?.largest(content.message_size.bounds().1);
            // What compresses may fit all the same; the broker says.
            let compresses = content.compression != crate::args::Compression::None;
            if largest + BATCH_OVERHEAD > limit && !compresses {
                bail!(
                    "messages of {largest} bytes do not fit: the topic takes batches of {limit} bytes \
                     (--message-size; --topic-config max.message.bytes=…)"
                );
            }
        }
        Ok(())
    }

    fn payloads(&self, content: &Content) -> Result<Payloads> {
        Payloads::new(&content.payload)
    }

    /// A load on the topic; `checked` when its messages are to be known again.
    pub fn load(
        &self,
        content: &Content,
        sending: &Sending,
        acks: Acks,
        pace: Pace,
        first_producer: u32,
        checked: bool,
    ) -> Result<Load> {
        let payloads = self.payloads(content)?;
        let smallest = match &payloads {
            Payloads::Bytes { .. } => content.message_size.bounds().0,
            Payloads::Lines { .. } => STAMP_LEN,
        };
        if checked && smallest < STAMP_LEN {
            bail!(
                "--message-size {}: a message that is to be checked needs at least {STAMP_LEN} bytes for its stamp",
                content.message_size
            );
        }
        let largest = payloads.largest(content.message_size.bounds().1);
        let mut config = topic::client_config(&self.target);
        config.set("acks", acks.name());
        config.set("linger.ms", format!("{}", sending.linger.0.as_secs_f64() * 1000.0));
        config.set("compression.type", content.compression.name());
        config.set("message.max.bytes", largest.saturating_add(1_000_000).to_string());
        if let Some(size) = sending.batch_size {
            config.set("batch.size", size.0.to_string());
        }
        if let Some(limit) = sending.max_in_flight {
            config.set("max.in.flight.requests.per.connection", limit.to_string());
        }
        if sending.idempotent {
            config.set("enable.idempotence", "true");
        }
        // The queue must hold what waits for answers; its limit in bytes must not be what stops a large message.
        let waiting = match pace {
            Pace::Closed(concurrency) => concurrency,
            _ => 1,
        };
        let queue_kib = (waiting.saturating_mul(largest + 1024) / 1024 * 2).clamp(1 << 20, 2_097_151);
        config.set("queue.buffering.max.kbytes", queue_kib.to_string());
        if waiting > 50_000 {
            config.set("queue.buffering.max.messages", (waiting * 2).min(10_000_000).to_string());
        }
        topic::apply_settings(&mut config, &self.target);
        let content = maker::Content {
            topic: self.topic.name.clone(),
            partitions: u32::try_from(self.topic.partitions).unwrap_or(1),
            keys: Keys::new(content.keys),
            sizes: Sizes::new(&content.message_size),
            payloads,
            stamped: smallest >= STAMP_LEN,
            run: self.run,
        };
        Ok(Load {
            pace,
            handles: sending.clients as usize,
            first_producer,
            config,
            content,
            keeps_books: checked,
        })
    }

    /// librdkafka's settings for consumers.
    pub fn reader_config(&self) -> ClientConfig {
        let mut config = topic::client_config(&self.target);
        config.set("fetch.wait.max.ms", "100");
        topic::apply_settings(&mut config, &self.target);
        config
    }

    /// A scenario with nothing in it yet.
    pub fn scenario(&self, title: &str, warmup: Duration, duration: Duration) -> Scenario {
        Scenario {
            loads: Vec::new(),
            groups: Vec::new(),
            warmup,
            duration,
            run: self.run,
            server_pids: self.output.server_pids.clone(),
            server_metrics: self.output.server_metrics.clone(),
            intervals: self.output.hlog.is_some(),
            title: title.to_owned(),
        }
    }

    /// The result so far, for what only one command has.
    pub fn result(&mut self) -> &mut RunResult {
        &mut self.result
    }

    /// Reads back if it is asked for, removes the topic, writes and prints the result. True if all is well.
    pub fn finish(mut self, found: Found, verify: bool, strict: bool) -> Result<bool> {
        let reading = self.reader_config();
        if let Some(path) = &self.output.hlog {
            hlog::write(path, found.measured_from.unwrap_or(UNIX_EPOCH), &found.intervals)?;
        }
        let result = &mut self.result;
        result.warnings.extend(found.warnings);
        result.failures.extend(found.failures);
        result.interrupted = found.interrupted || interrupt::requested();
        if result.interrupted {
            result.warnings.push("stopped early (Ctrl-C): the figures are those up to then".to_owned());
        }
        if verify && result.interrupted {
            result.warnings.push("nothing was read back (--verify), because the run was stopped".to_owned());
        } else if verify {
            match verify::read_back(&reading, &self.topic, &self.starts, self.run, &found.acknowledged) {
                Ok(verified) => {
                    result.failures.extend(verdict::of_verification(&verified));
                    if strict && verified.duplicated + verified.reordered > 0 {
                        result.failures.push(format!(
                            "{} duplicated and {} reordered messages although the producers are idempotent",
                            verified.duplicated, verified.reordered
                        ));
                    }
                    result.verification = Some(verified);
                }
                Err(error) => result.failures.push(format!("reading back: {error:#}")),
            }
        }
        result.warnings.extend(verdict::near_ceiling(&found.streams, self.output.generator_ceiling));
        // Passes and groups may all have found the same.
        let mut said = BTreeSet::new();
        result.warnings.retain(|warning| said.insert(warning.clone()));
        result.streams = found.streams;
        result.client = found.client;
        result.servers = found.servers;
        result.metrics = found.metrics;
        result.server_cpu_us_per_message = found.server_cpu_us_per_message;
        self.server.software = found.software;
        result.server = self.server;
        if let Err(error) = self.topic.remove() {
            result.warnings.push(format!("{error:#}"));
        }
        let clean = result.failures.is_empty();
        if let Some(path) = &self.output.output {
            write(path, &self.result)?;
        }
        if self.output.json || !std::io::stdout().is_terminal() {
            print::json(&self.result)?;
        } else {
            print::table(&self.result);
        }
        Ok(clean)
    }
}

fn settings_map(settings: &impl Serialize) -> Result<BTreeMap<String, serde_json::Value>> {
    match serde_json::to_value(settings).context("noting the settings")? {
        serde_json::Value::Object(map) => Ok(map.into_iter().collect()),
        _ => bail!("the settings are no object"),
    }
}

fn write(path: &Path, result: &RunResult) -> Result<()> {
    let text = serde_json::to_string_pretty(result)?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {} (--output)", path.display()))
}

/// Refuses what can't be, before the broker is asked.
pub fn check(
    content: &Content,
    sending: &Sending,
    acks: &[Acks],
    rate: Option<f64>,
    checked: bool,
) -> Result<()> {
    if let Some(rate) = rate.filter(|rate| !(rate.is_finite() && *rate > 0.0 && *rate <= 1e8)) {
        bail!("--rate {rate}: a number of messages a second above 0 (up to 100 million) is wanted");
    }
    if checked && acks.contains(&Acks::None) {
        bail!(
            "acks=0 promises nothing, so there is nothing to check (--verify, consumers): use --acks 1 or all"
        );
    }
    if sending.idempotent && acks.iter().any(|acks| *acks != Acks::All) {
        bail!("--idempotent needs acks=all (KIP-98): add --acks all");
    }
    if sending.idempotent && sending.max_in_flight.is_some_and(|limit| limit > 5) {
        bail!("--idempotent allows at most 5 requests in flight on a connection (--max-in-flight)");
    }
    if rate.is_none() && sending.concurrency < sending.clients {
        bail!(
            "--concurrency {} is less than --clients {}: some clients would have nothing to send",
            sending.concurrency,
            sending.clients
        );
    }
    if checked
        && matches!(content.payload, crate::message::PayloadSpec::File(_))
        && content.message_size != SizeSpec::Fixed(crate::units::Bytes(256))
    {
        bail!("--message-size does not go with --payload file:…: each line is as long as it is");
    }
    Ok(())
}

/// The measurement must last.
pub fn check_duration(duration: Duration) -> Result<()> {
    if duration.is_zero() {
        bail!("--duration 0s: the measurement must last");
    }
    Ok(())
}
