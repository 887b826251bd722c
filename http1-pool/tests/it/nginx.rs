//! Against a real nginx.

use crate::support::{fetch, settled};
use http::Request;
use http_body::Body as _;
use http1_pool::{Body, Client, Error};
use pool_common::Policy;
use pool_common::testing::servers::NginxServer;

const ECHO: &str = "location /nonce { return 200 $arg_n; }";

async fn nonce(client: &Client, server: &NginxServer, nonce: &str) -> Result<String, Error> {
    let uri = format!("http://{}/nonce?n={nonce}", server.addr());
    fetch(client, Request::get(uri).body(Body::empty()).unwrap()).await.map(|(_, body)| body)
}

#[tokio::test]
async fn files_heads_and_conditions_are_answered_on_one_connection() {
    let server = NginxServer::start("location /chunked { ssi on; ssi_types *; }");
    std::fs::create_dir(server.document_root().join("chunked")).unwrap();
    let page = "<!--# echo var=\"arg_n\" -->".repeat(1000);
    std::fs::write(server.document_root().join("chunked/page"), page).unwrap();
    std::fs::write(server.document_root().join("big"), vec![b'x'; 3 << 20]).unwrap();
    let client = Client::new();
    let uri = |path: &str| format!("http://{}{path}", server.addr());

    let get = Request::get(uri("/")).body(Body::empty()).unwrap();
    let (response, body) = fetch(&client, get).await.unwrap();
    assert_eq!((response.status().as_u16(), body.as_str()), (200, "hello\n"));
    let etag = response.headers()["etag"].clone();

    let head = Request::head(uri("/big")).body(Body::empty()).unwrap();
    let response = client.request(head).await.unwrap();
    assert_eq!(response.headers()["content-length"], (3 << 20).to_string());
    assert!(response.body().is_end_stream());

    let unchanged = Request::get(uri("/")).header("if-none-match", etag);
    let (response, body) = fetch(&client, unchanged.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), body.as_str()), (304, ""));

    let chunked = Request::get(uri("/chunked/page?n=abc")).body(Body::empty()).unwrap();
    let (response, body) = fetch(&client, chunked).await.unwrap();
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    assert!(body == "abc".repeat(1000));

    let big = Request::get(uri("/big")).body(Body::empty()).unwrap();
    assert_eq!(fetch(&client, big).await.unwrap().1.len(), 3 << 20);

    let put = Request::put(uri("/")).body(Body::from("x")).unwrap();
    assert_eq!(fetch(&client, put).await.unwrap().0.status(), 405);

    assert_eq!(client.pool().stats().opened, 1);
    settled(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_share_few_connections_and_get_their_own_answers() {
    let server = NginxServer::start(ECHO);
    let policy = Policy { max_open_per_key: Some(5), ..Client::default_policy() };
    let client = Client::builder().policy(policy).build().unwrap();
    let server = std::sync::Arc::new(server);
    let callers: Vec<_> = (0..20)
        .map(|caller| {
            let (client, server) = (client.clone(), std::sync::Arc::clone(&server));
            tokio::spawn(async move {
                for step in 0..50 {
                    let text = format!("{caller}-{step}");
                    assert_eq!(nonce(&client, &server, &text).await.unwrap(), text);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    settled(&client).await;
    assert!(client.pool().stats().peak_open <= 5);
    client.close().await;
}

#[tokio::test]
async fn a_server_that_closes_every_tenth_time_is_no_trouble() {
    let server = NginxServer::start(&format!("keepalive_requests 10; {ECHO}"));
    let client = Client::new();
    for step in 0..100 {
        let text = step.to_string();
        assert_eq!(nonce(&client, &server, &text).await.unwrap(), text);
    }
    assert_eq!(client.pool().stats().opened, 10);
}

#[tokio::test]
async fn the_next_request_after_a_restart_succeeds() {
    let mut server = NginxServer::start(ECHO);
    let client = Client::new();
    for round in 0..3 {
        let text = round.to_string();
        assert_eq!(nonce(&client, &server, &text).await.unwrap(), text);
        server.restart();
    }
}
