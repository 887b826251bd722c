//! Which failed requests are sent again, and that no other one is executed twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{
    Peer, answers_are_own, client, fetch, finished, get, look_at_sockets, until, within,
};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::StreamBody;
use http1_pool::{Body, Client, Error, Stage};
use pool_common::policy::{Policy, Retry};
use pool_common::profile::Profile;
use tokio::sync::Notify;

/// Answers the first request of its first `stale` connections and ends them at the second, after
/// counting it. Other connections are good.
async fn stale_after_one(stale: usize, counted: Arc<AtomicUsize>) -> Peer {
    Peer::start(move |mut wire, number| {
        let counted = Arc::clone(&counted);
        async move {
            if number >= stale {
                return wire.echo().await;
            }
            if let Some(request) = wire.head().await {
                wire.reply(&request.target).await;
                if wire.head().await.is_some() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    })
    .await
}

/// Opens `count` connections and leaves them idle.
async fn open(client: &Client, peer: &Peer, count: usize) {
    let mut responses = Vec::new();
    for _ in 0..count {
        responses.push(client.request(get(peer, "/open")).await.unwrap());
    }
    for response in responses {
        response.into_body().read_all(100).await.unwrap();
    }
    assert_eq!(client.pool().status().idle as usize, count);
    assert_eq!(peer.accepted(), count);
}

fn with(retry: Retry, attempts: u32) -> impl FnOnce(&mut Policy) {
    move |policy| {
        policy.retry = retry;
        policy.retry_attempts = attempts;
    }
}

#[tokio::test]
async fn a_chain_of_stale_connections_ends_with_a_fresh_one() {
    let executed = Arc::new(AtomicUsize::new(0));
    let peer = stale_after_one(5, Arc::clone(&executed)).await;
    let client = client(with(Retry::ReusedAndReplayable, 3));
    open(&client, &peer, 5).await;
    assert_eq!(fetch(&client, get(&peer, "/again")).await.unwrap().1, "/again");
    // The third attempt does not try a third stale one.
    assert_eq!(executed.load(Ordering::SeqCst), 2);
    assert_eq!(peer.accepted(), 6);
    client.pool().retire_all();
    answers_are_own(&client, &peer).await;
    finished(&client, &peer).await;
}

/// Every connection dies at its second request, and many callers meet that at the same time. Returns
/// how often the peer got one request at most.
async fn most_often_sent(policy: Policy, hides_the_deaths: bool) -> u32 {
    let sent = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let log = Arc::clone(&sent);
    let peer = Peer::start(move |mut wire, _| {
        let log = Arc::clone(&log);
        async move {
            for answer in [true, false] {
                let Some(request) = wire.head().await else { return };
                *log.lock().unwrap().entry(request.target.clone()).or_default() += 1;
                if answer {
                    wire.reply(&request.target).await;
                }
            }
        }
    })
    .await;
    let client = Client::builder().policy(policy).build().unwrap();
    let callers: Vec<_> = (0..32)
        .map(|caller| {
            let (client, uri) = (client.clone(), peer.uri(""));
            tokio::spawn(async move {
                for step in 0..4 {
                    let uri = format!("{uri}/{caller}/{step}");
                    let request = Request::get(uri).body(Body::empty()).unwrap();
                    match fetch(&client, request).await {
                        Ok(_) | Err(Error::Acquire(_)) => {}
                        Err(error) => assert!(!hides_the_deaths, "{error}"),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        within(caller).await.unwrap();
    }
    let sent = sent.lock().unwrap();
    sent.values().max().copied().unwrap_or(0)
}

#[tokio::test]
async fn one_request_is_sent_at_most_three_times_under_every_profile() {
    for Profile { name, policy, .. } in Profile::all() {
        let hides = matches!(
            policy.retry,
            Retry::ReusedAndReplayable | Retry::Idempotent | Retry::Attempts
        );
        let unlimited = Policy { max_open_per_key: None, ..policy };
        let most = most_often_sent(unlimited, hides).await;
        assert!((1..=3).contains(&most), "{name}: one was sent {most} times");
    }
}

/// At its limit the pool may have to lend a returned connection where a fresh one is wanted, and
/// that can die too.
#[tokio::test]
async fn at_a_limit_one_request_is_sent_as_often_as_the_profile_allows() {
    for Profile { name, policy, .. } in Profile::all() {
        let allowed = policy.retry_attempts.max(1);
        let most = most_often_sent(policy, false).await;
        assert!((1..=allowed).contains(&most), "{name}: one was sent {most} times");
    }
}

#[tokio::test]
async fn only_replayable_requests_are_sent_again() {
    for (method, key, replayed) in [
        (Method::GET, false, true),
        (Method::HEAD, false, true),
        (Method::OPTIONS, false, true),
        (Method::TRACE, false, true),
        (Method::POST, false, false),
        (Method::DELETE, false, false),
        (Method::POST, true, true),
    ] {
        let executed = Arc::new(AtomicUsize::new(0));
        let peer = stale_after_one(2, Arc::clone(&executed)).await;
        let client = client(with(Retry::ReusedAndReplayable, 3));
        open(&client, &peer, 2).await;
        let mut request = Request::builder().method(&method).uri(peer.uri("/x"));
        if key {
            request = request.header("idempotency-key", "1");
        }
        let body = if method == Method::POST { Body::from("") } else { Body::empty() };
        let result = fetch(&client, request.body(body).unwrap()).await;
        if replayed {
            result.unwrap();
            assert_eq!(executed.load(Ordering::SeqCst), 2, "{method}");
        } else {
            let error = result.unwrap_err();
            assert!(
                matches!(error, Error::Closed { stage: Stage::Response, .. }),
                "{method}: {error}"
            );
            assert!(error.may_have_executed());
            assert_eq!(executed.load(Ordering::SeqCst), 1, "{method}");
        }
    }
}

/// The rule says "any", and means it: the user has chosen the risk. Only a body that is spent, an
/// answer that began, or a timeout ends the attempts.
#[tokio::test]
async fn attempts_repeats_a_post_that_may_have_been_carried_out() {
    for (retry, repeated) in [
        (Retry::Attempts, true),
        (Retry::ReusedAndReplayable, false),
        (Retry::Idempotent, false),
        (Retry::BadConnection, false),
        (Retry::Unprocessed, false),
        (Retry::Never, false),
    ] {
        let executed = Arc::new(AtomicUsize::new(0));
        let peer = stale_after_one(1, Arc::clone(&executed)).await;
        let client = client(with(retry, 3));
        open(&client, &peer, 1).await;
        let post = Request::post(peer.uri("/post")).body(Body::from("x")).unwrap();
        match fetch(&client, post).await {
            Ok((_, body)) => assert!(repeated && body == "/post", "{retry:?}"),
            Err(error) => assert!(!repeated && error.may_have_executed(), "{retry:?}: {error}"),
        }
        assert_eq!(executed.load(Ordering::SeqCst), 1, "{retry:?}");
        assert_eq!(peer.accepted(), 1 + usize::from(repeated), "{retry:?}");
    }
}

#[tokio::test]
async fn a_streamed_body_is_sent_once() {
    let executed = Arc::new(AtomicUsize::new(0));
    let peer = stale_after_one(2, Arc::clone(&executed)).await;
    let client = client(with(Retry::ReusedAndReplayable, 3));
    open(&client, &peer, 2).await;
    let frames = ["a", "b"].map(|text| Ok::<_, Error>(http_body::Frame::data(Bytes::from(text))));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::get(peer.uri("/x")).body(body).unwrap();
    let error = within(client.request(request)).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. } | Error::Io { .. }), "{error}");
    assert_eq!(executed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_an_error() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await;
    })
    .await;
    let client = client(with(Retry::ReusedAndReplayable, 5));
    let error = fetch(&client, get(&peer, "/x")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { stage: Stage::Response, .. }), "{error}");
    assert_eq!(peer.accepted(), 1);
    finished(&client, &peer).await;
}

#[tokio::test]
async fn nothing_is_sent_again_after_the_first_byte_of_an_answer() {
    for answer in
        ["H", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1"]
    {
        for retry in [Retry::ReusedAndReplayable, Retry::Idempotent, Retry::Attempts] {
            let peer = Peer::start(move |mut wire, _| async move {
                if wire.head().await.is_some() {
                    wire.reply("first").await;
                    if wire.head().await.is_some() {
                        wire.send(answer).await;
                    }
                }
            })
            .await;
            let client = client(with(retry, 5));
            open(&client, &peer, 2).await;
            fetch(&client, get(&peer, "/x")).await.unwrap_err();
            assert_eq!(peer.accepted(), 2, "{answer:?} {retry:?}");
            assert_eq!(client.pool().status().idle, 1);
        }
    }
}

#[tokio::test]
async fn fasthttp_tries_idempotent_requests_five_times_even_on_fresh_connections() {
    for (method, attempts) in [
        (Method::GET, 5),
        (Method::HEAD, 5),
        (Method::PUT, 5),
        (Method::POST, 1),
        (Method::DELETE, 1),
    ] {
        let peer = Peer::start(|mut wire, _| async move {
            wire.head().await;
        })
        .await;
        let client = client(with(Retry::Idempotent, 5));
        let request = Request::builder().method(&method).uri(peer.uri("/"));
        fetch(&client, request.body(Body::empty()).unwrap()).await.unwrap_err();
        assert_eq!(peer.accepted(), attempts, "{method}");
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_lent_so_a_post_succeeds() {
    let leave = Arc::new(Notify::new());
    let told = Arc::clone(&leave);
    let peer = Peer::start(move |mut wire, number| {
        let told = Arc::clone(&told);
        async move {
            if number > 0 {
                return wire.echo().await;
            }
            wire.head().await.unwrap();
            wire.reply("first").await;
            told.notified().await;
        }
    })
    .await;
    let client = client(with(Retry::Never, 1));
    assert_eq!(fetch(&client, get(&peer, "/")).await.unwrap().1, "first");
    assert_eq!(client.pool().status().idle, 1);
    leave.notify_one();
    until(|| peer.open() == 0).await;
    look_at_sockets().await;
    let post = Request::post(peer.uri("/post")).body(Body::empty()).unwrap();
    assert_eq!(fetch(&client, post).await.unwrap().1, "/post");
    assert_eq!(peer.accepted(), 2);
}

/// Without the peek the client still notices that nothing was sent, and reports it.
#[tokio::test]
async fn an_unsent_post_is_sent_again_where_the_rule_allows() {
    for (retry, attempts, succeeds) in [
        (Retry::Never, 5, false),
        (Retry::ReusedAndReplayable, 2, true),
        (Retry::Idempotent, 5, false),
        (Retry::BadConnection, 3, true),
        (Retry::Unprocessed, 3, true),
        (Retry::Attempts, 3, true),
    ] {
        let leave = Arc::new(Notify::new());
        let told = Arc::clone(&leave);
        let peer = Peer::start(move |mut wire, number| {
            let told = Arc::clone(&told);
            async move {
                if number > 0 {
                    return wire.echo().await;
                }
                wire.head().await.unwrap();
                wire.reply("first").await;
                told.notified().await;
            }
        })
        .await;
        let client = client(|policy| {
            with(retry, attempts)(policy);
            policy.peek = false;
        });
        assert_eq!(fetch(&client, get(&peer, "/")).await.unwrap().1, "first");
        assert_eq!(client.pool().status().idle, 1);
        leave.notify_one();
        until(|| peer.open() == 0).await;
        look_at_sockets().await;
        let post = Request::post(peer.uri("/post")).body(Body::empty()).unwrap();
        match fetch(&client, post).await {
            Ok((_, body)) => assert!(succeeds && body == "/post", "{retry:?}"),
            Err(error) => assert!(!succeeds && !error.may_have_executed(), "{retry:?}: {error}"),
        }
        finished(&client, &peer).await;
    }
}
