//! What a caller asks of one exchange: a limit on all of it, and a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use http1_pool::{Body, Client, Error, Stage};
use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalTimeout};
use pool_common::policy::Retry;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::support::memory::{DIAL, client, empty, get, hello, read_head};
use crate::support::{Peer, finished};

const LIMIT: Duration = Duration::from_secs(10);

/// Nothing is in use a minute later.
async fn quiet(client: &Client) {
    sleep(Duration::from_secs(60)).await;
    let status = client.pool().status();
    assert_eq!(status.leases + status.waiting + status.dialing + status.closing, 0, "{status}");
}

/// The stage at which a request ended by its limit, which passed exactly.
async fn ended(client: &Client) -> Stage {
    let start = Instant::now();
    let request = empty(get().extension(TotalTimeout::after(LIMIT)));
    let error = match client.request(request).await {
        Ok(response) => response.into_body().collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(start.elapsed(), LIMIT);
    assert!(error.is_timeout());
    let Error::TotalTimeout { stage, limit: LIMIT, .. } = error else { panic!("{error}") };
    quiet(client).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_ends_the_wait_for_a_silent_server() {
    let silent = |mut stream| async move { while read_head(&mut stream).await {} };
    let client = client(silent, |_| {});
    assert_eq!(ended(&client).await, Stage::Response);
    assert_eq!(client.pool().status().open, 0, "the connection is in the middle of an exchange");
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_ends_the_wait_for_a_connection() {
    let client = client(hello, |policy| policy.max_open_per_key = Some(1));
    let holder = client.request(empty(get())).await.unwrap();
    // The body is one that is still to be read.
    assert_eq!(client.pool().status().leases, 1);
    let start = Instant::now();
    let request = empty(get().extension(TotalTimeout::after(LIMIT)));
    let error = client.request(request).await.unwrap_err();
    assert_eq!(start.elapsed(), LIMIT);
    assert_eq!(error.stage(), Some(Stage::Start));
    assert!(matches!(error, Error::TotalTimeout { .. }) && !error.may_have_executed());
    drop(holder);
    quiet(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_ends_a_body_that_comes_slowly() {
    let slow = |mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        let mut sent = stream.write_all(head).await;
        while sent.is_ok() {
            sleep(Duration::from_millis(100)).await;
            sent = stream.write_all(b"ten bytes.").await;
        }
    };
    let client = client(slow, |_| {});
    assert_eq!(ended(&client).await, Stage::Body);
    assert_eq!(client.pool().status().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_ends_a_body_that_is_read_slowly() {
    let client = client(hello, |_| {});
    let request = empty(get().extension(TotalTimeout::after(LIMIT)));
    let response = client.request(request).await.unwrap();
    sleep(2 * LIMIT).await;
    let error = response.into_body().collect().await.unwrap_err();
    assert!(matches!(error, Error::TotalTimeout { stage: Stage::Body, .. }), "{error}");
    quiet(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_covers_attempts_and_pauses() {
    let served = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&served);
    let closing = move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    let client = client(closing, |policy| {
        policy.retry = Retry::Attempts;
        policy.retry_attempts = 100;
        policy.retry_back_off_min = Duration::from_secs(1);
        policy.retry_back_off_max = Duration::from_secs(1);
    });
    // It ends in a pause or in a dial, but an earlier attempt came further.
    assert_eq!(ended(&client).await, Stage::Response);
    // Each attempt takes a dial of 2 s and a pause of 1 s.
    assert_eq!(served.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_leaves_an_exchange_within_it_alone() {
    let client = client(hello, |_| {});
    for _ in 0..3 {
        let request = empty(get().extension(TotalTimeout::after(LIMIT)));
        let response = client.request(request).await.unwrap();
        assert_eq!(response.into_body().read_all(5).await.unwrap(), "hello");
        sleep(2 * LIMIT).await;
    }
    assert_eq!(client.pool().stats().opened, 1);
    quiet(&client).await;
}

async fn record(client: &Client) -> (ExchangeRecord, Body) {
    let response = client.request(empty(get().extension(RecordExchange))).await.unwrap();
    let record = response.extensions().get::<ExchangeRecord>().unwrap().clone();
    (record, response.into_body())
}

#[tokio::test(start_paused = true)]
async fn a_record_tells_where_the_time_went() {
    let client = client(hello, |policy| policy.max_open_per_key = Some(1));
    let (first, body) = record(&client).await;
    let zero = Duration::ZERO;
    assert_eq!((first.reused, first.attempts, first.peer), (false, 1, None));
    assert_eq!((first.queued, first.dialed, first.checked), (zero, DIAL, zero));
    let give_back = async {
        sleep(LIMIT).await;
        body.read_all(5).await.unwrap();
    };
    let ((second, body), ()) = tokio::join!(record(&client), give_back);
    assert_eq!((second.reused, second.connection), (true, first.connection));
    assert_eq!((second.queued, second.dialed, second.checked), (LIMIT, zero, zero));
    body.read_all(5).await.unwrap();
    let (third, body) = record(&client).await;
    assert_eq!((third.reused, third.queued, third.dialed), (true, zero, zero));
    let text = format!("connection {}, reused, attempts 1, queued 0ns", third.connection);
    assert!(third.to_string().starts_with(&text), "{third}");
    drop(body);
    // Nothing is noted unless it is asked for.
    let response = client.request(empty(get())).await.unwrap();
    assert!(response.extensions().get::<ExchangeRecord>().is_none());
    drop(response);
    quiet(&client).await;
}

#[tokio::test]
async fn a_record_counts_attempts_and_names_the_peer() {
    // Each connection but the last is closed when its second request comes.
    let peer = Peer::start(|mut wire, number| async move {
        while let Some(request) = wire.head().await {
            if number == 0 && request.target == "/close" {
                return;
            }
            wire.reply("ok").await;
        }
    })
    .await;
    let client = Client::new();
    let ask = async |path| {
        let request = http::Request::get(peer.uri(path)).extension(RecordExchange);
        let response = client.request(empty(request)).await.unwrap();
        let record = response.extensions().get::<ExchangeRecord>().unwrap().clone();
        response.into_body().read_all(2).await.unwrap();
        record
    };
    let first = ask("/").await;
    assert_eq!((first.attempts, first.reused, first.peer), (1, false, Some(peer.addr)));
    let second = ask("/close").await;
    assert_eq!((second.attempts, second.reused, second.peer), (2, false, Some(peer.addr)));
    assert_ne!(first.connection, second.connection);
    finished(&client, &peer).await;
}

#[tokio::test]
async fn nothing_is_sent_after_the_limit() {
    let peer = Peer::start(|mut wire, _| async move {
        while let Some(request) = wire.head().await {
            assert_eq!(request.target, "/first", "it came too late to be sent");
            wire.reply("ok").await;
        }
    })
    .await;
    let client = Client::new();
    let first = client.request(empty(http::Request::get(peer.uri("/first")))).await.unwrap();
    first.into_body().read_all(2).await.unwrap();
    let late = http::Request::post(peer.uri("/late"))
        .extension(TotalTimeout::until(tokio::time::Instant::now()));
    let error = client.request(empty(late)).await.unwrap_err();
    assert!(matches!(error, Error::TotalTimeout { .. }), "{error:?}");
    assert!(!error.may_have_executed());
    assert_eq!(client.pool().status().idle, 1, "its connection was not touched");
    let again = client.request(empty(http::Request::get(peer.uri("/first")))).await.unwrap();
    again.into_body().read_all(2).await.unwrap();
    assert_eq!(client.pool().stats().dials, 1);
    finished(&client, &peer).await;
}
