//! `limit` and `no-pool` for HTTP/2: the h2 crate driven directly, over connections that are open
//! before the turn, or over a new one for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::http2::joined;
use super::raw::{Exchange, Template, dial};
use super::redials::{Meter, Redials};
use super::{CallError, Contestant, Counts, Echo, Reply, Request as Asked, RequestKind};
use crate::nonce::{NONCE_LEN, Nonce};
use crate::target::Target;

/// A connection and the task that drives it.
struct Connection {
    send: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The socket is closed with the driver, even if the driver still has bytes to send.
        self.driver.abort();
    }
}

async fn connect(target: &Target) -> Result<Connection, String> {
    let stream = dial(target).await.map_err(|error| error.to_string())?;
    let (send, connection) =
        h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(async move {
        // Every request that is still open sees the end of the connection.
        drop(connection.await);
    });
    Ok(Connection { send, driver })
}

/// One request over `send`, and its status and body.
async fn exchange(
    send: &mut SendRequest<Bytes>,
    uri: &Uri,
    nonce: Nonce,
    (method, body): (Method, Bytes),
) -> Result<(StatusCode, Bytes), h2::Error> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    *request.version_mut() = http::Version::HTTP_2;
    let value = HeaderValue::from_bytes(nonce.as_bytes()).expect("digits are a header value");
    request.headers_mut().insert(HeaderName::from_static("x-nonce"), value);
    std::future::poll_fn(|context| send.poll_ready(context)).await?;
    let (response, mut sent) = send.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sent.send_data(body, true)?;
    }
    let response = response.await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut reply = Bytes::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        // An echo may come in pieces; the beginning of a long answer is enough.
        if reply.len() <= NONCE_LEN {
            reply = joined(reply, data);
        }
    }
    Ok((status, reply))
}

/// Asks the target once, to learn that it speaks HTTP/2 with prior knowledge.
pub(super) async fn probe(target: &Target) -> Result<Template, String> {
    let mut connection = connect(target).await?;
    let uri = target.uri();
    let asked =
        exchange(&mut connection.send, &uri, Nonce::new(0, 1), target.ask.http(RequestKind::Read));
    let (status, body) = asked.await.map_err(|error| error.to_string())?;
    Ok(Template {
        handshake: Vec::new(),
        handshake_reply: Vec::new(),
        read: Exchange {
            request: Vec::new(),
            nonce_at: None,
            reply_len: body.len(),
            reply_start: status.as_str().as_bytes().to_vec(),
            ..Exchange::default()
        },
        write: Exchange::default(),
    })
}

/// Sends one request that must not run twice, and compares its status with the one of the probe.
pub(super) async fn probe_write(target: &Target, template: &Template) -> Result<(), String> {
    let mut connection = connect(target).await?;
    let uri = target.uri();
    let asked =
        exchange(&mut connection.send, &uri, Nonce::new(0, 0), target.ask.http(RequestKind::Write));
    let (status, _) = asked.await.map_err(|error| error.to_string())?;
    if template.status() == Some(status) { Ok(()) } else { Err(format!("status {status}")) }
}

/// The data that each exchange needs.
#[derive(Clone)]
struct Shared {
    target: Arc<Target>,
    uri: Uri,
    status: StatusCode,
    opened: Arc<AtomicU64>,
}

impl Shared {
    fn new(target: Arc<Target>, template: &Template) -> Self {
        Self {
            uri: target.uri(),
            status: template.status().expect("the probe recorded a status"),
            target,
            opened: Arc::default(),
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        connect(&self.target).await
    }

    async fn exchange(
        &self,
        send: &mut SendRequest<Bytes>,
        asked: &Asked,
    ) -> Result<Echo, CallError> {
        let (status, body) =
            exchange(send, &self.uri, asked.nonce, self.target.ask.http(asked.kind))
                .await
                .map_err(CallError::broken)?;
        self.check(asked, status, &body)
    }

    fn check(&self, asked: &Asked, status: StatusCode, body: &Bytes) -> Result<Echo, CallError> {
        if status != self.status {
            return Err(CallError::wrong(format!("status {status}")));
        }
        Ok(Echo::check(self.target.echoes, asked.nonce, body))
    }

    fn counts(&self) -> Counts {
        let opened = Some(self.opened.load(Ordering::Relaxed));
        Counts { opened, waits: None, dials: opened }
    }
}

/// How often a request is sent again because its connection had ended. If a server ends each connection
/// after a few requests, other callers may use up a new connection first.
const ATTEMPTS: usize = 10;

/// The limit for a number of connections: the callers take them in turn, so that each has an equal part.
/// A connection that the server ends is opened again outside the measured time.
pub(super) struct Http2Limit {
    lines: Vec<Arc<Line>>,
    callers: AtomicUsize,
}

/// A connection that callers share.
struct Line {
    shared: Shared,
    current: Mutex<Current>,
    meter: Meter,
}

#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    /// The number of connections before it.
    generation: u64,
    /// Connections that ended, while other callers may still wait for replies on them.
    ended: Vec<Connection>,
}

