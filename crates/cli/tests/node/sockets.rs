//! What arrives on the port: HTTP, TLS, nonsense, silence, too much; and that neighbours don't notice.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::common::{Node, api_versions_request, is_closed, receive_frame, run, send_frame};

fn still_serves(node: &Node) {
    let mut stream = node.connect();
    send_frame(&mut stream, &api_versions_request());
    assert_eq!(receive_frame(&mut stream)[..4], [0, 0, 0, 7]);
}

fn resident_kib(node: &Node) -> u64 {
    let memory = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    memory
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap()
}

#[test]
fn http_shares_the_port() {
    let node = Node::start(&["--ephemeral"]);
    assert!(node.http("GET", "/health/live").starts_with("HTTP/1.1 200"));
    assert!(node.http("GET", "/health/ready").starts_with("HTTP/1.1 200"));
    let metrics = node.http("GET", "/metrics");
    assert!(metrics.contains("# TYPE chronik_"), "{metrics}");
    assert!(node.http("GET", "/nothing").starts_with("HTTP/1.1 404"));
    assert!(node.http("POST", "/metrics").starts_with("HTTP/1.1 405"));

    // One byte at a time, and two requests on one connection.
    let mut stream = node.connect();
    for byte in b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert!(answers.contains("HTTP/1.1 200") && answers.contains("HTTP/1.1 404"), "{answers}");
}

#[test]
fn other_protocols_are_named_in_plain_words_and_rarely() {
    let mut node = Node::start(&["--ephemeral"]);
    for _ in 0..3 {
        let mut stream = node.connect();
        stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
        assert!(is_closed(&mut stream));
    }
    let mut stream = node.connect();
    stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
    assert!(is_closed(&mut stream));
    node.expect_log("SSH-");
    let lines = node.log_lines();
    let tls: Vec<_> = lines.iter().filter(|line| line.contains("TLS client hello")).collect();
    assert_eq!(tls.len(), 1, "{lines:?}");
    assert!(tls[0].contains("security.protocol=PLAINTEXT"), "{tls:?}");
    still_serves(&node);
}

#[test]
fn absurd_frames_close_their_connection_only() {
    let node = Node::start(&["--ephemeral"]);
    for length in [i32::MAX, -1, i32::MIN, 0, 1] {
        let mut stream = node.connect();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(&[0; 16]).unwrap();
        assert!(is_closed(&mut stream), "{length}");
    }
    // After a good request too.
    let mut stream = node.connect();
    send_frame(&mut stream, &api_versions_request());
    receive_frame(&mut stream);
    stream.write_all(&i32::MAX.to_be_bytes()).unwrap();
    assert!(is_closed(&mut stream));
    // A frame cut short at every byte.
    let mut whole = vec![0, 0, 0, 14];
    whole.extend_from_slice(&api_versions_request());
    for cut in 1..whole.len() {
        let mut stream = node.connect();
        stream.write_all(&whole[..cut]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_closed(&mut stream), "{cut}");
    }
    still_serves(&node);
}

#[test]
fn too_many_connections_are_closed_at_once() {
    let mut node = Node::start(&["--ephemeral", "--max-connections", "3"]);
    let kept: Vec<_> = (0..3).map(|_| node.connect()).collect();
    for mut stream in &kept {
        stream.write_all(&14u32.to_be_bytes()).unwrap();
        stream.write_all(&api_versions_request()).unwrap();
    }
    for stream in &kept {
        receive_frame(&mut stream.try_clone().unwrap());
    }
    assert!(is_closed(&mut node.connect()));
    let line = node.expect_log("max.connections");
    assert!(line.contains('3'), "{line}");
    drop(kept);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut stream = node.connect();
        let _ =
            stream.write_all(&14u32.to_be_bytes()).and_then(|()| stream.write_all(&api_versions_request()));
        if stream.read_exact(&mut [0; 4]).is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "places are not given back");
    }
}

