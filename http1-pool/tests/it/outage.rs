//! A server that is away for a moment.

use std::time::Duration;

use crate::support::{Peer, answers_are_own, fetch, finished, get};
use http::Request;
use http1_pool::{Body, Client};

#[tokio::test]
async fn a_server_that_is_back_serves_a_caller_with_time() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = port.local_addr().unwrap();
    drop(port);
    let client = Client::builder()
        .change_policy(|policy| policy.acquire_timeout = Some(Duration::from_secs(1)))
        .build()
        .unwrap();
    for _ in 0..3 {
        let request = Request::get(format!("http://{addr}/")).body(Body::empty()).unwrap();
        client.request(request).await.expect_err("it is refused");
    }
    // Dials pause now, for 100 ms: the caller has time for that.
    let peer = Peer::start_at(addr, |wire, _| wire.echo()).await;
    fetch(&client, get(&peer, "/")).await.expect("served after the pause");
    answers_are_own(&client, &peer).await;
    finished(&client, &peer).await;
}
