//! Many callers on two threads while connections age, callers give up, and limits are low.

use std::time::Duration;

use crate::support::echo::EchoServer;
use crate::support::{
    assert_clean, assert_echoes, client, eventually, plain_client, post, read, send,
};
use h2::server;
use h2_shared::Client;

fn limited(streams: u32) -> server::Builder {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(streams);
    builder
}

async fn callers<F: Future<Output = ()> + Send + 'static>(number: usize, make: impl Fn() -> F) {
    let callers: Vec<_> = (0..number).map(|_| tokio::spawn(make())).collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// gRPC's rolling restart by connection age: no call fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_age_fail_no_request() {
    let server = EchoServer::aging(limited(100), 60).await;
    let client = plain_client();
    let addr = server.addr;
    callers(30, || {
        let client = client.clone();
        async move { assert_echoes(&client, addr, 60).await }
    })
    .await;
    assert!(server.seen.connections() > 10, "connections came and went");
    assert_eq!(server.seen.requests(), 30 * 60, "each request ran once");
    assert_clean(&client).await;
    eventually("no connection is left", || server.seen.open() == 0).await;
}

/// A caller that gives up at some point, or not; what it reads is its own.
async fn impatient(client: Client, addr: std::net::SocketAddr) {
    for _ in 0..60 {
        let nonce = format!("nonce-{:016x}", fastrand::u64(..));
        let whole = async {
            let response = send(&client, post(addr, "/echo", nonce.clone())).await.unwrap();
            read(response.into_body()).await.unwrap()
        };
        let patience = Duration::from_micros(fastrand::u64(0..4_000));
        if let Ok(echo) = tokio::time::timeout(patience, whole).await {
            assert_eq!(echo, nonce);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_while_connections_age_disturb_no_other() {
    let server = EchoServer::aging(limited(5), 40).await;
    let client = client(|p| p.max_open_per_key = Some(4), |_| {});
    let addr = server.addr;
    let patient = callers(10, || {
        let client = client.clone();
        async move { assert_echoes(&client, addr, 60).await }
    });
    let giving_up = callers(20, || impatient(client.clone(), addr));
    tokio::join!(patient, giving_up);
    assert_echoes(&client, addr, 100).await;
    assert_clean(&client).await;
    eventually("no stream is left", || server.seen.active() == 0).await;
    eventually("no connection is left", || server.seen.open() == 0).await;
}
