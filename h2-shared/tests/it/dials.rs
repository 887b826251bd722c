//! Dials that fail or are of no use: beside a connection that works, for a floor, in a short outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::raw::{HEADERS, RawServer};
use crate::support::{assert_clean, get, read, send};
use h2_shared::{Client, Config, Key, Manager};
use pool_common::clock::Clock;
use pool_common::policy::AfterFailedDial;
use pool_common::profile::{go_redis, grpc, net_http_h2};
use pool_common::{Policy, Pool};

/// The first connection serves four streams at a time; all others are reset before their SETTINGS.
#[tokio::test]
async fn a_further_dial_that_fails_fails_no_caller_beside_a_connection_that_works() {
    let default = Client::default_policy;
    let policies = [
        ("default", default()),
        ("tell", Policy { after_failed_dial: AfterFailedDial::Tell, ..default() }),
        ("net-http-h2", net_http_h2().policy),
        ("grpc", grpc().policy),
        ("go-redis", Policy { acquire_timeout: default().acquire_timeout, ..go_redis().policy }),
    ];
    for (name, policy) in policies {
        let server = RawServer::start().await;
        let addr = server.addr;
        let accept = tokio::spawn(async move {
            let mut first = server.accept(Some(4)).await;
            tokio::spawn(async move {
                while let Some(frame) = first.read().await {
                    if frame.kind == HEADERS {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        first.respond(frame.stream, b"ok").await;
                    }
                }
            });
            loop {
                drop(server.accept_silent().await);
            }
        });
        let client = Client::builder().policy(policy).build().unwrap();
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(
                    async move { read(send(&client, get(addr, "/")).await?.into_body()).await },
                )
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            assert_eq!(answer.unwrap_or_else(|error| panic!("{name}: {error}")), "ok");
        }
        accept.abort();
    }
}

/// A balancer without backends: it shakes hands and says that it goes.
#[tokio::test(start_paused = true)]
async fn a_floor_that_is_sent_away_after_its_handshake_is_dialed_ever_more_rarely() {
    let policies = [
        ("default", Client::default_policy()),
        ("grpc", grpc().policy),
        ("net-http-h2", net_http_h2().policy),
    ];
    for (name, policy) in policies {
        let server = RawServer::start().await;
        let key = Key::from_uri(get(server.addr, "/").uri()).unwrap();
        let dials = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&dials);
        let accept = tokio::spawn(async move {
            // Dials without a pause would leave no moment for the time to pass.
            while accepted.load(SeqCst) < 50 {
                let mut peer = server.accept(Some(100)).await;
                accepted.fetch_add(1, SeqCst);
                peer.go_away(0, h2_shared::Reason::NO_ERROR).await;
                tokio::spawn(async move { peer.drain().await });
            }
            std::future::pending::<()>().await;
        });
        let policy = Policy { min_idle: 1, ..policy };
        let manager = Manager::new(Config::default()).unwrap();
        let pool = Pool::builder(manager).policy(policy).clock(Clock::tokio()).build().unwrap();
        pool.warm_up(&key);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let dials = dials.load(SeqCst);
        assert!((4..=10).contains(&dials), "{name}: {dials} dials in a minute without a caller");
        accept.abort();
        pool.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_for_a_moment_serves_callers_with_time() {
    let server = RawServer::start().await;
    let addr = server.addr;
    drop(server);
    let client = Client::builder()
        .change_policy(|policy| policy.acquire_timeout = Some(Duration::from_secs(30)))
        .clock(Clock::tokio())
        .build()
        .unwrap();
    for _ in 0..3 {
        send(&client, get(addr, "/")).await.expect_err("it is refused");
    }
    // Dials pause now. The server is back after a moment.
    let call = {
        let client = client.clone();
        tokio::spawn(async move { read(send(&client, get(addr, "/")).await?.into_body()).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!call.is_finished(), "it waits for the end of the pause");
    let server = RawServer::start_at(addr).await;
    let accept = tokio::spawn(async move {
        let mut peer = server.accept(Some(100)).await;
        while let Some((stream, _)) = peer.request().await {
            peer.respond(stream, b"back").await;
        }
    });
    assert_eq!(call.await.unwrap().unwrap(), "back");
    assert_clean(&client).await;
    accept.await.unwrap();
}
