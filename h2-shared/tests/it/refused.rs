//! A peer that refuses streams: callers wait, they do not dial.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::raw::{HEADERS, RawPeer, RawServer};
use crate::support::{assert_clean, client, get, post, read, send};
use h2_shared::{Client, Error, Reason};
use pool_common::Policy;
use pool_common::policy::Retry;
use pool_common::profile::{grpc, net_http_h2};
use tokio::time::Instant;

/// Refuses every stream until `until`, then answers. Counts connections and streams.
struct Busy {
    addr: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    accept: tokio::task::JoinHandle<()>,
}

impl Busy {
    async fn start(until: Option<Instant>) -> Self {
        let server = RawServer::start().await;
        let addr = server.addr;
        let connections = Arc::new(AtomicUsize::new(0));
        let streams = Arc::new(AtomicUsize::new(0));
        let accept = tokio::spawn({
            let (connections, streams) = (Arc::clone(&connections), Arc::clone(&streams));
            async move {
                loop {
                    let peer = server.accept(None).await;
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(peer, until, Arc::clone(&streams)));
                }
            }
        });
        Self { addr, connections, streams, accept }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve(mut peer: RawPeer, until: Option<Instant>, streams: Arc<AtomicUsize>) {
    while let Some(frame) = peer.read().await {
        if frame.kind != HEADERS {
            continue;
        }
        streams.fetch_add(1, Ordering::SeqCst);
        match until.is_none_or(|until| Instant::now() < until) {
            true => peer.reset(frame.stream, Reason::REFUSED_STREAM).await,
            false => peer.respond(frame.stream, b"ok").await,
        }
    }
}

fn policies() -> Vec<(String, Policy)> {
    let mut policies = vec![
        ("default".to_owned(), Client::default_policy()),
        ("net-http-h2".to_owned(), net_http_h2().policy),
        ("grpc".to_owned(), grpc().policy),
    ];
    for retry in Retry::ALL {
        policies.push((format!("{retry:?}"), Policy { retry: *retry, ..Client::default_policy() }));
    }
    policies
}

#[tokio::test]
async fn two_hundred_refused_requests_cause_no_storm_of_dials() {
    for (name, policy) in policies() {
        let server = Busy::start(Some(Instant::now() + Duration::from_millis(400))).await;
        let client = Client::builder().policy(policy).build().unwrap();
        let calls: Vec<_> = (0..200)
            .map(|_| {
                let (client, addr) = (client.clone(), server.addr);
                tokio::spawn(async move {
                    let response = send(&client, get(addr, "/")).await?;
                    read(response.into_body()).await
                })
            })
            .collect();
        for call in calls {
            if let Err(error) = call.await.unwrap() {
                assert!(!error.may_have_executed(), "{name}: {error}");
                assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM), "{name}: {error}");
                assert!(error.to_string().contains("REFUSED_STREAM"), "{name}: {error}");
            }
        }
        // The peer takes requests again by now.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let response = send(&client, get(server.addr, "/")).await;
        assert!(response.is_ok(), "{name}: {response:?}");
        assert!(server.connections() <= 3, "{name}: {} connections", server.connections());
    }
}

#[tokio::test]
async fn a_refused_request_is_sent_a_bounded_number_of_times() {
    let server = Busy::start(None).await;
    let client = client(|p| p.retry_back_off_max = Duration::from_millis(20), |_| {});
    let error = send(&client, post(server.addr, "/", "x")).await.unwrap_err();
    assert!(matches!(error, Error::Unprocessed { .. }), "{error}");
    let attempts = client.pool().policy().retry_attempts as usize;
    assert_eq!(server.streams.load(Ordering::SeqCst), attempts);
    assert_clean(&client).await;
}
