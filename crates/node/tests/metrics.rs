//! What a node shows, what `docs/metrics.md` says of it, and what the rules and the dashboard in `deploy/` ask for: the same families.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chronik_config::Settings;
use chronik_metrics::{Family, Kind};
use chronik_node::{Node, metric_sections, metrics_document};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn families() -> Vec<&'static Family> {
    metric_sections().iter().flat_map(|section| section.families.iter().copied()).collect()
}

/// Every name that a line may have.
fn line_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for family in families() {
        match family.kind {
            Kind::Histogram => {
                names.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", family.name)));
            }
            Kind::Counter | Kind::Gauge => {
                names.insert(family.line_name());
            }
        }
    }
    names
}

#[test]
fn metrics_page_is_current() {
    let path = root().join("docs/metrics.md");
    let made = metrics_document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == made,
        "docs/metrics.md is not what the tables say: run `UPDATE_DOCS=1 cargo test -p chronik-node --test metrics`"
    );
}

#[test]
fn families_are_called_as_prometheus_would_have_them() {
    let mut seen = BTreeSet::new();
    for family in families() {
        assert!(seen.insert(family.name), "{} is there twice", family.name);
        assert!(
            family.name.starts_with("chronik_") || family.name.starts_with("process_"),
            "{}",
            family.name
        );
        for banned in ["_total", "_milliseconds", "_ms", "_microseconds", "_kilobytes"] {
            assert!(!family.name.ends_with(banned), "{}", family.name);
        }
        assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{}", family.name);
        assert!(family.kind != Kind::Histogram || family.unit() == Some("seconds"), "{}", family.name);
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let names = line_names();
    for file in
        ["deploy/prometheus/alerts.yml", "deploy/prometheus/alerts_test.yml", "deploy/grafana/chronik.json"]
    {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let asked: BTreeSet<&str> =
            words.filter(|word| word.starts_with("chronik_") || word.starts_with("process_")).collect();
        assert!(asked.len() > 5, "{file}");
        for name in asked {
            assert!(names.contains(name), "{file} asks for {name}, which no node shows");
        }
    }
}

#[test]
fn every_alert_is_explained() {
    let operations = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rules = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(operations.contains(&format!("`{alert}`")), "docs/operations.md does not explain {alert}");
    }
}

/// The head and the body of an answer.
fn get(address: SocketAddr, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_what_is_documented_and_nothing_else() {
    let settings = Settings::from_pairs(&[("listen", "127.0.0.1:0"), ("ephemeral", "true")]).unwrap();
    let node = Node::start(settings).await.unwrap();
    let address = node.address();
    let asked = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let open = get(address, "application/openmetrics-text");
        (open, began.elapsed(), get(address, "text/plain"))
    });
    let ((head, open), took, (classic_head, classic)) = asked.await.unwrap();
    assert!(
        head.starts_with("http/1.1 200") && head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(classic_head.contains("content-type: text/plain; version=0.0.4"), "{classic_head}");
    assert!(open.ends_with("\n# EOF\n") && !classic.contains("# EOF"));
    assert!(took < Duration::from_secs(30), "{took:?}");

    let names = line_names();
    let shown = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
    };
    for text in [&open, &classic] {
        for name in shown(text) {
            assert!(names.contains(&name), "{name} is shown and not documented");
        }
    }
    assert_eq!(shown(&open), shown(&classic));
    for always in [
        "chronik_ready",
        "chronik_offline_partitions",
        "chronik_acknowledgement_timeouts_total",
        "chronik_acknowledgement_wait_seconds_bucket",
        "chronik_metadata_term",
        "process_cpu_seconds_total",
    ] {
        assert!(shown(&open).contains(always), "{always}");
    }
    for family in families().iter().filter(|family| family.labels.is_empty()) {
        let help = format!("# HELP {} ", family.name);
        assert_eq!(open.matches(&help).count(), 1, "{}", family.name);
    }
    node.stop().await;
}
