//! What a run found, for people; and the one line of JSON for everything else.

use crate::result::{ProcessUse, RunResult, SaturationStep, Stream};
use anyhow::Result;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// One line of JSON on standard output.
pub fn json(found: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, found)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// A step of a saturation run, as it ends, on a terminal.
pub fn step(step: &SaturationStep) {
    if std::io::stderr().is_terminal() {
        eprintln!("{}", step_line(step));
    }
}

fn step_line(step: &SaturationStep) -> String {
    format!(
        "  {:>10.0}/s   {:>10.0} acknowledged   p50 {:>9.2}   p99 {:>9.2}   p99.9 {:>9.2}   max {:>9.2} ms   {}",
        step.target_rate,
        step.messages_per_second,
        step.p50_ms,
        step.p99_ms,
        step.p999_ms,
        step.max_ms,
        if step.within { "within" } else { "beyond" }
    )
}

/// The whole result as text.
pub fn table(result: &RunResult) {
    // A reader that has gone away is no reason to complain.
    let _ = std::io::stdout().lock().write_all(text(result).as_bytes());
}

fn text(result: &RunResult) -> String {
    let mut out = String::new();
    for stream in &result.streams {
        describe(stream, &mut out);
    }
    if let Some(saturation) = &result.saturation {
        describe_saturation(saturation, &mut out);
    }
    for server in &result.servers {
        let per_message = match (result.servers.len(), result.server_cpu_us_per_message) {
            (1, Some(us)) => format!("{us:.2} µs a message   "),
            _ => String::new(),
        };
        process(&format!("server {}", server.pid), server, &per_message, &mut out);
    }
    if let Some(us) = result.server_cpu_us_per_message.filter(|_| result.servers.len() != 1) {
        out += &format!("  servers      {us:.2} µs CPU a message\n");
    }
    process("client", &result.client, "", &mut out);
    if let Some(flush) = &result.machine.disk_flush {
        out += &format!(
            "  disk         {:.0} µs a flush (p99 {:.0})   {}\n",
            flush.p50_us, flush.p99_us, flush.folder
        );
    }
    if let Some(found) = &result.verification {
        out += &format!(
            "  read back    {} of {} acknowledged   {} lost   {} corrupt   {} duplicated   {} reordered   {:.1} s\n",
            found.found,
            found.acknowledged,
            found.lost,
            found.corrupt,
            found.duplicated,
            found.reordered,
            found.seconds
        );
        for example in &found.examples {
            out += &format!("               {example}\n");
        }
    }
    for warning in &result.warnings {
        out += &format!("  warning: {warning}\n");
    }
    for failure in &result.failures {
        out += &format!("  FAILED: {failure}\n");
    }
    out
}

fn describe(stream: &Stream, out: &mut String) {
    let how = match stream.loop_kind.as_str() {
        "closed" => "closed loop".to_owned(),
        "rate" => format!("open loop at {:.0}/s", stream.target_rate.unwrap_or_default()),
        "queue" => "open loop, bounded queue".to_owned(),
        other => other.to_owned(),
    };
    let acks = if stream.acks.is_empty() { String::new() } else { format!(", acks={}", stream.acks) };
    *out += &format!("{}: {how}{acks}, {:.1} s\n", stream.name, stream.seconds);
    *out += &format!(
        "  messages     {:>12}   {:>12.0} msg/s   {:.1} MB/s\n",
        stream.messages, stream.messages_per_second, stream.megabytes_per_second
    );
    if let Some(latency) = &stream.latency {
        *out += &format!(
            "  latency      p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms   max {:.2} ms   from {}\n",
            latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms, stream.latency_from
        );
    }
    if let Some(first) = stream.first_message_ms {
        *out += &format!("  first        {first:.1} ms to the first message\n");
    }
    if stream.kind == "produce" {
        *out += &format!("  failed       {:>12}   over the whole run\n", stream.whole_run.failed);
    }
    for (reason, count) in &stream.errors {
        *out += &format!("               {count:>12}   {reason}\n");
    }
    if let Some(found) = &stream.integrity {
        *out += &format!(
            "  checked      {:>12}   {} lost   {} duplicated   {} reordered   {} corrupt   {} foreign\n",
            found.checked, found.lost, found.duplicated, found.reordered, found.corrupt, found.foreign
        );
    }
}

fn describe_saturation(saturation: &crate::result::Saturation, out: &mut String) {
    const WIDTH: f64 = 40.0;
    let mut steps: Vec<&SaturationStep> = saturation.steps.iter().collect();
    steps.sort_by(|one, two| one.target_rate.total_cmp(&two.target_rate));
    *out += &format!("p99 over load (| is the limit of {} ms)\n", saturation.p99_limit_ms);
    for step in steps {
        // Logarithmic, from a tenth of the limit to ten times the limit.
        let place = |ms: f64| (((ms / saturation.p99_limit_ms).log10() + 1.0) / 2.0).clamp(0.0, 1.0) * WIDTH;
        let (length, limit) = (place(step.p99_ms) as usize, place(saturation.p99_limit_ms) as usize);
        let bar: String = (0..=WIDTH as usize)
            .map(|at| match at {
                at if at == limit => '|',
                at if at < length => '#',
                _ => ' ',
            })
            .collect();
        *out += &format!("  {:>10.0}/s {bar} {:>9.2} ms\n", step.target_rate, step.p99_ms);
    }
    *out += &match saturation.knee_messages_per_second {
        Some(knee) => {
            format!("knee: {knee:.0} messages a second with p99 within {} ms\n", saturation.p99_limit_ms)
        }
        None => "knee: none of the rates kept the limit\n".to_owned(),
    };
}

fn process(name: &str, used: &ProcessUse, more: &str, out: &mut String) {
    *out += &format!(
        "  {name:<12} {:.2} s CPU ({:.2} cores)   {more}peak {:.1} MiB, now {:.1} MiB   {} + {} context switches",
        used.cpu_seconds,
        used.cores_busy,
        used.peak_rss_kib as f64 / 1024.0,
        used.rss_kib as f64 / 1024.0,
        used.voluntary_switches,
        used.involuntary_switches
    );
    if let Some(written) = used.disk_written_bytes {
        *out += &format!("   {:.1} MB written", written as f64 / 1e6);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Latency, Saturation};

    #[test]
    fn a_table_says_how_it_was_measured_and_what_went_wrong() {
        let mut result = RunResult::default();
        result.streams.push(Stream {
            name: "produce".to_owned(),
            kind: "produce".to_owned(),
            loop_kind: "closed".to_owned(),
            latency_from: "send".to_owned(),
            acks: "all".to_owned(),
            latency: Some(Latency { p99_ms: 3.25, ..Latency::default() }),
            ..Stream::default()
        });
        let step = |rate, p99_ms| SaturationStep { target_rate: rate, p99_ms, ..SaturationStep::default() };
        result.saturation = Some(Saturation {
            p99_limit_ms: 10.0,
            knee_messages_per_second: Some(2000.0),
            steps: vec![step(4000.0, 90.0), step(2000.0, 2.0)],
        });
        result.failures.push("5 messages lost".to_owned());
        let text = text(&result);
        for part in
            ["closed loop, acks=all", "p99 3.25 ms", "from send", "knee: 2000", "FAILED: 5 messages lost"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let (low, high) = (text.find("2000/s").unwrap(), text.find("4000/s").unwrap());
        assert!(low < high, "rates stand in order");
    }
}
