//! HTTP/2 over TLS, agreed on in the handshake.

use std::time::Duration;

use bytes::Bytes;
use h2_shared::{Client, ConnectError, Error};
use http::Request;
use http_body_util::{BodyExt, Empty};
use pool_common::DialError;
use pool_common::connect::{ConnectStage, Tls, TlsBuilder};
use pool_common::testing::certificates::{Authority, Identity};
use pool_common::testing::servers::{NghttpdServer, NginxServer};

use crate::support::eventually;

fn trusting(authority: &Authority) -> TlsBuilder {
    Tls::builder().only_added_roots().add_roots_pem(authority.pem())
}

fn client(tls: TlsBuilder) -> Client {
    Client::builder().tls(tls.build().unwrap()).build().unwrap()
}

async fn get(client: &Client, port: u16, target: &str) -> Result<Bytes, Error> {
    let request = Request::get(format!("https://localhost:{port}{target}"));
    let response = client.request(request.body(Empty::<Bytes>::new()).unwrap()).await?;
    assert_eq!(response.status(), 200);
    Ok(response.into_body().collect().await?.to_bytes())
}

/// The error of the dial, and its text. Nothing of the client is left in use.
async fn failed(client: &Client, port: u16) -> (Option<ConnectStage>, String) {
    let error = get(client, port, "/").await.unwrap_err();
    let text = error.to_string();
    assert!(!error.may_have_executed(), "{text}");
    eventually("no dial is left", || client.pool().status().open == 0).await;
    let Error::Acquire(error) = error else { panic!("{text}") };
    let stage = match error.dial_error() {
        Some(DialError::Failed(error)) => match &**error {
            ConnectError::Connect(error) => Some(error.stage()),
            _ => None,
        },
        _ => panic!("{text}"),
    };
    (stage, text)
}

#[tokio::test]
async fn requests_over_tls_share_one_connection() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    let nghttpd = NghttpdServer::start_tls(&identity);
    let nginx = NginxServer::start_tls(&identity, true, "");
    for (root, port) in [
        (nghttpd.document_root(), nghttpd.addr().port()),
        (nginx.document_root(), nginx.addr().port()),
    ] {
        std::fs::write(root.join("big"), vec![b'x'; 3 << 20]).unwrap();
        let client = client(trusting(&authority));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { get(&client, port, "/").await.unwrap() })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), "hello\n");
        }
        assert_eq!(get(&client, port, "/big").await.unwrap().len(), 3 << 20);
        assert_eq!(client.pool().stats().opened, 1);
        client.close().await;
        assert_eq!(client.pool().status().open, 0);
    }
}

#[tokio::test]
async fn a_server_without_http2_is_told_apart_from_one_that_is_not_trusted() {
    let authority = Authority::new();
    let http1_only = NginxServer::start_tls(&authority.issue(&["localhost"]), false, "");
    let (_, text) = failed(&client(trusting(&authority)), http1_only.addr().port()).await;
    assert!(text.contains("ALPN"), "{text}");

    for (identity, said) in [
        (authority.issue_expired(&["localhost"]), "expired"),
        (Identity::self_signed(&["localhost"]), "UnknownIssuer"),
        (authority.issue(&["other.example"]), "not valid for name"),
    ] {
        let server = NghttpdServer::start_tls(&identity);
        let (stage, text) = failed(&client(trusting(&authority)), server.addr().port()).await;
        assert_eq!(stage, Some(ConnectStage::Tls), "{text}");
        assert!(text.contains(said), "{text}");
    }
    let plain = NghttpdServer::start(&[]);
    let (stage, text) = failed(&client(trusting(&authority)), plain.addr().port()).await;
    assert_eq!(stage, Some(ConnectStage::Tls), "{text}");
}

#[tokio::test]
async fn a_peer_that_stops_within_the_handshake_costs_the_time_of_the_dial() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder()
        .tls(Tls::builder().webpki_roots().build().unwrap())
        .change_policy(|policy| policy.dial_timeout = Duration::from_millis(200))
        .build()
        .unwrap();
    let (stage, text) = failed(&client, listener.local_addr().unwrap().port()).await;
    assert_eq!(stage, Some(ConnectStage::Tls), "{text}");
    assert!(text.contains("no answer in time"), "{text}");
}
