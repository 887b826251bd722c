//! A server over `h2` that echoes bodies and counts what it sees.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Paths: `/echo` sends the request body back, in the header `x-connection` the number of the
/// connection. `/hold` answers only after [`release`](EchoServer::release). `/bytes/N` sends N
/// bytes. `/stall/N` sends N bytes and then nothing. `/early` answers before it reads the body,
/// then echoes. `/trailers` ends with trailers. `/silent` never answers. `/sink` reads the body and
/// tells its length. `/final` answers completely without reading the body and resets with NO_ERROR.
pub struct EchoServer {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    release: watch::Sender<bool>,
    accept: JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    pub requests: AtomicU64,
    pub resets: AtomicU64,
    pub active: Mutex<HashMap<usize, usize>>,
    pub most_active: AtomicUsize,
}

impl Seen {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn active(&self) -> usize {
        self.active.lock().unwrap().values().sum()
    }
}

impl EchoServer {
    pub async fn start(builder: server::Builder) -> Self {
        Self::aging(builder, usize::MAX).await
    }

    /// Closes each connection gracefully after `age` requests.
    pub async fn aging(builder: server::Builder, age: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (release, released) = watch::channel(false);
        let accept = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let number = seen.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    let connection = Connection {
                        number,
                        seen: Arc::clone(&seen),
                        released: released.clone(),
                        age,
                    };
                    tokio::spawn(connection.serve(socket, builder.clone()));
                }
            }
        });
        Self { addr, seen, release, accept }
    }

    pub async fn with_limit(streams: u32) -> Self {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(streams);
        Self::start(builder).await
    }

    pub async fn plain() -> Self {
        Self::start(server::Builder::new()).await
    }

    /// Lets every `/hold`, now and later, answer.
    pub fn release(&self) {
        self.release.send_replace(true);
    }

    /// Makes later `/hold` wait again.
    pub fn hold(&self) {
        self.release.send_replace(false);
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

#[derive(Clone)]
struct Connection {
    number: usize,
    seen: Arc<Seen>,
    released: watch::Receiver<bool>,
    age: usize,
}

impl Connection {
    async fn serve(self, socket: TcpStream, builder: server::Builder) {
        socket.set_nodelay(true).unwrap();
        let (socket, lingering) = twice(socket);
        self.seen.open.fetch_add(1, Ordering::SeqCst);
        if let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await {
            let mut requests = 0;
            while let Some(Ok((request, respond))) = connection.accept().await {
                requests += 1;
                if requests == self.age {
                    connection.graceful_shutdown();
                }
                self.seen.requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(self.clone().answer(request, respond));
            }
        }
        linger(lingering).await;
        self.seen.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn count(&self, change: isize) {
        let mut active = self.seen.active.lock().unwrap();
        let mine = active.entry(self.number).or_default();
        *mine = mine.checked_add_signed(change).unwrap();
        self.seen.most_active.fetch_max(*mine, Ordering::SeqCst);
    }

    async fn answer(self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.count(1);
        if self.clone().respond(request, respond).await.is_err() {
            self.seen.resets.fetch_add(1, Ordering::SeqCst);
        }
        self.count(-1);
    }

    async fn respond(
        mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let (head, mut body) = request.into_parts();
        let response = Response::builder().header("x-connection", self.number).body(()).unwrap();
        let path = head.uri.path().to_owned();
        let number = || path.rsplit('/').next().unwrap().parse::<usize>().unwrap();
        match path.as_str() {
            "/silent" => {
                let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                return Err(reset?.into());
            }
            "/final" => {
                let mut out = respond.send_response(response, false)?;
                out.send_data(Bytes::from_static(b"final"), true)?;
                return Ok(());
            }
            "/hold" => {
                tokio::select! {
                    _ = self.released.wait_for(|released| *released) => {}
                    reset = std::future::poll_fn(|cx| respond.poll_reset(cx)) => {
                        return Err(reset?.into());
                    }
                }
            }
            _ => {}
        }
        if path.starts_with("/bytes/") || path.starts_with("/stall/") {
            let mut out = respond.send_response(response, false)?;
            let mut left = number();
            while left > 0 {
                let part = left.min(16_384);
                write(&mut out, Bytes::from(vec![7; part])).await?;
                left -= part;
            }
            if path.starts_with("/stall/") {
                let reset = std::future::poll_fn(|cx| out.poll_reset(cx)).await;
                return Err(reset?.into());
            }
            return out.send_data(Bytes::new(), true);
        }
        if path == "/early" || path == "/echo" {
            let mut out = respond.send_response(response, false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                let length = data.len();
                write(&mut out, data).await?;
                body.flow_control().release_capacity(length)?;
            }
            return out.send_data(Bytes::new(), true);
        }
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?;
        let mut out = respond.send_response(response, false)?;
        write(&mut out, Bytes::from(length.to_string())).await?;
        match path == "/trailers" {
            true => {
                let mut answer = trailers.unwrap_or_default();
                answer.insert("x-end", "yes".parse().unwrap());
                out.send_trailers(HeaderMap::clone(&answer))
            }
            false => out.send_data(Bytes::new(), true),
        }
    }
}

/// Sends under flow control.
async fn write(out: &mut h2::SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        out.reserve_capacity(data.len());
        let room = match std::future::poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(h2::Reason::CANCEL.into()),
        };
        out.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

/// Another handle of the same socket.
fn twice(socket: TcpStream) -> (TcpStream, TcpStream) {
    let socket = socket.into_std().unwrap();
    let other = socket.try_clone().unwrap();
    (TcpStream::from_std(socket).unwrap(), TcpStream::from_std(other).unwrap())
}

/// Reads what the client still sends before the socket is closed: a socket that is closed with
/// unread bytes is reset, and takes the last answers with it.
async fn linger(mut socket: TcpStream) {
    let drained = async {
        if socket.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), drained).await;
}
