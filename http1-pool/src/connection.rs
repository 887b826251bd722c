//! One connection: a socket, its buffers, and the state of its exchange.
//!
//! All I/O happens in the task that polls; a connection has no task. The life of
//! an exchange:
//!
//! ```text
//!          begin           poll_response                 poll_body
//!   idle ---------> sending ------------> head received -----------> idle, or
//!          |  in flight from before the first byte is written ...  |  never again
//!          +----------------------- ... until the message is over -+
//! ```

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::Frame;
use pool_common::connect::Stream;
use pool_common::deadline::Deadline;
use pool_common::retry::Fate;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::buffers::{self, READ_SIZE};
use crate::chunked::Step;
use crate::config::Config;
use crate::error::{Error, ProtocolError, Stage};
use crate::framing::{self, BodyDecoder, RequestFraming};
use crate::head::{HeadReader, ResponseHead};
use crate::key::Key;
use crate::outgoing::Outgoing;
use crate::request::{Payload, RequestHead};
use crate::upload::Upload;
use crate::write;

mod idle;

/// Reads grow up to this size while a body fills them.
const MAX_READ_SIZE: usize = 64 * 1024;

/// A connection as the pool keeps it.
///
/// Only the pool and the [`Client`](crate::Client) use it; it is public so that
/// [`Manager`](crate::Manager) can say what it makes.
pub struct Connection {
    stream: Stream,
    /// The origin, for errors.
    peer: Key,
    /// A proxy gets the requests itself, so they name the origin and log in.
    forwarded: bool,
    config: Arc<Config>,
    /// Received and not yet consumed. Bytes that are here between two exchanges belong to no request.
    input: BytesMut,
    read_size: usize,
    output: Outgoing,
    upload: Option<Box<Upload>>,
    /// The request has a body and an `Expect`: a peer that answers without a `100` may not have
    /// read the body, and take it for the next request.
    expects: bool,
    /// The request asked for an upgrade, so a `101` is an answer to it.
    upgrades: bool,
    method: Method,
    head: HeadReader,
    decoder: BodyDecoder,
    deadline: Deadline,
    /// When the exchange began, until the request is first written.
    began: Option<Instant>,
    /// Set before the first byte of a request is written, cleared once its response is completely
    /// parsed. A connection that comes back with this set is never lent again.
    in_flight: bool,
    /// Both sides agreed so far that another exchange may follow.
    reusable: bool,
    /// A byte of a request was written on it.
    used: bool,
    /// The socket has to be looked at again before the first byte is written: since the last look
    /// the caller's body ran, or the task was away.
    look_again: bool,
    /// How long it may be idle, if the peer has told it.
    idle_limit: Option<Duration>,
    /// What is known of the request in flight; decides whether it may be sent again.
    fate: Fate,
    /// A write failed; the peer may still have answered before it stopped reading.
    write_error: Option<io::Error>,
}

/// An exchange without a response.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) fate: Fate,
}

/// Why sending has stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Done,
    /// The peer takes no more.
    Blocked,
    /// The caller's body has nothing yet.
    Starved,
}

enum SendError {
    Io(io::Error),
    Body(Error),
    /// Nothing was written: something came first.
    Stray(Error),
}

impl Connection {
    pub(crate) fn new(stream: Stream, peer: Key, config: Arc<Config>) -> Self {
        Self {
            stream,
            forwarded: peer.is_forwarded(),
            peer,
            config,
            input: BytesMut::new(),
            read_size: READ_SIZE,
            output: Outgoing::default(),
            upload: None,
            expects: false,
            upgrades: false,
            method: Method::GET,
            head: HeadReader::default(),
            decoder: BodyDecoder::Length(0),
            deadline: Deadline::default(),
            began: None,
            in_flight: false,
            reusable: true,
            used: false,
            look_again: false,
            idle_limit: None,
            fate: Fate::NotSent,
            write_error: None,
        }
    }

