//! The peek looks through TLS: a server that follows a script, and an idle connection to it.

use std::sync::Arc;

use http1_pool::Client;
use pool_common::connect::Tls;
use pool_common::testing::certificates::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use tokio_rustls::server::TlsStream;

use crate::support::within;

type Peer = TlsStream<TcpStream>;

/// A server with TLS, and a client that trusts it.
async fn start() -> (TcpListener, TlsAcceptor, Client, http::Uri) {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let tls = Tls::builder().only_added_roots().add_roots_pem(authority.pem()).build().unwrap();
    let client = Client::builder().tls(tls).build().unwrap();
    (listener, TlsAcceptor::from(Arc::new(config)), client, uri)
}

/// Answers one request; `false` if the client closes first.
async fn answer(peer: &mut Peer, text: &str) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if peer.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    peer.write_all(head.as_bytes()).await.unwrap();
    peer.flush().await.unwrap();
    true
}

async fn asked(client: &Client, uri: &http::Uri) -> String {
    let response = client.get(uri.clone()).await.unwrap();
    let text = response.into_body().read_all(100).await.unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

/// Acts of the server while the connection is idle.
enum Meanwhile {
    KeyUpdate,
    CloseNotify,
    Data,
    Nothing,
}

/// Whether the second request comes on the connection of the first.
async fn is_reused(meanwhile: Meanwhile) -> bool {
    let (listener, acceptor, client, uri) = start().await;
    let (go, gone) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let server = tokio::spawn(async move {
        let mut first = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        assert!(answer(&mut first, "first").await);
        gone.await.unwrap();
        match meanwhile {
            Meanwhile::KeyUpdate => first.get_mut().1.refresh_traffic_keys().unwrap(),
            // The socket stays open: only TLS says that this is the end.
            Meanwhile::CloseNotify => first.get_mut().1.send_close_notify(),
            Meanwhile::Data => first.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap(),
            Meanwhile::Nothing => {}
        }
        first.flush().await.unwrap();
        done.send(()).unwrap();
        if !answer(&mut first, "old").await {
            let mut second = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            assert!(answer(&mut second, "new").await);
        }
        first
    });
    within(async {
        assert_eq!(asked(&client, &uri).await, "first");
        go.send(()).unwrap();
        is_done.await.unwrap();
        let connection = asked(&client, &uri).await;
        server.await.unwrap();
        connection == "old"
    })
    .await
}

#[tokio::test]
async fn a_key_update_on_an_idle_connection_is_no_stray_byte() {
    assert!(is_reused(Meanwhile::Nothing).await);
    assert!(is_reused(Meanwhile::KeyUpdate).await);
}

#[tokio::test]
async fn close_notify_ends_an_idle_connection_though_its_socket_is_open() {
    assert!(!is_reused(Meanwhile::CloseNotify).await);
}

#[tokio::test]
async fn decrypted_bytes_on_an_idle_connection_are_stray_bytes() {
    assert!(!is_reused(Meanwhile::Data).await);
}

#[tokio::test]
async fn a_large_request_goes_out_and_the_end_is_announced() {
    let (listener, acceptor, client, uri) = start().await;
    let body = vec![b'X'; 3 << 20];
    let server = tokio::spawn(async move {
        let mut peer = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let (mut bytes, mut body) = (vec![0; 1 << 16], 0);
        while body < 3 << 20 {
            let count = peer.read(&mut bytes).await.unwrap();
            body += bytes[..count].iter().filter(|&&byte| byte == b'X').count();
        }
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        peer.flush().await.unwrap();
        peer
    });
    let request = http::Request::post(uri).body(http1_pool::Body::from(body)).unwrap();
    let response = within(client.request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    // The client announces the end in TLS when it closes the connection.
    let mut peer = server.await.unwrap();
    within(client.close()).await;
    assert_eq!(within(peer.read(&mut [0; 1])).await.unwrap(), 0, "close_notify, not a cut");
}
