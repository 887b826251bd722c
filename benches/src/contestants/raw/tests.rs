use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::contestants::{Contestant, ErrorKind};

/// A server that answers the first request with the reply of a probe, and each later one with `later`,
/// in pieces of which the first has this length. `NONCE` stands for the nonce of the request.
async fn server(later: &'static str, first_piece: usize) -> Target {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut replies = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.unwrap() > 0 {
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
                let (_, nonce) = head.split_once("x-nonce: ").unwrap();
                request.clear();
                let reply = if replies == 0 { PROBED } else { later };
                replies += 1;
                let reply = reply.replace("NONCE", &nonce[..NONCE_LEN]);
                let (first, rest) = reply.as_bytes().split_at(first_piece.min(reply.len()));
                stream.write_all(first).await.unwrap();
                // The client reads what is there.
                tokio::time::sleep(Duration::from_millis(20)).await;
                stream.write_all(rest).await.unwrap();
                if reply.contains("connection: close") {
                    break;
                }
            }
        }
    });
    Target::embedded(Protocol::Http1, address)
}

const PROBED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\nNONCE";
const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 16\r\n\r\nNONCE";

/// One exchange with such a server, and whether it was the last of its connection.
async fn ask(later: &'static str, first_piece: usize) -> (Result<Echo, CallError>, bool) {
    let target = server(later, first_piece).await;
    let template = probe(&target).await.unwrap();
    let mut socket = RawSocket::open(&target, &template).await.unwrap();
    let request =
        Request { nonce: Nonce::new(3, 4), started: Instant::now(), kind: RequestKind::Read };
    let result = socket.exchange(&request).await;
    (result, socket.is_over())
}

#[tokio::test]
async fn a_reply_that_announces_the_end_of_its_connection_is_a_reply() {
    // In one piece, cut within its head, and cut where the reply of the probe would end.
    for first_piece in [usize::MAX, 20, PROBED.len() + NONCE_LEN - "NONCE".len()] {
        assert_eq!(ask(PROBED, first_piece).await, (Ok(Echo::Returned), false), "{first_piece}");
        assert_eq!(ask(LAST, first_piece).await, (Ok(Echo::Returned), true), "{first_piece}");
    }
}

#[tokio::test]
async fn other_replies_are_wrong() {
    for (later, echo) in [
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 16\r\n\r\n0000000000000000",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nx-other: yes\r\ncontent-length: 16\r\n\r\nNONCE", false),
        ("HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 16\r\n\r\nNONCE", false),
    ] {
        let (result, _) = ask(later, usize::MAX).await;
        match echo {
            true => assert_eq!(result, Ok(Echo::Wrong), "{later}"),
            false => assert_eq!(result.unwrap_err().kind, ErrorKind::Wrong, "{later}"),
        }
    }
}

#[tokio::test]
async fn redials_of_a_limit_are_told_apart_by_whose_end_made_them() {
    let target = Arc::new(server(PROBED, usize::MAX).await);
    let template = Arc::new(probe(&target).await.unwrap());
    let limit = super::super::limit::Limit::new(target, template);
    let mut caller = limit.caller().await.unwrap();
    let request =
        Request { nonce: Nonce::new(3, 4), started: Instant::now(), kind: RequestKind::Read };
    // The caller leaves at once.
    let call = super::super::limit::Limit::call(&mut caller, &request);
    assert!(futures_util::FutureExt::now_or_never(call).is_none());
    let reply = super::super::limit::Limit::call(&mut caller, &request).await;
    assert_eq!(reply.unwrap().echo, Echo::Returned);
    let redials = limit.redials();
    assert_eq!((redials.count, redials.left), (1, 1));
}

#[tokio::test]
async fn redials_where_the_server_ended_a_connection_are_its_own() {
    let target = Arc::new(server(LAST, usize::MAX).await);
    let template = Arc::new(probe(&target).await.unwrap());
    let limit = super::super::limit::Limit::new(target, template);
    let mut caller = limit.caller().await.unwrap();
    let request =
        Request { nonce: Nonce::new(3, 4), started: Instant::now(), kind: RequestKind::Read };
    for _ in 0..2 {
        let reply = super::super::limit::Limit::call(&mut caller, &request).await;
        assert_eq!(reply.unwrap().echo, Echo::Returned);
    }
    let redials = limit.redials();
    assert_eq!((redials.count, redials.left), (1, 0));
}