#[test]
fn silent_connections_are_closed_after_a_while() {
    let node = Node::start(&["--ephemeral", "--connections-max-idle-ms", "1000"]);
    let mut never = node.connect();
    let mut kafka = node.connect();
    send_frame(&mut kafka, &api_versions_request());
    receive_frame(&mut kafka);
    let mut half = node.connect();
    half.write_all(b"GET / HT").unwrap();
    let started_at = Instant::now();
    for stream in [&mut never, &mut kafka, &mut half] {
        assert!(is_closed(stream));
    }
    let elapsed = started_at.elapsed();
    assert!(elapsed > Duration::from_millis(700) && elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[test]
fn a_client_that_takes_no_answers_stalls_nobody_else() {
    let node = Node::start(&["--ephemeral"]);
    let mut deaf = node.connect();
    deaf.set_nonblocking(true).unwrap();
    let mut request = 14u32.to_be_bytes().to_vec();
    request.extend_from_slice(&api_versions_request());
    let burst = request.repeat(1000);
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        match deaf.write(&burst) {
            Ok(count) => sent += count,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes of requests were taken");
    still_serves(&node);
    let resident = resident_kib(&node);
    assert!(resident < 100 << 10, "{resident} KiB");
}

#[test]
fn a_name_is_listened_on_at_all_its_addresses() {
    let node = Node::start_command(crate::common::chronik().args([
        "standalone",
        "--ephemeral",
        "--listen",
        "localhost:0",
    ]));
    let port = node.bootstrap.rsplit(':').next().unwrap();
    assert!(run(&["topic", "list", "--bootstrap-server", &format!("127.0.0.1:{port}")]).status.success());
    if std::net::ToSocketAddrs::to_socket_addrs("localhost:0").unwrap().any(|address| address.is_ipv6()) {
        assert!(run(&["topic", "list", "--bootstrap-server", &format!("[::1]:{port}")]).status.success());
    }
}

#[test]
fn connections_leave_descriptors_to_the_log() {
    let script = format!(
        "ulimit -n 300 && exec {} standalone --ephemeral --listen 127.0.0.1:0 --max-open-files 16",
        env!("CARGO_BIN_EXE_chronik")
    );
    let mut node = Node::start_command(std::process::Command::new("sh").args(["-c", &script]));
    node.expect_log("leaves room for 156 connections");
    let mut streams: Vec<_> = (0..250).map(|_| node.connect()).collect();
    node.expect_log("156 connections are open");
    for stream in &mut streams[..100] {
        send_frame(stream, &api_versions_request());
        receive_frame(stream);
    }
    drop(streams.drain(..50));
    // The node hears of that a moment later.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let sent = node.admin_with_input(&["produce", "t"], "one\n");
        if sent.status.success() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", crate::common::stderr(&sent));
    }
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let node = Node::start(&["--ephemeral"]);
    let before = resident_kib(&node);
    // As many as this process may have, where that is less.
    let count = usize::try_from(
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(20_000),
    )
    .unwrap()
    .saturating_sub(500)
    .min(10_000);
    let mut streams: Vec<_> = (0..count).map(|_| node.connect()).collect();
    for stream in &mut streams {
        send_frame(stream, &api_versions_request());
    }
    for stream in &mut streams {
        receive_frame(stream);
    }
    let each = (resident_kib(&node).saturating_sub(before) << 10) / count as u64;
    assert!(each < 4 << 10, "{each} bytes for each of {count} connections");
    still_serves(&node);
}

#[test]
fn requests_that_do_not_arrive_are_given_up_when_memory_is_short() {
    let limit = ["--queued-max-request-bytes", "1MiB", "--connection-queued-max-bytes", "1MiB"];
    let mut node = Node::start(&[&["--ephemeral"][..], &limit].concat());
    let mut stuck: Vec<_> = (0..3).map(|_| node.connect()).collect();
    let part = vec![0; 400 << 10];
    for stream in &mut stuck {
        stream.write_all(&(8u32 << 20).to_be_bytes()).unwrap();
        // The later ones may not be read any more.
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = stream.write_all(&part).and_then(|()| stream.write_all(&part));
    }
    let started_at = Instant::now();
    still_serves(&node);
    assert!(started_at.elapsed() < Duration::from_secs(20), "{:?}", started_at.elapsed());
    node.expect_log("queued.max.request.bytes");
}
