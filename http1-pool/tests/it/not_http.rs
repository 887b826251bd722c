//! Answers that are no answers: another protocol on the port, and an upgrade that was not asked
//! for. Each is an error at once, though the peer waits and no time limit is near.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Peer, answers_are_own, fetch, finished, get};
use http::Request;
use http1_pool::{Body, Client, Config, Error, OtherProtocol, ProtocolError};
use pool_common::profile::Profile;

/// A peer whose first connection answers with `bytes` and then waits; its others are good.
async fn peer_saying(bytes: Vec<u8>, speaks_first: bool) -> Peer {
    Peer::start(move |mut wire, number| {
        let bytes = bytes.clone();
        async move {
            if number > 0 {
                return wire.echo().await;
            }
            if !speaks_first {
                wire.head().await.unwrap();
            }
            wire.send(bytes).await;
            wire.closed().await;
        }
    })
    .await
}

/// A client without time limits, so that an error can only come from the answer.
fn patient(profile: Option<&Profile>) -> Client {
    let config = Config {
        response_timeout: None,
        body_timeout: None,
        write_timeout: None,
        ..Config::default()
    };
    let builder = Client::builder().config(config);
    match profile {
        Some(profile) => builder.profile(profile).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

fn protocol_error(error: &Error) -> &ProtocolError {
    match error {
        Error::Protocol { source, .. } => source,
        other => panic!("{other}"),
    }
}

const ANSWERS: [(&[u8], OtherProtocol); 7] = [
    (b"-ERR unknown command\r\n", OtherProtocol::Resp),
    (b"SSH-2.0-x\r\n", OtherProtocol::Ssh),
    (b"220 mail ready\r\n", OtherProtocol::Greeting),
    (b"\x15\x03\x01\x00\x02\x02\x46", OtherProtocol::Tls),
    (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", OtherProtocol::Http2),
    (b"HTTP/2.0 200 OK\r\n", OtherProtocol::OtherHttp),
    (b"<html>", OtherProtocol::Unknown),
];

#[tokio::test]
async fn another_protocol_is_named_at_once_and_its_first_bytes_are_shown() {
    for (bytes, expected) in ANSWERS {
        let peer = peer_saying(bytes.to_vec(), false).await;
        let client = patient(None);
        let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
        let ProtocolError::NotHttp1 { looks_like, start } = protocol_error(&error) else {
            panic!("{error}");
        };
        assert_eq!((*looks_like, start.as_slice()), (expected, bytes));
        let text = error.to_string();
        assert!(text.contains(&bytes.escape_ascii().to_string()), "{text}");
        assert!(text.contains(&peer.addr.to_string()), "{text}");
        assert!(!text.contains(char::is_control), "{text}");
        assert!(error.may_have_executed(), "{text}");
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 2);
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn no_profile_asks_another_protocol_twice() {
    for profile in Profile::all() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let peer = Peer::start(move |mut wire, _| {
            let counter = Arc::clone(&counter);
            async move {
                wire.send("SSH-2.0-x\r\n").await;
                if wire.head().await.is_some() {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                wire.closed().await;
            }
        })
        .await;
        let client = patient(Some(&profile));
        let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
        let name = profile.name;
        assert!(
            matches!(protocol_error(&error), ProtocolError::NotHttp1 { .. }),
            "{name}: {error}"
        );
        assert!(asked.load(Ordering::SeqCst) <= 1, "{name}");
    }
}

/// The first byte decides, however few come with it.
#[tokio::test]
async fn one_byte_that_cannot_start_an_answer_is_enough() {
    for bytes in [&b"\x15"[..], b"S", b"\0", b"h"] {
        let peer = peer_saying(bytes.to_vec(), false).await;
        let client = patient(None);
        let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
        assert!(matches!(protocol_error(&error), ProtocolError::NotHttp1 { .. }), "{error}");
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn an_unasked_upgrade_is_an_error_at_once() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n";
    let old = http::Version::HTTP_10;
    let upgrade_of_http_1_0 = Request::get("/").version(old).header("upgrade", "x");
    for request in [Request::get("/"), Request::post("/"), upgrade_of_http_1_0] {
        let peer = peer_saying(switch.into(), false).await;
        let client = patient(None);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.uri = peer.uri("/").parse().unwrap();
        let request = Request::from_parts(parts, Body::empty());
        let error = fetch(&client, request).await.unwrap_err();
        assert_eq!(*protocol_error(&error), ProtocolError::UnaskedUpgrade);
        answers_are_own(&client, &peer).await;
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn an_upgrade_that_was_asked_for_is_a_response() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nraw";
    let peer = Peer::start(move |mut wire, _| async move {
        wire.head().await.unwrap();
        wire.send(switch).await;
    })
    .await;
    let request =
        Request::get(peer.uri("/")).header("connection", "upgrade").header("upgrade", "x");
    let (response, body) =
        fetch(&patient(None), request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), body.as_str()), (101, "raw"));
}

/// A patient client and a peer that neither closes nor goes on still meet a limit.
#[tokio::test]
async fn a_start_that_may_become_an_answer_is_waited_for() {
    let peer = peer_saying(b"HTTP/1.".to_vec(), false).await;
    let client = Client::builder()
        .change_config(|config| config.response_timeout = Some(Duration::from_millis(50)))
        .build()
        .unwrap();
    let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
}
