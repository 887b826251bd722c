//! https against real servers: what works, and what each failure says.

use std::time::Duration;

use http::Request;
use http1_pool::{Body, Client, Error};
use pool_common::DialError;
use pool_common::connect::{ConnectError, ConnectStage, Tls, TlsBuilder};
use pool_common::policy::Dial;
use pool_common::testing::certificates::{Authority, Identity};
use pool_common::testing::servers::NginxServer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{fetch, settled};

const NONCE: &str = "location /nonce { return 200 \"$ssl_client_s_dn $arg_n\"; }";

fn trusting(authority: &Authority) -> TlsBuilder {
    Tls::builder().only_added_roots().add_roots_pem(authority.pem())
}

fn client(tls: TlsBuilder) -> Client {
    Client::builder().tls(tls.build().unwrap()).build().unwrap()
}

async fn get(client: &Client, port: u16, target: &str) -> Result<(u16, String), Error> {
    let uri = format!("https://localhost:{port}{target}");
    let request = Request::get(uri).body(Body::empty()).unwrap();
    fetch(client, request).await.map(|(head, text)| (head.status().as_u16(), text))
}

/// The failed handshake behind an error. Nothing of the client is left in use.
async fn failed_handshake(client: &Client, port: u16) -> String {
    let error = get(client, port, "/").await.unwrap_err();
    assert!(!error.may_have_executed());
    let text = error.to_string();
    let Error::Acquire(error) = error else { panic!("{text}") };
    match error.dial_error() {
        Some(DialError::Failed(error)) => {
            assert_eq!(error.stage(), ConnectStage::Tls, "{text}");
            assert_eq!(error.peer(), format!("localhost:{port}"));
        }
        _ => panic!("{text}"),
    }
    settled(client).await;
    assert_eq!(client.pool().status().open, 0);
    text
}

#[tokio::test]
async fn requests_over_tls_share_one_connection() {
    let authority = Authority::new();
    let server = NginxServer::start_tls(&authority.issue(&["localhost"]), false, NONCE);
    std::fs::write(server.document_root().join("big"), vec![b'x'; 3 << 20]).unwrap();
    let (client, port) = (client(trusting(&authority)), server.addr().port());
    for n in 0..20 {
        let answer = get(&client, port, &format!("/nonce?n={n}")).await.unwrap();
        assert_eq!(answer, (200, format!(" {n}")));
    }
    assert_eq!(get(&client, port, "/big").await.unwrap().1.len(), 3 << 20);
    assert_eq!(client.pool().stats().opened, 1);
    // Session tickets have come meanwhile, and looks at the idle connection.
    tokio::time::sleep(Duration::from_millis(600)).await;
    get(&client, port, "/nonce?n=last").await.unwrap();
    assert_eq!(client.pool().stats().opened, 1);
    client.close().await;
    settled(&client).await;
}

