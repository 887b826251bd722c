//! Against a real server: nghttpd.

use crate::support::{assert_clean, client, eventually, get, plain_client, post, read, send};
use h2_shared::Client;
use pool_common::testing::servers::NghttpdServer;

async fn assert_serves(client: &Client, server: &NghttpdServer, requests: usize) {
    for number in 0..requests {
        // The nonce of a server that cannot echo: a separate file for each request.
        let name = format!("nonce-{:016x}", fastrand::u64(..));
        std::fs::write(server.document_root().join(&name), &name).unwrap();
        let response = send(client, get(server.addr(), &format!("/{name}"))).await.unwrap();
        assert_eq!(response.status(), 200, "request {number}");
        assert_eq!(read(response.into_body()).await.unwrap(), name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_a_hundred_callers_over_one_connection() {
    let server = NghttpdServer::start(&[]);
    let client = plain_client();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (client, addr) = (client.clone(), server.addr());
            tokio::spawn(async move {
                for _ in 0..20 {
                    let response = send(&client, get(addr, "/index.html")).await.unwrap();
                    assert_eq!(read(response.into_body()).await.unwrap(), "hello\n");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(client.pool().stats().opened, 1);
    assert_serves(&client, &server, 100).await;
    assert_clean(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_to_a_low_limit_with_several_connections() {
    let server = NghttpdServer::start(&["-m", "2"]);
    let client = client(|p| p.max_open_per_key = Some(4), |_| {});
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (client, addr) = (client.clone(), server.addr());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let response = send(&client, get(addr, "/")).await.unwrap();
                    assert_eq!(read(response.into_body()).await.unwrap(), "hello\n");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(client.pool().status().open <= 4);
    assert_serves(&client, &server, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn uploads_and_large_downloads() {
    let server = NghttpdServer::start(&["--echo-upload"]);
    let client = plain_client();
    let body = vec![b'u'; 300_000];
    let response = send(&client, post(server.addr(), "/", body.clone())).await.unwrap();
    assert!(read(response.into_body()).await.unwrap() == body);
    let large = vec![b'd'; 5_000_000];
    std::fs::write(server.document_root().join("large"), &large).unwrap();
    let response = send(&client, get(server.addr(), "/large")).await.unwrap();
    assert!(read(response.into_body()).await.unwrap() == large);
    drop(send(&client, get(server.addr(), "/large")).await.unwrap());
    assert_serves(&client, &server, 100).await;
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_restart_costs_a_connection_and_nothing_else() {
    let mut server = NghttpdServer::start(&[]);
    let client = plain_client();
    assert_serves(&client, &server, 10).await;
    server.stop();
    eventually("the pool hears of the end", || client.pool().status().open == 0).await;
    assert!(send(&client, get(server.addr(), "/")).await.is_err());
    server.restart();
    assert_serves(&client, &server, 100).await;
    assert_clean(&client).await;
}
