//! A server's Prometheus metrics, before and after.

use crate::result::MetricsDelta;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// No page of metrics is larger.
const LONGEST: u64 = 64 << 20;

/// One reading of a server's metrics.
pub struct Reading {
    url: String,
    /// Values, summed over their labels.
    values: BTreeMap<String, f64>,
    /// Name and version, if a metric tells them.
    pub software: Option<String>,
}

impl Reading {
    /// Asks the server. Only plain HTTP is spoken.
    pub fn take(url: &str) -> Result<Self> {
        let text = get(url).with_context(|| format!("reading --server-metrics {url}"))?;
        let mut values: BTreeMap<String, f64> = BTreeMap::new();
        for (name, _, value) in text.lines().filter_map(parse) {
            *values.entry(name.to_owned()).or_default() += value;
        }
        Ok(Self { url: url.to_owned(), values, software: software(&text) })
    }

    /// Where it was asked.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What changed from this reading to a later one.
    pub fn until(&self, later: &Self) -> MetricsDelta {
        let grown = |name: &String, now: f64| now - self.values.get(name).copied().unwrap_or(0.0);
        let is_counter = |name: &str| ["_total", "_count", "_sum"].iter().any(|end| name.ends_with(end));
        let counters: BTreeMap<String, f64> = later
            .values
            .iter()
            .filter(|(name, _)| is_counter(name))
            .map(|(name, now)| (name.clone(), grown(name, *now)))
            .filter(|(_, by)| *by != 0.0 && by.is_finite())
            .collect();
        MetricsDelta {
            url: self.url.clone(),
            cpu_seconds: later
                .values
                .get_key_value("process_cpu_seconds_total")
                .map(|(name, now)| grown(name, *now)),
            resident_bytes: later.values.get("process_resident_memory_bytes").copied(),
            counters,
        }
    }
}

/// Name, labels and value of a sample.
fn parse(line: &str) -> Option<(&str, &str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = rest.rsplit_once('}')?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, "", rest)
        }
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// `…_build_info{version="…"}`, as many servers have it.
fn software(text: &str) -> Option<String> {
    let (name, labels) = text.lines().filter_map(parse).find_map(|(name, labels, _)| {
        let name = name.strip_suffix("_build_info").or_else(|| name.strip_suffix("_build"))?;
        Some((name, labels))
    })?;
    let version =
        labels.split(',').find_map(|label| label.trim().strip_prefix("version=\"")?.strip_suffix('"'));
    Some(version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}")))
}

fn get(url: &str) -> Result<String> {
    let Some(rest) = url.strip_prefix("http://") else { bail!("http://HOST:PORT/PATH is wanted") };
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = with_port.to_socket_addrs()?.next().context("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP 1.0: the answer is not in chunks and ends with the connection.
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the answer is \"{status}\"");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(answers: Vec<&'static str>) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    #[test]
    fn counters_are_summed_over_labels_and_differences_taken() {
        let url = serve(vec![
            "HTTP/1.0 200 OK\r\n\r\n# HELP x\nx_total{a=\"1\"} 5\nx_total{a=\"2\"} 6\nprocess_cpu_seconds_total 1.5\n",
            "HTTP/1.0 200 OK\r\n\r\nx_total{a=\"1\"} 7\nx_total{a=\"2\"} 6 1700000000\nprocess_cpu_seconds_total 4\n\
             process_resident_memory_bytes 1e6\nchronik_build_info{version=\"0.1.0\"} 1\ny 3\n",
        ]);
        let before = Reading::take(&url).unwrap();
        let after = Reading::take(&url).unwrap();
        let delta = before.until(&after);
        assert_eq!(delta.counters["x_total"], 2.0);
        assert_eq!((delta.cpu_seconds, delta.resident_bytes), (Some(2.5), Some(1e6)));
        assert!(!delta.counters.contains_key("y"));
        assert_eq!(after.software.as_deref(), Some("chronik 0.1.0"));
    }

    #[test]
    fn what_is_no_page_of_metrics_is_refused() {
        let missing = serve(vec!["HTTP/1.0 404 Not Found\r\n\r\n"]);
        let error = format!("{:#}", Reading::take(&missing).err().unwrap());
        assert!(error.contains("404") && error.contains(&missing), "{error}");
        assert!(Reading::take("https://localhost/metrics").is_err());
    }
}