#[tokio::test]
async fn tickets_on_a_connection_that_was_never_used_are_no_stray_bytes() {
    let authority = Authority::new();
    // With TLS 1.2 tickets are a part of the handshake.
    let snippet = format!("ssl_protocols TLSv1.3; {NONCE}");
    let server = NginxServer::start_tls(&authority.issue(&["localhost"]), false, &snippet);
    let builder = Client::builder().tls(trusting(&authority).build().unwrap());
    let client = builder.change_policy(|policy| policy.min_idle = 1).build().unwrap();
    let port = server.addr().port();
    let uri: http::Uri = format!("https://localhost:{port}/nonce?n=1").parse().unwrap();
    client.pool().warm_up(&http1_pool::Key::from_uri(&uri).unwrap());
    crate::support::until(|| client.pool().status().idle == 1).await;
    // The tickets come right after the handshake. The pool looks at the connection twice.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(get(&client, port, "/nonce?n=1").await.unwrap().1, " 1");
    assert_eq!(client.pool().stats().opened, 1);
    client.close().await;
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_with_the_way_out() {
    let authority = Authority::new();
    for (identity, said, way_out) in [
        (authority.issue_expired(&["localhost"]), "expired", "renewed"),
        (Identity::self_signed(&["localhost"]), "UnknownIssuer", "add_roots_pem"),
        (Authority::new().issue(&["localhost"]), "UnknownIssuer", "add_roots_pem"),
        (authority.issue(&["other.example"]), "not valid for name", "server_name"),
    ] {
        let server = NginxServer::start_tls(&identity, false, NONCE);
        let port = server.addr().port();
        let text = failed_handshake(&client(trusting(&authority)), port).await;
        assert!(text.contains(said) && text.contains(way_out), "{text}");
        // The ways out work.
        let any = client(trusting(&authority).dangerously_accept_any_certificate());
        assert_eq!(get(&any, port, "/nonce?n=1").await.unwrap().1, " 1");
        if said.contains("name") {
            let named = client(trusting(&authority).server_name("other.example"));
            assert_eq!(get(&named, port, "/nonce?n=1").await.unwrap().1, " 1");
        }
    }
}

#[tokio::test]
async fn the_roots_of_the_system_do_not_trust_a_test() {
    let authority = Authority::new();
    let server = NginxServer::start_tls(&authority.issue(&["localhost"]), false, NONCE);
    let port = server.addr().port();
    for tls in [Tls::builder(), Tls::builder().webpki_roots()] {
        failed_handshake(&client(tls), port).await;
    }
    let added = client(Tls::builder().add_roots_pem(authority.pem()));
    assert_eq!(get(&added, port, "/nonce?n=1").await.unwrap().1, " 1");
}

#[tokio::test]
async fn plain_text_on_the_port_of_tls_is_told_apart() {
    let server = NginxServer::start(NONCE);
    let text = failed_handshake(&client(Tls::builder().webpki_roots()), server.addr().port()).await;
    assert!(text.contains("plain text"), "{text}");
}

#[tokio::test]
async fn a_peer_that_stops_within_the_handshake_costs_the_time_of_the_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The second limit bounds the dial of a caller that dials for itself.
    for (dial, acquire) in [(200, 10_000), (10_000, 200)] {
        let client = Client::builder()
            .tls(Tls::builder().webpki_roots().build().unwrap())
            .change_policy(|policy| {
                policy.dial = Dial::Caller;
                policy.dial_timeout = Duration::from_millis(dial);
                policy.acquire_timeout = Some(Duration::from_millis(acquire));
            })
            .build()
            .unwrap();
        let text = failed_handshake(&client, port).await;
        assert!(text.contains("TLS handshake") && text.contains("no answer in time"), "{text}");
        // The peer sees the end of the silent connection.
        let (mut stream, _) = listener.accept().await.unwrap();
        crate::support::within(async {
            while stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {}
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_replaced_while_the_client_lives() {
    let authority = Authority::new();
    let snippet = format!("ssl_client_certificate client.pem; ssl_verify_client on; {NONCE}");
    // nginx trusts the certificates of clients that it trusts for itself.
    let mut identity = authority.issue(&["localhost"]);
    identity.certificate.push_str(authority.pem());
    let snippet = snippet.replace("client.pem", "certificate.pem");
    let server = NginxServer::start_tls(&identity, false, &snippet);
    let port = server.addr().port();

    let nameless = client(trusting(&authority));
    let (status, text) = get(&nameless, port, "/nonce?n=1").await.unwrap();
    assert!(status == 400 && text.contains("certificate"), "{text}");

    let named = |name: &str| {
        let Identity { certificate, key } = authority.issue(&[name]);
        trusting(&authority).client_identity_pem(certificate, key)
    };
    let tls = named("first.client").build().unwrap();
    let client = Client::builder().tls(tls.clone()).build().unwrap();
    let who = async || get(&client, port, "/nonce?n=1").await.unwrap().1;
    assert_eq!(who().await, "CN=first.client 1");
    tls.replace(named("second.client")).unwrap();
    assert_eq!(who().await, "CN=first.client 1", "an open connection stays what it is");
    client.pool().retire_all();
    // Not a session that was made for the first one, either.
    assert_eq!(who().await, "CN=second.client 1");
    assert_eq!(client.pool().stats().opened, 2);
    let bad = Tls::builder().client_identity_pem("no certificate", "no key");
    assert!(tls.replace(bad).is_err());
    assert_eq!(who().await, "CN=second.client 1");
}

#[tokio::test]
async fn settings_that_differ_do_not_share_sessions() {
    let authority = Authority::new();
    let snippet = "ssl_protocols TLSv1.2; location /nonce { return 200 $ssl_session_reused; }";
    let server = NginxServer::start_tls(&authority.issue(&["localhost"]), false, snippet);
    let port = server.addr().port();
    let reused = async |client: &Client| {
        client.pool().retire_all();
        get(client, port, "/nonce").await.unwrap().1
    };
    let (one, other) = (client(trusting(&authority)), client(trusting(&authority)));
    assert_eq!((reused(&one).await.as_str(), reused(&one).await.as_str()), (".", "r"));
    assert_eq!(reused(&other).await, ".", "the session of another client's settings");
    let without = client(trusting(&authority).resumption(false));
    assert_eq!((reused(&without).await.as_str(), reused(&without).await.as_str()), (".", "."));
}

#[test]
fn an_error_of_a_dial_can_be_matched() {
    let error = ConnectError::new(ConnectStage::Tls, "a:443", std::io::Error::other("no"));
    assert_eq!(error.to_string(), "a:443: the TLS handshake failed: no");
}

#[tokio::test]
#[cfg(unix)]
async fn ways_to_one_server_do_not_share_connections() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost", "127.0.0.1"]);
    let snippet = format!("listen unix:ways.sock; {NONCE}");
    let server = NginxServer::start_tls(&identity, false, &snippet);
    let port = server.addr().port();
    let socket = server.document_root().parent().unwrap().join("ways.sock");
    let client = client(trusting(&authority));
    let ways = [
        format!("https://localhost:{port}/nonce?n=1").parse().unwrap(),
        format!("https://127.0.0.1:{port}/nonce?n=1").parse().unwrap(),
        http1_pool::unix_uri(&socket, "/nonce?n=1").unwrap(),
    ];
    for round in 1..=2 {
        for (number, uri) in (1..).zip(&ways) {
            let response = client.get(uri.clone()).await.unwrap();
            assert_eq!(response.into_body().read_all(100).await.unwrap(), " 1");
            let opened = if round == 1 { number } else { 3 };
            assert_eq!(client.pool().stats().opened, opened, "{uri}");
        }
    }
    // The scheme counts, even where host and port are the same.
    let plain: http::Uri = format!("http://localhost:{port}/nonce?n=1").parse().unwrap();
    let response = client.get(plain).await.unwrap();
    assert_eq!(response.status(), 400, "plain text on the port of TLS");
    assert_eq!(client.pool().stats().opened, 4);
    let same: http::Uri = format!("https://LOCALHOST:{port}/nonce?n=1").parse().unwrap();
    client.get(same).await.unwrap().into_body().read_all(100).await.unwrap();
    assert_eq!(client.pool().stats().opened, 4);
}
