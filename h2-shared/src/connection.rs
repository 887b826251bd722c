//! One HTTP/2 connection that many requests use at a time.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::driver::{BEFORE_SETTINGS, Driver};
use crate::error::{Brief, Closed, ConnectError};
use crate::observed::{Listener, Observed, Phase, now_or_pending, reached};
use crate::transport::{Activity, EndWatch, Watched};

/// A connection as the pool lends it: a handle on the h2 connection, and what is known of its peer.
///
/// A separate task moves its frames, and ends with the connection. Dropping the last handle closes
/// the connection in order (GOAWAY, flush, shutdown) within
/// [`close_timeout`](Config::close_timeout).
pub struct Connection {
    handle: Mutex<Option<SendRequest<Bytes>>>,
    observed: Arc<Observed>,
    activity: Arc<Activity>,
    config: Arc<Config>,
    peer: Option<SocketAddr>,
}

/// A response head up to this size, in bytes, fails its stream only, however low the limit is. h2
/// ends the connection where a head goes far beyond the limit that h2 was given.
const LEAST_HEAD: u32 = 1 << 20;

/// A request that was given to h2.
pub(crate) type Opened = (ResponseFuture, SendStream<Bytes>);

/// A request that was not.
pub(crate) enum NotSent {
    /// The connection takes no new streams.
    Gone(h2::Error),
    /// HTTP/2 has no such request.
    Invalid,
}

impl fmt::Debug for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(error) => f.debug_tuple("Gone").field(&Brief(error)).finish(),
            Self::Invalid => f.write_str("Invalid"),
        }
    }
}

impl Connection {
    /// Starts HTTP/2 on a fresh socket: sends the preface and our SETTINGS, spawns the driver, and
    /// waits for the peer's SETTINGS if the configuration asks for it.
    ///
    /// # Cancel safety
    /// When the future is dropped the connection is closed.
    pub(crate) async fn start<T, L>(
        io: T,
        config: Arc<Config>,
        patience: u32,
        listener: L,
    ) -> Result<Self, ConnectError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        L: Listener,
    {
        let (io, activity) = Watched::new(io);
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(BEFORE_SETTINGS)
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_frame_size(config.max_frame_size)
            // h2 counts the small frames that it keeps for readers, which bounds their memory, and
            // those that come late for cancelled streams, for good.
            .data_frame_budget(config.most_unread() as usize)
            .max_header_list_size(config.max_header_list_size.max(LEAST_HEAD))
            .max_send_buffer_size(config.max_send_buffer)
            .max_concurrent_reset_streams(config.max_remembered_resets)
            .max_local_error_reset_streams(Some(config.max_error_resets));
        // Two small writes into an empty socket buffer; `dial_timeout` bounds them like the rest.
        let (handle, connection) =
            builder.handshake::<_, Bytes>(io).await.map_err(ConnectError::Preface)?;

        let observed = Arc::new(Observed::new(listener));
        let driver = Driver::new(
            connection,
            handle.clone(),
            Arc::clone(&activity),
            Arc::clone(&observed),
            Arc::clone(&config),
            patience,
        );
        let handle = Mutex::new(Some(handle));
        let this = Self { handle, observed, activity, config, peer: None };
        tokio::spawn(driver);
        if this.config.wait_for_settings {
            this.settled().await?;
        }
        Ok(this)
    }

    /// Notes the address of the peer.
    pub(crate) fn set_peer(&mut self, peer: Option<SocketAddr>) {
        self.peer = peer;
    }

