//! A server that ends each connection after one answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use crate::support::within;
use http::Request;
use http1_pool::{Body, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const CALLERS: usize = 8;
const ROUNDS: usize = 20;

/// Answers when all callers have asked, with `Connection: close`, all of them at once.
async fn answer_in_rounds(listener: TcpListener) {
    for _ in 0..ROUNDS {
        let mut asked = Vec::new();
        while asked.len() < CALLERS {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                // A dial without a caller brings no request.
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            if !head.is_empty() {
                asked.push(stream);
            }
        }
        for mut stream in asked {
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    }
}

/// Callers ask again at once, round after round. Returns how many dials were under way together, at most.
async fn most_dials_at_a_time(dial_ramp: Option<Duration>) -> u32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(answer_in_rounds(listener));
    let client =
        Client::builder().change_policy(|policy| policy.dial_ramp = dial_ramp).build().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, uri) = (client.clone(), uri.clone());
        callers.spawn(async move {
            for _ in 0..ROUNDS {
                let request = Request::get(&uri).body(Body::empty()).unwrap();
                let answer = client.request(request).await.unwrap();
                answer.into_body().read_all(0).await.unwrap();
            }
        });
    }
    let most = Arc::new(AtomicU32::new(0));
    let (watched, seen) = (client.clone(), Arc::clone(&most));
    let watcher = tokio::spawn(async move {
        loop {
            seen.fetch_max(watched.pool().status().dialing, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    within(callers.join_all()).await;
    watcher.abort();
    within(server).await.unwrap();
    most.load(SeqCst)
}

/// With one thread all callers have their answers before the first of the next dials can end. A step
/// of the ramp that is longer than the test lets no time pass for what is held back.
#[tokio::test]
async fn successors_of_closed_connections_are_dialed_as_fast_as_without_a_ramp() {
    let without = most_dials_at_a_time(None).await;
    let with = most_dials_at_a_time(Some(Duration::from_secs(3600))).await;
    assert!(with * 10 >= without * 8, "{with} dials at a time, {without} without the ramp");
    assert!(without >= 6, "the test does not tell them apart: {without}");
}