impl Line {
    /// A handle on the connection and its generation. If the connection of generation `ended` is still
    /// the current one, another is opened first.
    async fn get(&self, ended: Option<u64>) -> Result<(SendRequest<Bytes>, u64), String> {
        let mut current = self.current.lock().await;
        if current.connection.is_none() {
            current.connection = Some(self.shared.connect().await?);
        } else if ended == Some(current.generation) {
            let connection = self.meter.dial(self.shared.connect()).await?;
            current.generation += 1;
            current.ended.retain(|old| !old.driver.is_finished());
            let old = current.connection.replace(connection);
            current.ended.extend(old);
        }
        let send = current.connection.as_ref().expect("was just connected").send.clone();
        Ok((send, current.generation))
    }
}

/// Whether the connection has ended and the request may be sent on another.
fn may_go_elsewhere(error: &h2::Error, kind: RequestKind) -> bool {
    let unprocessed = error.is_go_away() && error.is_remote()
        || error.reason() == Some(h2::Reason::REFUSED_STREAM);
    unprocessed || kind == RequestKind::Read && !error.is_reset()
}

impl Http2Limit {
    /// Nothing is opened yet; the first caller of each connection opens it.
    pub(super) fn new(target: Arc<Target>, template: &Template, connections: usize) -> Self {
        let shared = Shared::new(target, template);
        let line = |_| {
            let (shared, current, meter) = (shared.clone(), Mutex::default(), Meter::default());
            Arc::new(Line { shared, current, meter })
        };
        let lines = (0..connections.max(1)).map(line).collect();
        Self { lines, callers: AtomicUsize::new(0) }
    }
}

/// One caller: its handle on the connection.
pub(super) struct Http2Caller {
    line: Arc<Line>,
    send: SendRequest<Bytes>,
    generation: u64,
}

impl Contestant for Http2Limit {
    type Caller = Http2Caller;

    async fn caller(&self) -> Result<Http2Caller, String> {
        let line = &self.lines[self.callers.fetch_add(1, Ordering::Relaxed) % self.lines.len()];
        let (send, generation) = line.get(None).await?;
        Ok(Http2Caller { line: Arc::clone(line), send, generation })
    }

    async fn call(caller: &mut Http2Caller, request: &Asked) -> Result<Reply, CallError> {
        let Http2Caller { line, send, generation } = caller;
        let mut began = None;
        let mut attempts = ATTEMPTS;
        loop {
            let ask = line.shared.target.ask.http(request.kind);
            match exchange(send, &line.shared.uri, request.nonce, ask).await {
                Ok((status, body)) => {
                    if let Some(began) = began {
                        line.meter.waited(request, began);
                    }
                    let echo = line.shared.check(request, status, &body)?;
                    return Ok(Reply { began, ..Reply::new(echo) });
                }
                Err(error) if attempts > 0 && may_go_elsewhere(&error, request.kind) => {
                    attempts -= 1;
                    let got = line.get(Some(*generation)).await.map_err(CallError::dial)?;
                    (*send, *generation) = got;
                    began = Some(Instant::now());
                }
                Err(error) => return Err(CallError::broken(error)),
            }
        }
    }

    fn counts(&self) -> Counts {
        self.lines[0].shared.counts()
    }

    fn redials(&self) -> Redials {
        self.lines.iter().map(|line| line.meter.redials()).sum()
    }

    async fn close(&self) {
        for line in &self.lines {
            *line.current.lock().await = Current::default();
        }
    }
}

/// A connection for each request.
pub(super) struct Http2NoPool {
    shared: Shared,
}

impl Http2NoPool {
    /// Nothing is opened before a request.
    pub(super) fn new(target: Arc<Target>, template: &Template) -> Self {
        Self { shared: Shared::new(target, template) }
    }
}

/// One caller; it keeps nothing between requests.
pub(super) struct Http2Dialer(Shared);

impl Contestant for Http2NoPool {
    type Caller = Http2Dialer;

    async fn caller(&self) -> Result<Http2Dialer, String> {
        Ok(Http2Dialer(self.shared.clone()))
    }

    async fn call(
        Http2Dialer(shared): &mut Http2Dialer,
        request: &Asked,
    ) -> Result<Reply, CallError> {
        let mut connection = shared.connect().await.map_err(CallError::dial)?;
        let acquire = request.started.elapsed();
        let echo = shared.exchange(&mut connection.send, request).await?;
        Ok(Reply::new(echo).acquired(acquire))
    }

    fn counts(&self) -> Counts {
        self.shared.counts()
    }
}
