//! A peer that follows a script, and the checks every test ends with.

#[cfg(feature = "tower")]
pub(crate) mod memory;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http1_pool::{Body, Client, Error};
use pool_common::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A server whose every connection runs a script.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Counts an open connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Peer {
    /// Starts it. The script is told which connection this is, from 0.
    pub(crate) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(Wire, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// As [`start`](Peer::start), at this address.
    pub(crate) async fn start_at<S, F>(addr: SocketAddr, script: S) -> Self
    where
        S: Fn(Wire, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, opened) = (Arc::clone(&accepted), Arc::clone(&open));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst);
                opened.fetch_add(1, Ordering::SeqCst);
                let counted = Counted(Arc::clone(&opened));
                let run = script(Wire { stream, input: BytesMut::new() }, number);
                tokio::spawn(async move {
                    run.await;
                    drop(counted);
                });
            }
        });
        Self { addr, accepted, open, task }
    }

    /// A peer that answers every request with its own path.
    pub(crate) async fn echo() -> Self {
        Self::start(|wire, _| wire.echo()).await
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections whose script still runs.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The peer's end of one connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    input: BytesMut,
}

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) target: String,
    /// Everything before the empty line.
    pub(crate) head: String,
}

impl Wire {
    /// The head of the next request; `None` if the client closed.
    pub(crate) async fn head(&mut self) -> Option<Received> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.input.split_to(end).to_vec()).unwrap();
        self.input.advance(4);
        let mut words = head.split(' ').map(str::to_owned);
        let target = words.nth(1).unwrap();
        Some(Received { target, head })
    }

    /// Exactly the next `length` bytes.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.input.len() < length {
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                panic!("closed after {} of {length} bytes", self.input.len());
            }
        }
        self.input.split_to(length).to_vec()
    }

    /// Sends, as far as the client still listens.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a response with this body and a length.
    pub(crate) async fn reply(&mut self, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    }

    /// Waits until the client has closed.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest).await.unwrap_or(0) > 0 {}
    }

    /// Answers every request with its own path, until the client closes.
    pub(crate) async fn echo(mut self) {
        while let Some(request) = self.head().await {
            self.reply(&request.target).await;
        }
    }
}

/// A body that is fed by hand.
pub(crate) struct Fed {
    frames: mpsc::UnboundedReceiver<Frame<Bytes>>,
    length: Option<u64>,
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

pub(crate) fn fed(length: Option<u64>) -> (mpsc::UnboundedSender<Frame<Bytes>>, Fed) {
    let (sender, frames) = mpsc::unbounded_channel();
    (sender, Fed { frames, length })
}

pub(crate) fn client(change: impl FnOnce(&mut Policy)) -> Client {
    let mut policy = Client::default_policy();
    change(&mut policy);
    Client::builder().policy(policy).build().unwrap()
}

pub(crate) fn get(peer: &Peer, path: &str) -> Request<Body> {
    Request::get(peer.uri(path)).body(Body::empty()).unwrap()
}

/// Sends, and reads the whole answer, within 10 s.
pub(crate) async fn fetch(
    client: &Client,
    request: Request<Body>,
) -> Result<(Response<()>, String), Error> {
    within(async {
        let (parts, body) = client.request(request).await?.into_parts();
        let body = body.read_all(16 << 20).await?;
        let text = String::from_utf8(body.to_vec()).unwrap();
        Ok((Response::from_parts(parts, ()), text))
    })
    .await
}

/// Nothing here may hang.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it hangs")
}

/// Every one of 100 requests gets its own answer.
pub(crate) async fn answers_are_own(client: &Client, peer: &Peer) {
    for nonce in 0..100 {
        let path = format!("/own/{nonce}");
        let (_, body) = fetch(client, get(peer, &path)).await.unwrap();
        assert_eq!(body, path);
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until nothing is leased, waiting, or being dialed.
pub(crate) async fn settled(client: &Client) {
    until(|| {
        let status = client.pool().status();
        status.leased + status.leases + status.waiting + status.dialing + status.closing == 0
    })
    .await;
    let status = client.pool().status();
    assert_eq!(status.open, status.idle, "{status}");
}

/// Settled; then closes the pool, after which the peer has no connection left.
pub(crate) async fn finished(client: &Client, peer: &Peer) {
    settled(client).await;
    within(client.close()).await;
    assert_eq!(client.pool().status(), pool_common::Status::default());
    until(|| peer.open() == 0).await;
}

/// Lets the runtime look at its sockets: what has arrived is known afterwards.
pub(crate) async fn look_at_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (mut near, (mut far, _)) = (near.unwrap(), far.unwrap());
    for _ in 0..3 {
        near.write_all(b"x").await.unwrap();
        far.read_u8().await.unwrap();
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
    }
}
