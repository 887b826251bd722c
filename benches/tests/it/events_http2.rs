//! Faults of the HTTP/2 server, seen by a client of the h2 crate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::SendRequest;
use http::{Method, Request};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::Serving;
use crate::events::{Control, LONG, SHORT, address};

/// A connection, and how it ended.
struct Client {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// The body of a reply.
    async fn request(&self, method: Method, nonce: &str) -> Result<Bytes, h2::Error> {
        let request =
            Request::builder().method(method).uri("http://x/").header("x-nonce", nonce).body(());
        let mut send = self.send.clone().ready().await?;
        let (reply, _) = send.send_request(request.unwrap(), true)?;
        let mut body = reply.await?.into_body();
        body.data().await.expect("there is a body")
    }

    async fn get(&self) -> Duration {
        let began = Instant::now();
        let reply = timeout(LONG, self.request(Method::GET, "0000000100000002")).await;
        assert_eq!(reply.unwrap().unwrap(), "0000000100000002");
        began.elapsed()
    }

    /// Waits until the server has said that this many streams are allowed.
    async fn allows(&self, streams: usize) {
        let deadline = Instant::now() + LONG;
        while self.send.current_max_send_streams() != streams {
            let now = self.send.current_max_send_streams();
            assert!(Instant::now() < deadline, "{now} streams instead of {streams}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn serving() -> (Serving, Control, SocketAddr) {
    let serving = Serving::start(&["--http2", "127.0.0.1:0"]);
    let mut control = Control::of(&serving);
    control.start("http2");
    let address = address(&serving, "http2");
    (serving, control, address)
}

#[tokio::test]
async fn the_limit_of_streams_changes_on_open_connections() {
    let (_serving, mut control, address) = serving();
    let old = Client::dial(address).await;
    old.get().await;
    old.allows(250).await;
    let id = control.inject("http2", json!({"fault": "max-streams", "streams": 1}));
    old.allows(1).await;
    old.get().await;
    let new = Client::dial(address).await;
    new.get().await;
    new.allows(1).await;
    control.lift("http2", id);
    for client in [&old, &new] {
        client.allows(250).await;
        // Nothing is refused, and the window is as the client knows it.
        join_all((0..100).map(|_| client.get())).await;
    }
    // Changes that come faster than the client acknowledges them end with the last one.
    for streams in [7, 3, 9, 5] {
        control.inject("http2", json!({"fault": "max-streams", "streams": streams}));
    }
    old.allows(5).await;
    control.start("http2");
    old.allows(250).await;
    old.get().await;
}

#[tokio::test]
async fn an_announced_end_lets_open_streams_finish() {
    let (_serving, mut control, address) = serving();
    let client = Client::dial(address).await;
    client.get().await;
    let id = control.inject("http2", json!({"fault": "slow-replies", "ms": 100}));
    let (took, ()) = tokio::join!(client.get(), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        control.inject("http2", json!({"fault": "announce"}));
    });
    assert!(took >= Duration::from_millis(100));
    control.lift("http2", id);
    timeout(LONG, client.ended).await.unwrap().unwrap().unwrap();
    Client::dial(address).await.get().await;
    drop(client.send);
}

// With two threads: the client's tasks have to run while the test waits for the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_answers_when_the_silence_ends() {
    let (_serving, mut control, address) = serving();
    let old = Client::dial(address).await;
    old.get().await;
    let id = control.inject("http2", json!({"fault": "silence", "who": "old"}));
    let reply = old.request(Method::GET, "0000000100000003");
    tokio::pin!(reply);
    assert!(timeout(SHORT, &mut reply).await.is_err());
    Client::dial(address).await.get().await;
    control.lift("http2", id);
    assert_eq!(timeout(LONG, reply).await.unwrap().unwrap(), "0000000100000003");
    control.inject("http2", json!({"fault": "silence", "who": "all"}));
    old.ended.abort();
    control.none_open("http2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut_at_once_or_when_idle() {
    let (_serving, mut control, address) = serving();
    for how in ["fin", "rst"] {
        let client = Client::dial(address).await;
        client.get().await;
        control.inject("http2", json!({"fault": "cut", "how": how}));
        let ended = timeout(LONG, client.ended).await.unwrap().unwrap();
        assert!(how == "fin" || ended.is_err(), "a reset is an error");
        let id = control.inject("http2", json!({"fault": "cut-idle", "after_ms": 400, "how": how}));
        let client = Client::dial(address).await;
        client.get().await;
        timeout(LONG, client.ended).await.unwrap().unwrap().ok();
        control.lift("http2", id);
    }
    control.none_open("http2");
}

#[tokio::test]
async fn dials_and_replies_are_late() {
    let (_serving, mut control, address) = serving();
    let late = Duration::from_millis(60);
    let clients = [Client::dial(address).await, Client::dial(address).await];
    for (fault, slow) in [
        (json!({"fault": "slow-replies", "ms": 60}), [true, true]),
        (json!({"fault": "stall-one", "of": 2, "ms": 60}), [true, false]),
        (json!({"fault": "slow-backend", "ms": 60}), [false, true]),
    ] {
        let id = control.inject("http2", fault.clone());
        for (client, slow) in clients.iter().zip(slow) {
            assert!(!slow || client.get().await >= late, "{fault}");
        }
        control.lift("http2", id);
    }
    control.inject("http2", json!({"fault": "slow-dial", "ms": 60}));
    let began = Instant::now();
    Client::dial(address).await.allows(250).await;
    assert!(began.elapsed() >= late);
}

#[tokio::test]
async fn a_post_that_runs_twice_is_counted() {
    let (_serving, mut control, address) = serving();
    let client = Client::dial(address).await;
    for _ in 0..2 {
        client.request(Method::POST, "0000000100000007").await.unwrap();
    }
    let counters = &control.ask(&json!({"op": "counters", "protocol": "http2"}))["counters"];
    assert_eq!((&counters["writes"], &counters["write_duplicates"]), (&json!(2), &json!(1)));
}
