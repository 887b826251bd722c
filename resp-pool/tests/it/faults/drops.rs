//! Callers that leave: a future that is dropped at any poll leaves the client sound.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use resp_pool::{Client, cmd};

use super::peer::{Act, one, peer};

/// Polls `future` so many times, then drops it. Between polls the reactor and the peer go on.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(value);
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    None
}

async fn assert_sound(client: &Client, what: &str) {
    for number in 0..10 {
        let nonce = format!("{what} {number}");
        assert_eq!(client.query::<String>(&["ECHO", &nonce]).await.expect("ECHO"), nonce);
    }
    let status = client.status();
    assert_eq!((status.leased, status.waiting, status.dialing), (0, 0, 0), "{what}");
}

#[tokio::test]
async fn a_dropped_query_is_sound_at_every_poll() {
    let client = one(peer(|_| Act::Honestly).await);
    let mut completed = 0;
    for polls in 0..20 {
        let request = ["ECHO", "given up"];
        if let Some(echo) = drop_after(polls, client.query::<String>(&request)).await {
            assert_eq!(echo.expect("ECHO"), "given up");
            completed += 1;
        }
        assert_sound(&client, &format!("{polls} polls")).await;
    }
    assert!(completed > 0);
}

#[tokio::test]
async fn a_dropped_release_is_sound_at_every_poll() {
    let client = one(peer(|_| Act::Honestly).await);
    let mut completed = 0;
    for polls in 0..20 {
        let mut lease = client.acquire().await.expect("a connection");
        lease.query::<()>(&["MULTI"]).await.expect("MULTI");
        lease.send(&["ECHO", "never received"]).expect("send");
        completed += usize::from(drop_after(polls, lease.release()).await.is_some());
        assert_sound(&client, &format!("{polls} polls")).await;
    }
    assert!(completed > 0);
}

#[tokio::test]
async fn raw_calls_go_on_where_they_were_dropped() {
    let client = one(peer(|_| Act::Honestly).await);
    for polls in 0..10 {
        let mut lease = client.acquire().await.expect("a connection");
        for number in 0..3 {
            lease.send(&cmd("ECHO").arg(number)).expect("send");
        }
        let mut first = drop_after(polls, lease.receive()).await;
        for number in 0..3 {
            let reply = match first.take() {
                Some(reply) => reply,
                None => lease.receive().await,
            };
            let number = number.to_string();
            assert_eq!(reply.expect("a reply").as_bytes().expect("a string"), number.as_bytes());
        }
    }
    assert_eq!(client.stats().opened, 1);
}