    /// Waits until the peer's SETTINGS allow a stream. A connection that allows none cannot serve
    /// a waiter. If it counted as dialed, its waiters would make the pool dial the next connection.
    async fn settled(&self) -> Result<(), ConnectError> {
        let mut milestones = self.observed.milestones();
        let limit = self.config.settings_timeout;
        let allowed = reached(&mut milestones, |m| m.limit.is_some_and(|limit| limit > 0));
        match timeout(limit, allowed).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ConnectError::Ended(self.cause())),
            Err(_) if self.peer_limit() == Some(0) => Err(ConnectError::NoStreams(limit)),
            Err(_) => Err(ConnectError::SettingsTimeout(limit)),
        }
    }

    /// Gives the head of a request to h2, and with it opens a stream. Does not wait: the frames are
    /// written by the driver.
    ///
    /// The caller has counted the stream against the slots. Where h2 still finds no room (the peer
    /// lowered its limit a moment ago, or a reset stream is not off the wire yet) it keeps the
    /// request back until there is some.
    pub(crate) fn send_request(
        &self,
        request: Request<()>,
        end_of_stream: bool,
    ) -> Result<Opened, NotSent> {
        let mut guard = self.lock_handle();
        let Some(handle) = guard.as_mut() else {
            return Err(NotSent::Gone(h2::Reason::NO_ERROR.into()));
        };
        let sent = handle.send_request(request, end_of_stream);
        match now_or_pending(|cx| handle.poll_ready(cx)) {
            // h2's handle keeps a request that fills the connection until it is on its way: the
            // handle would take no other meanwhile, and dropping the request would not cancel it. A
            // new handle keeps none; how many requests there may be is our own count's business.
            Poll::Pending => *handle = handle.clone(),
            Poll::Ready(Err(error)) if sent.is_err() => return Err(NotSent::Gone(error)),
            Poll::Ready(_) => {}
        }
        sent.map_err(|error| match error.is_go_away() || error.is_io() {
            true => NotSent::Gone(error),
            false => NotSent::Invalid,
        })
    }

    /// Notes from now on whether the peer ends this stream.
    pub(crate) fn watch_end(&self, stream: h2::StreamId) -> EndWatch {
        self.activity.watch_end(stream.as_u32())
    }

    /// Whether the request of this stream went out, in whole or in part.
    pub(crate) fn has_sent(&self, stream: h2::StreamId) -> bool {
        self.activity.has_sent(stream.as_u32())
    }

    /// Whether the response head of this stream has pseudo-header fields of requests.
    pub(crate) fn has_bad_head(&self, stream: impl FnOnce() -> h2::StreamId) -> bool {
        self.activity.has_bad_head(|| stream().as_u32())
    }

    /// Whether the trailers of this stream have pseudo-header fields.
    pub(crate) fn has_bad_trailers(&self, stream: h2::StreamId) -> bool {
        self.activity.has_bad_trailers(stream.as_u32())
    }

    /// How often something came from the peer.
    pub(crate) fn reads(&self) -> u64 {
        self.activity.reads()
    }

    /// Sends a PING whose answer will show that the peer is there.
    pub(crate) fn ask(&self) {
        self.observed.request_ping();
    }

    /// The peer missed a deadline and sent nothing: it has
    /// [`keep_alive_timeout`](Config::keep_alive_timeout) to answer a PING.
    pub(crate) fn demand_proof(&self) {
        self.observed.request_proof();
    }

    /// A request missed its deadline, and the peer was silent all the time. A PING has been out since
    /// `asked`, if one was sent. The connection is retired if the peer had time to answer it; else
    /// the driver does so when that time has passed in silence.
    pub(crate) fn note_silence(&self, asked: Option<Instant>) {
        self.demand_proof();
        if asked.is_some_and(|asked| asked.elapsed() >= self.config.ping_grace()) {
            self.observed.retire();
        }
    }

    /// A caller gave up on a peer that was silent. Whether the peer is to blame is not known; the
    /// next request goes to another connection, which is allowed rarely.
    pub(crate) fn doubt(&self) {
        if self.slots() > 0 && self.observed.listener().may_doubt() {
            tracing::debug!("a request was given up, and the peer is silent");
            self.observed.retire();
            self.observed.request_proof();
        }
    }

    /// Why the connection ended or is about to end, if it is. A stream can fail before the driver has noted
    /// the cause.
    pub(crate) fn cause_so_far(&self) -> Option<Closed> {
        self.closed().or_else(|| self.activity.cause())
    }

    /// Sends a PING and waits for the answer. Bounded by the caller.
    pub(crate) async fn ping(&self) -> Result<(), ConnectError> {
        let mut milestones = self.observed.milestones();
        let before = milestones.borrow_and_update().pongs;
        self.observed.request_ping();
        match reached(&mut milestones, |m| m.pongs > before).await {
            true => Ok(()),
            false => Err(ConnectError::CheckFailed(self.cause())),
        }
    }

    /// Closes the connection in order and waits until it is gone, which
    /// [`close_timeout`](Config::close_timeout) bounds. Open streams finish first, within that time.
    pub(crate) async fn close(&self) {
        let mut milestones = self.observed.milestones();
        let handle = self.lock_handle().take();
        drop(handle);
        self.observed.request_close();
        reached(&mut milestones, |m| m.closed).await;
    }

    /// How many streams may be open at a time right now: the peer's limit once known, else
    /// [`streams_before_settings`](Config::streams_before_settings); zero when it is draining or
    /// closed, or when unread responses fill its window.
    pub fn slots(&self) -> u32 {
        self.observed.slots(&self.config)
    }

    /// The peer's MAX_CONCURRENT_STREAMS: `None` before its SETTINGS, `u32::MAX` when it sets no
    /// limit.
    pub fn peer_limit(&self) -> Option<u32> {
        self.observed.peer_limit()
    }

    /// The address of the peer, if the connection is TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Streams that are open now.
    pub fn in_flight(&self) -> u32 {
        self.observed.in_flight()
    }

    /// Streams opened since the connection began.
    pub fn opened(&self) -> u64 {
        self.observed.opened()
    }

    /// Whether it takes streams, is draining, or is closed.
    pub fn phase(&self) -> Phase {
        self.observed.phase()
    }

    /// Whether a keep-alive PING is overdue, see [`keep_alive_timeout`](Config::keep_alive_timeout).
    /// The connection is draining then, and stays so if the answer comes late.
    pub fn is_suspect(&self) -> bool {
        self.observed.is_suspect()
    }

    /// Why it ended, once it has.
    pub fn closed(&self) -> Option<Closed> {
        self.observed.closed()
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    fn cause(&self) -> Closed {
        self.closed().unwrap_or(Closed::Local)
    }

    fn lock_handle(&self) -> MutexGuard<'_, Option<SendRequest<Bytes>>> {
        // A panic inside h2 does not change this handle, but it poisons h2's own lock.
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.observed.request_close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.phase())
            .field("slots", &self.slots())
            .field("in_flight", &self.in_flight())
            .field("opened", &self.opened())
            .finish_non_exhaustive()
    }
}
