//! Servers on Unix sockets.

use http1_pool::{Body, Client, unix_uri};
use pool_common::connect::Connector;
use pool_common::testing::servers::NginxServer;

use crate::support::{fetch, settled};

/// The snippet of an nginx that also listens on a socket beside its document root, and that socket.
fn listening(name: &str) -> (NginxServer, std::path::PathBuf) {
    let server = NginxServer::start(&format!(
        "listen unix:{name}; location /nonce {{ return 200 \"$http_host $arg_n\"; }}"
    ));
    let socket = server.document_root().parent().unwrap().join(name);
    (server, socket)
}

#[tokio::test]
async fn a_server_on_a_unix_socket_is_pooled_like_any_other() {
    let (mut server, socket) = listening("web.sock");
    let client = Client::new();
    let nonce = async |n: u32| {
        let uri = unix_uri(&socket, &format!("/nonce?n={n}")).unwrap();
        let response = client.get(uri).await.unwrap();
        assert_eq!(response.into_body().read_all(100).await.unwrap(), format!("localhost {n}"));
    };
    for n in 0..20 {
        nonce(n).await;
    }
    assert_eq!(client.pool().stats().opened, 1);

    // The connection that the restart closed is found before it is used.
    std::fs::remove_file(&socket).unwrap();
    server.restart();
    nonce(20).await;
    assert_eq!(client.pool().stats().opened, 2);

    std::fs::remove_file(&socket).unwrap();
    server.stop();
    let error = client.get(unix_uri(&socket, "/").unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("web.sock"), "{error}");
    assert!(!error.may_have_executed());
    client.close().await;
    settled(&client).await;
}

#[tokio::test]
async fn a_client_may_reach_all_hosts_through_one_socket() {
    let (_server, socket) = listening("all.sock");
    let client = Client::builder().connector(Connector::unix(&socket)).build().unwrap();
    for host in ["one.example", "two.example:81"] {
        let request = http::Request::get(format!("http://{host}/nonce?n=1"));
        let (_, text) = fetch(&client, request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(text, format!("{host} 1"));
    }
    assert_eq!(client.pool().stats().opened, 2, "hosts do not share connections");
    settled(&client).await;
}

#[tokio::test]
async fn stray_bytes_on_an_idle_unix_socket_are_found() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let directory = std::env::temp_dir().join(format!("http1-pool-unix-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("s");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let (sent, stray) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(async move {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1";
        let (mut first, _) = listener.accept().await.unwrap();
        assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
        first.write_all(answer).await.unwrap();
        stray.await.unwrap();
        first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2").await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        assert!(second.read(&mut [0; 1024]).await.unwrap() > 0);
        second.write_all(answer).await.unwrap();
        (first, second)
    });
    let client = Client::new();
    for round in 0..2 {
        let response = client.get(unix_uri(&socket, "/").unwrap()).await.unwrap();
        assert_eq!(response.into_body().read_all(1).await.unwrap(), "1", "round {round}");
        if round == 0 {
            break;
        }
    }
    sent.send(()).unwrap();
    tokio::task::yield_now().await;
    let response = client.get(unix_uri(&socket, "/").unwrap()).await.unwrap();
    assert_eq!(response.into_body().read_all(1).await.unwrap(), "1", "not the stray answer");
    server.await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}
