//! A server on a Unix socket.

use bytes::Bytes;
use h2_shared::{Client, unix_uri};
use http::Request;
use http_body_util::{BodyExt, Empty};
use pool_common::testing::servers::NginxServer;

#[tokio::test]
async fn a_server_on_a_unix_socket_is_shared_like_any_other() {
    let server = NginxServer::start_http2(
        "listen unix:h2.sock http2; location /nonce { return 200 \"$host $arg_n\"; }",
    );
    let socket = server.document_root().parent().unwrap().join("h2.sock");
    let client = Client::new();
    for n in 0..20 {
        let uri = unix_uri(&socket, &format!("/nonce?n={n}")).unwrap();
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let response = client.request(request).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, format!("localhost {n}"));
    }
    let request =
        Request::get(unix_uri(&socket, "/nonce?n=x").unwrap()).header("host", "a.example");
    let response = client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "a.example x");
    assert_eq!(client.pool().stats().opened, 1);

    let gone = unix_uri(socket.with_extension("gone"), "/").unwrap();
    let error = client.request(Request::get(gone).body(Empty::<Bytes>::new()).unwrap()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("h2.gone"), "{error}");
    client.close().await;
    assert_eq!(client.pool().status().open, 0);
}
