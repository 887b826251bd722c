//! Debug data of a peer in what people read.

use crate::support::raw::RawServer;
use crate::support::{client, eventually, get, send};
use h2_shared::Reason;
use pool_common::policy::Retry;
use pool_common::testing::logs::Lines;

/// A peer may send 16 KiB of debug data; texts and log lines show the beginning.
#[tokio::test]
async fn long_words_of_a_go_away_are_cut_in_errors_and_log_lines() {
    let (log, _listening) = Lines::listen("h2_shared", tracing::Level::DEBUG);
    for reason in [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
        for undone in [false, true] {
            let server = RawServer::start().await;
            let client = client(|p| p.retry = Retry::Never, |_| {});
            let answer = tokio::spawn({
                let (client, addr) = (client.clone(), server.addr);
                async move { send(&client, get(addr, "/")).await.map(drop) }
            });
            let mut peer = server.accept(None).await;
            let (stream, _) = peer.request().await.unwrap();
            let last = if undone { 0 } else { stream };
            peer.go_away_because(last, reason, &[b'w'; 16_000]).await;
            drop(peer);
            let error = answer.await.unwrap().unwrap_err();
            assert_eq!(!error.may_have_executed(), undone, "{error}");
            for text in [format!("{error:?}"), format!("{error}")] {
                assert!(text.len() < 1_000, "{} bytes: {}", text.len(), &text[..200]);
            }
            eventually("its task has ended", || client.pool().status().open == 0).await;
        }
    }
    let events = log.all();
    assert!(events.iter().any(|event| event.contains("no new streams")), "{}", events.len());
    for event in events {
        assert!(event.len() < 1_000, "{} bytes: {}", event.len(), &event[..200]);
    }
}
