//! JSON over HTTP, against answers of a few lines.

#![allow(clippy::unwrap_used, reason = "a test may end by panicking")]

use std::time::Duration;

use chronik_client::{HttpError, get_json, post_json};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(20);

/// Answers one connection with these bytes; gives the address, and what was asked.
async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        // Until the head is there, and the body that it announces.
        while !is_whole(&request) {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, asked)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    body.len() >= length
}

#[tokio::test]
async fn asks_and_reads() {
    let (address, asked) = server("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}").await;
    let answer: Value = get_json(&address, "/v1/cluster/lag?topic=t", LIMIT).await.unwrap();
    assert_eq!(answer, json!({"a": 1}));
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /v1/cluster/lag?topic=t HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
}

#[tokio::test]
async fn posts_and_reads_an_answer_that_ends_with_the_connection() {
    let (address, asked) = server("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[true]").await;
    let answer: Value = post_json(&address, "/do", &json!({"x": "y"}), LIMIT).await.unwrap();
    assert_eq!(answer, json!([true]));
    assert!(asked.await.unwrap().ends_with("\r\n\r\n{\"x\":\"y\"}"));
}

#[tokio::test]
async fn refusals_say_why() {
    let answer = "HTTP/1.1 409 Conflict\r\ncontent-length: 57\r\n\r\n{\"message\":\"a voter is alive\",\"hint\":\"stop node 1 first\"}";
    let (address, _asked) = server(answer).await;
    let error = post_json::<Value>(&address, "/do", &json!({}), LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} refuses: a voter is alive; stop node 1 first"));
    let (address, _asked) = server("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").await;
    let error = get_json::<Value>(&address, "/x", LIMIT).await.unwrap_err();
    assert!(matches!(error, HttpError::NotFound { .. }), "{error}");
    let (address, _asked) = server("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{\"a").await;
    let error = get_json::<Value>(&address, "/x", LIMIT).await.unwrap_err();
    assert!(matches!(error, HttpError::Unreadable { .. }), "{error}");
}

#[tokio::test]
async fn what_speaks_no_http_is_told_of() {
    let (address, _asked) = server("\0\0\0\x0a1234567890").await;
    let error = get_json::<Value>(&address, "/x", LIMIT).await.unwrap_err();
    assert!(matches!(error, HttpError::NotHttp { .. }), "{error}");
    let (address, _asked) = server("").await;
    let error = get_json::<Value>(&address, "/x", LIMIT).await.unwrap_err();
    assert!(matches!(error, HttpError::NotHttp { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_and_nobody_answering() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = get_json::<Value>(&address, "/x", Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
    drop(listener);
    let error = get_json::<Value>(&address, "/x", LIMIT).await.unwrap_err();
    assert!(matches!(error, HttpError::Unreachable { .. }), "{error}");
}
