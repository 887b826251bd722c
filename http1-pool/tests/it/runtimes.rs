//! One client, several runtimes: what was made on one that has ended, or stands still, does no harm
//! on another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use http::Request;
use http1_pool::{Body, Client, Error, Stage};
use pool_common::policy::{Policy, Retry};
use tokio::runtime::{Builder, Runtime};

/// Answers `GET /silent` never, and everything else with an empty 200 after a moment, so that the
/// client waits for it. Counts requests.
fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || {
                let mut head = [0; 1024];
                while let Ok(1..) = stream.read(&mut head) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    let silent = head.starts_with(b"GET /silent");
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if !silent && stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

fn driven() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime starts")
}

async fn send(client: &Client, method: &str, address: SocketAddr, path: &str) -> Result<(), Error> {
    let uri = format!("http://{address}{path}");
    let request = Request::builder().method(method).uri(uri).body(Body::empty());
    client.request(request.expect("a request")).await.map(drop)
}

/// Runs a test that hangs, or kills a thread, when it fails.
fn within(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        test();
        let _ = tell.send(());
    });
    told.recv_timeout(Duration::from_secs(60)).expect("it ends, without a panic");
}

/// A client with one connection, dialed on `lives`, whose first wait was on another runtime: that.
fn waited_elsewhere(lives: &Runtime, address: SocketAddr) -> (Client, Runtime) {
    let policy = Policy { max_open_per_key: Some(1), min_idle: 1, ..Client::default_policy() };
    let limit = Some(Duration::from_millis(300));
    let client = Client::builder()
        .policy(policy)
        .change_config(|config| config.response_timeout = limit)
        .build()
        .expect("valid");
    let key = Request::get(format!("http://{address}/")).body(()).expect("a request");
    let key = http1_pool::Key::from_uri(key.uri()).expect("a key");
    lives.block_on(async {
        client.pool().warm_up(&key);
        while client.pool().status().idle == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let elsewhere = one_thread();
    elsewhere.block_on(send(&client, "GET", address, "/")).expect("an answer");
    assert_eq!(client.pool().stats().opened, 1, "the connection was used on two runtimes");
    (client, elsewhere)
}

#[test]
fn a_wait_does_not_panic_when_the_runtime_of_an_earlier_wait_has_ended() {
    within(|| {
        let (address, _) = server();
        let lives = driven();
        let (client, elsewhere) = waited_elsewhere(&lives, address);
        drop(elsewhere);
        lives.block_on(send(&client, "GET", address, "/")).expect("an answer");
        assert_eq!(client.pool().stats().opened, 1);
    });
}

#[test]
fn a_response_timeout_passes_although_the_runtime_of_an_earlier_wait_stands_still() {
    within(|| {
        let (address, _) = server();
        let lives = driven();
        let (client, elsewhere) = waited_elsewhere(&lives, address);
        let error = lives.block_on(send(&client, "GET", address, "/silent"));
        let error = error.expect_err("no answer comes");
        assert!(matches!(error, Error::Timeout { stage: Stage::Response, .. }), "{error}");
        drop(elsewhere);
    });
}

#[test]
fn connections_of_a_runtime_that_has_ended_are_not_lent() {
    within(|| {
        let (address, requests) = server();
        let policy = Policy { retry: Retry::Never, ..Client::default_policy() };
        let client = Client::builder().policy(policy).build().expect("valid");
        let ends = one_thread();
        ends.block_on(post_at_once(&client, address));
        drop(ends);
        one_thread().block_on(post_at_once(&client, address));
        assert_eq!(requests.load(Ordering::SeqCst), 2 * AT_ONCE, "each was sent once");
    });
}

const AT_ONCE: usize = 10;

/// Sends [`AT_ONCE`] requests at a time, each on another connection.
async fn post_at_once(client: &Client, address: SocketAddr) {
    let sent: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { send(&client, "POST", address, "/").await })
        })
        .collect();
    for request in sent {
        request.await.expect("no panic").expect("it was sent where the driver lives");
    }
}

#[test]
fn the_rest_of_a_body_that_was_dropped_is_waited_for_no_longer_than_its_limit() {
    within(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
                kept.push(stream);
            }
        });
        let policy = Policy { max_open_per_key: Some(1), ..Client::default_policy() };
        let client = Client::builder().policy(policy).build().expect("valid");
        let (still, lives) = (one_thread(), driven());
        // The response is dropped before its body is there.
        still.block_on(send(&client, "GET", address, "/")).expect("the head of an answer");
        lives.block_on(send(&client, "GET", address, "/")).expect("a connection is free");
        drop(still);
    });
}
