//! Servers in memory, reached through a connector of the tests: virtual time is exact with them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http1_pool::{Body, Client};
use pool_common::clock::Clock;
use pool_common::connect::Connector;
use pool_common::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower_service::Service;

/// Dials take this long.
pub(crate) const DIAL: Duration = Duration::from_secs(2);

type Script = dyn Fn(DuplexStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// Makes each connection one in memory, with the script at its other end.
#[derive(Clone)]
struct InMemory(Arc<Script>);

impl Service<Uri> for InMemory {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let script = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::time::sleep(DIAL).await;
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(script(far));
            Ok(near)
        })
    }
}

/// A client of a server whose every connection runs `script`.
pub(crate) fn client<F>(
    script: impl Fn(DuplexStream) -> F + Send + Sync + 'static,
    change: impl FnOnce(&mut Policy),
) -> Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let script: Arc<Script> = Arc::new(move |far| Box::pin(script(far)));
    let connector = Connector::service(InMemory(script));
    let builder = Client::builder().connector(connector).clock(Clock::tokio());
    // Each dial takes long here, and needs no second one.
    let builder = builder.change_policy(|policy| policy.dial_hedge = None);
    builder.change_policy(change).build().unwrap()
}

/// Reads to the end of a request head; `false` at the end of the stream.
pub(crate) async fn read_head(stream: &mut DuplexStream) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Answers each request with five bytes.
pub(crate) async fn hello(mut stream: DuplexStream) {
    while read_head(&mut stream).await {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
    }
}

pub(crate) fn get() -> http::request::Builder {
    http::Request::get("http://memory.example/")
}

pub(crate) fn empty(request: http::request::Builder) -> http::Request<Body> {
    request.body(Body::empty()).unwrap()
}