    /// Starts an exchange: marks it in flight and queues the request. Writes nothing yet. A stream
    /// is taken out of `payload`, anything else stays there for another attempt.
    ///
    /// # Errors
    /// When the connection is closed or has bytes that no request asked for; then nothing was sent.
    pub(crate) fn begin(
        &mut self,
        head: RequestHead<'_>,
        payload: &mut Payload,
    ) -> Result<(), Failure> {
        debug_assert!(!self.in_flight && self.upload.is_none() && self.output.is_empty());
        self.fate = Fate::NotSent;
        let now = Instant::now();
        let looked = self.look(now);
        self.in_flight = true;
        looked.map_err(|error| self.failure(error))?;
        self.look_again = false;
        self.reusable = !head.close;
        self.upgrades = head.upgrades;
        self.method.clone_from(head.method);
        self.head = HeadReader::default();
        self.deadline.restart();
        self.began = Some(now);
        debug_assert!(payload.is_replayable(), "a stream cannot be sent twice");
        let framing = payload.framing();
        self.expects =
            head.expects && !matches!(framing, RequestFraming::None | RequestFraming::Length(0));
        let proxied = self.forwarded.then_some(&self.peer);
        write::write_request(self.output.head(), head, framing, proxied);
        if let Payload::Whole(body) = payload {
            self.output.set_body(body.clone(), b"");
        } else {
            self.upload = payload.take_stream();
        }
        if self.input.capacity() == 0 {
            self.input = buffers::take_read();
        }
        Ok(())
    }

