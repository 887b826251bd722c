//! Peers for the tests: an honest server that echoes, and a scripted one that speaks raw frames.

pub mod echo;
pub mod raw;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2_shared::{Body, Client, Config, Error};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use pool_common::Policy;

/// Far more than anything here takes; a test that reaches it has found a hang.
pub const HANG: Duration = Duration::from_secs(20);

/// A client with the usual policy, changed as the test wants it.
pub fn client(policy: impl FnOnce(&mut Policy), config: impl FnOnce(&mut Config)) -> Client {
    let mut the_policy = Client::default_policy();
    policy(&mut the_policy);
    let mut the_config = Config::default();
    config(&mut the_config);
    Client::builder().policy(the_policy).config(the_config).build().unwrap()
}

pub fn plain_client() -> Client {
    client(|_| {}, |_| {})
}

/// A POST of `body` to `path`.
pub fn post(addr: SocketAddr, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://{addr}{path}")).body(Full::new(body.into())).unwrap()
}

pub fn get(addr: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://{addr}{path}")).body(Full::default()).unwrap()
}

pub async fn send(client: &Client, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
    let response = tokio::time::timeout(HANG, client.request(request)).await;
    response.expect("the request hangs")
}

pub async fn read(body: Body) -> Result<Bytes, Error> {
    let collected = tokio::time::timeout(HANG, body.collect()).await;
    Ok(collected.expect("the body hangs")?.to_bytes())
}

/// The oracle: each of so many requests gets its own nonce back.
pub async fn assert_echoes(client: &Client, addr: SocketAddr, requests: usize) {
    for _ in 0..requests {
        let nonce = format!("nonce-{:016x}", fastrand::u64(..));
        let response = send(client, post(addr, "/echo", nonce.clone())).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(read(response.into_body()).await.unwrap(), nonce);
    }
}

/// Waits for a condition that another task brings about.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reached = tokio::time::timeout(HANG, poll).await;
    reached.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Nothing is left behind: no lease, no waiter, no dial, and after a close no connection.
pub async fn assert_clean(client: &Client) {
    let pool = client.pool();
    eventually("all leases came back", || {
        let status = pool.status();
        status.leases == 0 && status.waiting == 0 && status.dialing == 0
    })
    .await;
    let closed = pool.close_within(HANG).await;
    assert!(closed, "the pool does not become empty: {:?}", pool.status());
    assert_eq!(pool.status().open, 0);
}

/// A request body that a test feeds frame by frame.
pub struct Fed(tokio::sync::mpsc::Receiver<Part>);

pub type Part = Result<http_body::Frame<Bytes>, std::io::Error>;

pub fn fed() -> (tokio::sync::mpsc::Sender<Part>, Fed) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, Fed(receiver))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Part>> {
        self.0.poll_recv(cx)
    }
}
