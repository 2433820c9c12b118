//! What more partitions and more connections cost.

use super::Plan;
use super::generator::Generator;
use super::servers::{Server, rss_mib};
use crate::shell;
use anyhow::{Context, Result};
use chronik_charts::{Chart, Series};
use serde::Serialize;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PARTITIONS: [u32; 4] = [10, 100, 1_000, 10_000];
const CONNECTIONS: [u32; 5] = [1, 10, 100, 1_000, 2_000];

/// One size and what it costs.
#[derive(Serialize)]
pub struct Point {
    pub size: u32,
    pub messages_per_second: f64,
    pub p99_ms: f64,
    pub cpu_us_per_message: f64,
    pub rss_mib: f64,
}

#[derive(Serialize)]
pub struct Growth {
    /// A closed loop, acks=all, over six partitions, beside so many others that hold a message each.
    pub partitions: Vec<Point>,
    /// The same, while so many other connections are open and idle.
    pub connections: Vec<Point>,
}

/// Measures on a fresh server for each size.
pub fn measure(generator: &Generator, server: &mut dyn Server, plan: &Plan) -> Result<Growth> {
    shell::step("growth: partitions and connections");
    let duration = Duration::from_secs(plan.seconds.min(5));
    let mut growth = Growth { partitions: Vec::new(), connections: Vec::new() };
    for size in PARTITIONS {
        let point = point(generator, server, size, 0, duration)?;
        growth.partitions.push(point);
    }
    for size in CONNECTIONS {
        let point = point(generator, server, 0, size, duration)?;
        growth.connections.push(point);
    }
    Ok(growth)
}

fn point(
    generator: &Generator,
    server: &mut dyn Server,
    partitions: u32,
    connections: u32,
    duration: Duration,
) -> Result<Point> {
    server.start_empty()?;
    if partitions > 0 {
        generator.fill(server, "wide", partitions, partitions.into())?;
    }
    let idle: Vec<TcpStream> =
        (0..connections).map(|_| idle_connection(&server.bootstrap())).collect::<Result<_>>()?;
    let measured = generator.closed_loop(server, duration)?;
    let rss_mib = server.pid().map(rss_mib).transpose()?.unwrap_or_default();
    drop(idle);
    server.stop()?;
    eprintln!(
        "    beside {partitions:>6} partitions, {connections:>5} connections {:>10.0} msg/s   {rss_mib:.0} MiB",
        measured.messages_per_second
    );
    Ok(Point {
        size: partitions.max(connections),
        messages_per_second: measured.messages_per_second,
        p99_ms: measured.p99_ms.unwrap_or_default(),
        cpu_us_per_message: measured.cpu_us_per_message,
        rss_mib,
    })
}

/// A connection that has asked for the versions, as every client does first, and then is silent.
fn idle_connection(bootstrap: &str) -> Result<TcpStream> {
    // ApiVersions version 0: length, key 18, version 0, correlation 1, no client id.
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let mut stream = TcpStream::connect(bootstrap).context("opening an idle connection")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&REQUEST).context("greeting on an idle connection")?;
    let mut length = [0u8; 4];
    stream.read_exact(&mut length).context("waiting for the answer on an idle connection")?;
    let mut answer = vec![0u8; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).context("reading the answer on an idle connection")?;
    Ok(stream)
}

impl Growth {
    /// Both series as one SVG picture.
    pub fn chart(&self) -> String {
        let series = |points: &[Point], value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
            points.iter().map(|point| (f64::from(point.size), value(point))).collect()
        };
        let panel = |title: &str, x: &str, points: &[Point]| {
            [
                Chart {
                    title: title.to_owned(),
                    x_title: x.to_owned(),
                    y_title: "broker CPU, µs a message".to_owned(),
                    series: vec![Series {
                        points: series(points, |point| point.cpu_us_per_message),
                        ..Series::default()
                    }],
                    ..Chart::default()
                },
                Chart {
                    title: title.to_owned(),
                    x_title: x.to_owned(),
                    y_title: "resident memory, MiB".to_owned(),
                    series: vec![Series {
                        points: series(points, |point| point.rss_mib),
                        ..Series::default()
                    }],
                    ..Chart::default()
                },
            ]
        };
        let mut panels = Vec::new();
        panels.extend(panel("More partitions", "other partitions", &self.partitions));
        panels.extend(panel("More connections", "idle connections", &self.connections));
        chronik_charts::svg(&panels)
    }
}