    /// Sends the request and reads the head of the response, both at once: an answer that comes
    /// before the request is sent completely is taken, and makes the connection not reusable.
    ///
    /// If the response has no body the exchange is over when this is ready.
    pub(crate) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        let began = self.began.take();
        let sending = match self.poll_send(cx) {
            Ok((sending, wrote)) => {
                match began {
                    // Written at once, in almost no time, so the clock need not be read again.
                    Some(began) if sending == Sending::Done => {
                        self.deadline.begin(began, self.config.response_timeout);
                    }
                    // Waiting for the caller's own body does not count.
                    _ if wrote || sending == Sending::Starved => self.deadline.restart(),
                    _ => {}
                }
                sending
            }
            Err(SendError::Body(error) | SendError::Stray(error)) => {
                return Poll::Ready(Err(self.failure(error)));
            }
            Err(SendError::Io(source)) => {
                if self.fate == Fate::NotSent {
                    let error = self.failed(Stage::Start, source);
                    return Poll::Ready(Err(self.failure(error)));
                }
                self.stop_sending();
                self.deadline.restart();
                self.write_error = Some(source);
                Sending::Done
            }
        };
        loop {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) if self.fate == Fate::NotSent => {
                    // It answers nothing that was asked here.
                    return Poll::Ready(Err(self.failure(self.broken(self.unsolicited()))));
                }
                Poll::Ready(Ok(1..)) => self.fate = Fate::Answered,
                Poll::Ready(Ok(0)) => {
                    let error = self.read_error(None);
                    return Poll::Ready(Err(self.failure(error)));
                }
                Poll::Ready(Err(source)) => {
                    let error = self.read_error(Some(source));
                    return Poll::Ready(Err(self.failure(error)));
                }
                Poll::Pending => {
                    let (limit, stage) = match sending {
                        Sending::Done => (self.config.response_timeout, Stage::Response),
                        Sending::Blocked => (self.config.write_timeout, Stage::Request),
                        Sending::Starved => return Poll::Pending,
                    };
                    let error = ready!(self.poll_timeout(cx, limit, stage));
                    return Poll::Ready(Err(self.failure(error)));
                }
            }
            match self.read_head(sending) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.failure(self.broken(error)))),
            }
        }
    }

    /// Takes a final head out of the buffer, if it is there.
    fn read_head(&mut self, sending: Sending) -> Result<Option<ResponseHead>, ProtocolError> {
        let Some(head) = self.head.read(&mut self.input, &self.config.limits)? else {
            return Ok(None);
        };
        if head.status == StatusCode::SWITCHING_PROTOCOLS && !self.upgrades {
            return Err(ProtocolError::UnaskedUpgrade);
        }
        let delivery = framing::decide(&self.method, &head)?;
        self.reusable &= delivery.reusable;
        self.idle_limit = head.signals.idle_limit().or(self.idle_limit);
        self.decoder = delivery.decoder;
        self.deadline.restart();
        let refused = self.expects && !self.head.is_continued();
        if sending != Sending::Done || self.write_error.is_some() || refused {
            self.reusable = false;
        }
        if self.decoder.is_over() {
            self.finish();
        }
        Ok(Some(head))
    }

    /// The next piece of the response body; `None` once the exchange is over. An answer that began
    /// before the request was sent completely has the rest of it sent meanwhile, which buys the
    /// peer no time: each wait ends with its next byte.
    ///
    /// The exchange ends with the last byte, not with the `None` after it.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.in_flight {
            return Poll::Ready(None);
        }
        if !self.is_sent() && self.poll_send(cx).is_err() {
            self.stop_sending();
        }
        loop {
            match self.decoder.decode(&mut self.input, &self.config.limits) {
                Ok(Step::Data(data)) => {
                    self.deadline.restart();
                    if self.decoder.is_over() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Step::Trailers(trailers)) => {
                    self.finish();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Step::End) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(Step::More) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error)))),
            }
            let error = match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0)) if matches!(self.decoder, BodyDecoder::UntilClose) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => self.closed(Stage::Body),
                Poll::Ready(Err(source)) => self.failed(Stage::Body, source),
                Poll::Pending => {
                    let limit = self.config.body_timeout;
                    ready!(self.poll_timeout(cx, limit, Stage::Body))
                }
            };
            return Poll::Ready(Some(Err(error)));
        }
    }

    /// How far the request in flight has come, before the head of its response is there.
    pub(crate) fn stage(&self) -> Stage {
        match self.fate {
            Fate::NotSent => Stage::Start,
            _ if self.is_sent() => Stage::Response,
            _ => Stage::Request,
        }
    }

    /// The exchange in flight is to end because of a limit on the whole of it.
    pub(crate) fn late(&self, limit: Duration) -> Failure {
        let (stage, peer) = (self.stage(), self.peer.clone());
        self.failure(Error::TotalTimeout { stage, limit, peer })
    }

    /// The address of the peer. Asks the system.
    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.peer_addr()
    }

    /// The origin that it leads to.
    pub(crate) fn peer(&self) -> &Key {
        &self.peer
    }

    /// Bytes of the response body still to come, where that is known.
    pub(crate) fn body_left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// How long it may be idle before its next request, if a response has told it.
    pub(crate) fn idle_limit(&self) -> Option<Duration> {
        self.idle_limit
    }

    /// Whether the exchange is over.
    pub(crate) fn is_finished(&self) -> bool {
        !self.in_flight
    }

    /// Drops what is left of the body as far as it has arrived already. Afterwards the exchange is
    /// over, or it is worth reading on (`true`), or it is not (`false`).
    pub(crate) fn skip_buffered(&mut self) -> bool {
        // This runs in a drop, which can come after the end of the runtime.
        self.deadline.forget();
        let limits = &self.config.limits;
        loop {
            match self.decoder.decode(&mut self.input, limits) {
                Ok(Step::Data(_)) if !self.decoder.is_over() => {}
                Ok(Step::Data(_) | Step::Trailers(_) | Step::End) => {
                    self.finish();
                    return false;
                }
                Ok(Step::More) => {
                    return self.reusable
                        && self.is_sent()
                        && !limits.drain_time.is_zero()
                        && self.body_left().unwrap_or(1) <= limits.drain_bytes;
                }
                Err(_) => return false,
            }
        }
    }

    /// How long [`drain`](Connection::drain) takes at most.
    pub(crate) fn drain_time(&self) -> Duration {
        self.config.limits.drain_time
    }

    /// Reads the rest of the body and drops it, within the limits. Whether the exchange is over
    /// then, [`is_broken`](Connection::is_broken) knows.
    pub(crate) async fn drain(&mut self) {
        let time = self.drain_time();
        let reading = async {
            let mut left = self.config.limits.drain_bytes;
            while let Some(Ok(frame)) = poll_fn(|cx| self.poll_body(cx)).await {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // The in-flight mark shows whether this worked.
        let _ = tokio::time::timeout(time, reading).await;
    }

    /// The message is over: nothing of it is in flight any more.
    fn finish(&mut self) {
        self.in_flight = false;
        if !self.is_sent() || !self.input.is_empty() {
            self.reusable = false;
        }
        self.upload = None;
        self.deadline.park();
        self.output.release();
        if self.input.is_empty() {
            buffers::give_read(std::mem::take(&mut self.input), self.read_size);
        }
        self.read_size = READ_SIZE;
    }

    fn is_sent(&self) -> bool {
        self.upload.is_none() && self.output.is_empty()
    }

    fn stop_sending(&mut self) {
        self.upload = None;
        self.output.clear();
        self.reusable = false;
    }

    /// Writes as much of the request as can be written now. Also tells whether that was anything.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(Sending, bool), SendError> {
        let mut wrote = false;
        loop {
            // A first frame that is there already goes out with the head, in one write.
            if let Some(upload) = self.upload.as_mut().filter(|_| self.output.takes_more()) {
                match upload.poll_queue(cx, &mut self.output) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => self.upload = None,
                    Poll::Ready(Err(error)) => {
                        return Err(SendError::Body(Error::RequestBody(error)));
                    }
                    Poll::Pending if self.output.is_empty() => {
                        return Ok((Sending::Starved, wrote));
                    }
                    Poll::Pending => {}
                }
                // The caller's body may have taken some time.
                self.look_again = true;
            }
            while !self.output.is_empty() {
                if self.look_again && self.fate == Fate::NotSent {
                    self.look(Instant::now()).map_err(SendError::Stray)?;
                }
                match self.output.poll_write(Pin::new(&mut self.stream), cx) {
                    Poll::Ready(Ok(_)) => {
                        self.fate = self.fate.max(Fate::Unknown);
                        self.used = true;
                        wrote = true;
                    }
                    Poll::Ready(Err(error)) => return Err(SendError::Io(error)),
                    Poll::Pending => {
                        self.look_again = true;
                        return Ok((Sending::Blocked, wrote));
                    }
                }
            }
            if self.upload.is_none() {
                return Ok((Sending::Done, wrote));
            }
        }
    }

    /// Reads something into the buffer; 0 is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read_size);
        let room = self.input.capacity() - self.input.len();
        let read = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
        if read == room {
            self.read_size = (self.read_size * 2).min(MAX_READ_SIZE);
        }
        Poll::Ready(Ok(read))
    }

    fn poll_timeout(
        &mut self,
        cx: &mut Context<'_>,
        limit: Option<Duration>,
        stage: Stage,
    ) -> Poll<Error> {
        let peer = &self.peer;
        let timeout =
            || Error::Timeout { stage, limit: limit.unwrap_or_default(), peer: peer.clone() };
        self.deadline.poll(cx, limit).map(|()| timeout())
    }

    /// Why no (further) byte of a response came. A failed write is the better explanation.
    fn read_error(&mut self, source: Option<io::Error>) -> Error {
        match (self.write_error.take(), source) {
            (Some(source), _) => self.failed(Stage::Request, source),
            (None, Some(source)) => self.failed(Stage::Response, source),
            (None, None) => self.closed(Stage::Response),
        }
    }

    fn failed(&self, stage: Stage, source: io::Error) -> Error {
        Error::Io { stage, peer: self.peer.clone(), source }
    }

    fn closed(&self, stage: Stage) -> Error {
        Error::Closed { stage, peer: self.peer.clone() }
    }

    fn broken(&self, source: ProtocolError) -> Error {
        Error::Protocol { source, peer: self.peer.clone() }
    }

    fn failure(&self, error: Error) -> Failure {
        Failure { error, fate: self.fate }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.stream)
            .field("in_flight", &self.in_flight)
            .field("reusable", &self.reusable)
            .finish_non_exhaustive()
    }
}
