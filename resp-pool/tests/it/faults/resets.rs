//! Resets of a changed session: a peer that does not answer them in step loses its connection.

use std::time::Duration;

use resp_pool::{Config, Connection, Error, ProtocolError, cmd};

use super::peer::{Act, one, peer};

#[tokio::test]
async fn a_reset_that_the_peer_does_not_answer_in_step_discards() {
    for answer in [&b"+OK\r\n+OK\r\n"[..], b"+OK\r\n$16\r\n0123456789abcdef\r\n"] {
        let config = peer(move |request| match request {
            // SELECT 3 succeeds; the SELECT of the reset gets this, its PING nothing.
            1 => Act::With(answer.to_vec()),
            2 => Act::Not,
            _ => Act::Honestly,
        })
        .await;
        let client = one(config);
        let mut lease = client.acquire().await.expect("a connection");
        lease.query::<()>(&cmd("SELECT").arg(3).arg("two words for OK")).await.expect("SELECT");
        lease.release().await;
        for number in 0..100 {
            let nonce = number.to_string();
            assert_eq!(client.query::<String>(&["ECHO", &nonce]).await.expect("ECHO"), nonce);
        }
        assert_eq!(client.stats().opened, 2);
    }
}

/// The session is changed, and the reset meets `undo` and then, for its `PING`, `ping`: by the
/// borrower's hand, whose result this is, and as the lease is released. Also says how many
/// connections there were in the end.
async fn reset_meets(undo: Act, ping: Act, settle: fn(&mut Config)) -> (Result<(), Error>, u64) {
    let mut result = Ok(());
    let mut opened = 0;
    for by_hand in [true, false] {
        let (undo, ping) = (undo.clone(), ping.clone());
        let mut config = peer(move |request| match request {
            1 => undo.clone(),
            2 => ping.clone(),
            _ => Act::Honestly,
        })
        .await;
        settle(&mut config);
        let client = one(config);
        let mut lease = client.acquire().await.expect("a connection");
        lease.query::<()>(&cmd("SELECT").arg(3).arg("two words for OK")).await.expect("SELECT");
        if by_hand {
            let reset = tokio::time::timeout(Duration::from_secs(10), lease.reset()).await;
            result = reset.expect("the reset ends by itself");
            assert_eq!(Connection::is_broken(&mut lease), result.is_err(), "{result:?}");
        }
        lease.release().await;
        for number in 0..100 {
            let nonce = number.to_string();
            assert_eq!(client.query::<String>(&["ECHO", &nonce]).await.expect("ECHO"), nonce);
        }
        let now = client.stats().opened;
        assert!(by_hand || now == opened, "{opened} by hand, {now} otherwise");
        opened = now;
    }
    (result, opened)
}

#[tokio::test]
async fn a_reset_that_is_answered_with_too_much_discards() {
    let bulk = |announced: usize, sent: usize| {
        let mut bytes = format!("${announced}\r\n{}", "x".repeat(sent)).into_bytes();
        if sent == announced {
            bytes.extend_from_slice(b"\r\n");
        }
        Act::With(bytes)
    };
    let settle: fn(&mut Config) = |config| {
        config.settings.drain_bytes = 1000;
        // What does not end by its size does not end.
        config.settings.read_timeout = None;
    };
    let (result, opened) = reset_meets(bulk(900, 900), Act::Honestly, settle).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(opened, 1);
    for (undo, ping) in [
        (bulk(2000, 2000), Act::Honestly),
        // Together too much.
        (bulk(900, 900), bulk(900, 900)),
        // Given up before it is whole, which this one never is.
        (bulk(1_000_000, 2000), Act::Not),
    ] {
        let (result, opened) = reset_meets(undo, ping, settle).await;
        let error = result.expect_err("too much");
        assert!(matches!(error, Error::Protocol(ProtocolError::TooMuchToDrain)), "{error:?}");
        assert_eq!(opened, 2);
    }
}

#[tokio::test]
async fn a_reset_whose_ping_is_answered_with_something_else_discards() {
    for answer in [
        &b"+OK\r\n"[..],
        b":1\r\n",
        b"$-1\r\n",
        b"-ERR not now\r\n",
        b"*1\r\n+PONG\r\n",
        b"$16\r\n0123456789abcdef\r\n",
    ] {
        let (result, opened) = reset_meets(Act::Honestly, Act::With(answer.to_vec()), |_| {}).await;
        let error = result.expect_err("not the word");
        assert!(matches!(error, Error::Protocol(ProtocolError::WrongEcho)), "{error:?}");
        assert_eq!(opened, 2, "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn a_reset_that_is_answered_with_more_than_was_asked_for_discards() {
    for stray in [&b"+stray\r\n"[..], b"$5\r\nstr", b"+"] {
        let (result, opened) =
            reset_meets(Act::Honestly, Act::Adding(stray.to_vec()), |_| {}).await;
        let error = result.expect_err("more than the word");
        assert!(matches!(error, Error::Protocol(ProtocolError::Unsolicited)), "{error:?}");
        assert_eq!(opened, 2, "{}", stray.escape_ascii());
    }
}

#[tokio::test]
async fn a_refused_undo_discards() {
    let config = peer(|request| match request {
        1 => Act::With(b"-NOPERM you may not SELECT\r\n".to_vec()),
        _ => Act::Honestly,
    })
    .await;
    let client = one(config);
    let mut lease = client.acquire().await.expect("a connection");
    lease.query::<()>(&cmd("SELECT").arg(3).arg("two words for OK")).await.expect("SELECT");
    lease.release().await;
    assert_eq!(client.query::<String>(&["ECHO", "x"]).await.expect("ECHO"), "x");
    assert_eq!(client.stats().opened, 2);
}
