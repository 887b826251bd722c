//! One HTTP/2 connection that many requests use at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::config::Config;
use crate::driver::{BEFORE_SETTINGS, Driver, Listener};
use crate::error::{Closed, ConnectError};
use crate::observed::{Observed, Phase, now_or_pending, reached};
use crate::transport::Watched;

/// A connection as the pool lends it: a handle on the h2 connection, and what is known of its peer.
///
/// Its frames are moved by a task of its own, which ends with the connection. Dropping the last
/// handle says goodbye to the peer (GOAWAY, flush, shutdown) within
/// [`close_timeout`](Config::close_timeout).
pub struct H2Connection {
    handle: Mutex<Option<SendRequest<Bytes>>>,
    observed: Arc<Observed>,
    config: Arc<Config>,
}

/// A request that was given to h2.
pub(crate) type Opened = (ResponseFuture, SendStream<Bytes>);

/// A request that was not.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The connection takes no new streams.
    Gone(h2::Error),
    /// HTTP/2 has no such request.
    Invalid,
}

impl H2Connection {
    /// Starts HTTP/2 on a fresh socket: sends the preface and our SETTINGS, spawns the driver, and
    /// waits for the peer's SETTINGS if the configuration says so.
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
        L: Listener + Unpin,
    {
        let (io, activity) = Watched::new(io);
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(BEFORE_SETTINGS)
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_frame_size(config.max_frame_size)
            .max_header_list_size(config.max_header_list_size)
            .max_send_buffer_size(config.max_send_buffer)
            .max_concurrent_reset_streams(config.max_remembered_resets)
            .max_local_error_reset_streams(Some(config.max_error_resets));
        // Two small writes into an empty socket buffer; `dial_timeout` bounds them like the rest.
        let (handle, connection) =
            builder.handshake::<_, Bytes>(io).await.map_err(ConnectError::Preface)?;

        let observed = Arc::new(Observed::new());
        let driver = Driver::new(
            connection,
            handle.clone(),
            activity,
            Arc::clone(&observed),
            Arc::clone(&config),
            patience,
            listener,
        );
        let this = Self { handle: Mutex::new(Some(handle)), observed, config };
        tokio::spawn(driver);
        if this.config.wait_for_settings {
            this.settled().await?;
        }
        Ok(this)
    }

    /// Waits until the peer's SETTINGS allow a stream. A connection that allows none is no use to
    /// those who wait for one, and if it counted as dialed they would make the pool dial the next.
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
        match now_or_pending(|cx| handle.poll_ready(cx)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(NotSent::Gone(error)),
            // A handle takes one request too many and then none until that one is on its way. A new
            // handle takes another; how many there may be is our own count's business.
            Poll::Pending => *handle = handle.clone(),
        }
        handle.send_request(request, end_of_stream).map_err(|error| {
            // A GOAWAY may come between the two calls.
            match error.is_go_away() || error.is_io() {
                true => NotSent::Gone(error),
                false => NotSent::Invalid,
            }
        })
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

    /// Says goodbye and waits until the connection is gone, which
    /// [`close_timeout`](Config::close_timeout) bounds. Open streams finish first, within that time.
    pub(crate) async fn close(&self) {
        let mut milestones = self.observed.milestones();
        let handle = self.lock_handle().take();
        drop(handle);
        self.observed.request_close();
        reached(&mut milestones, |m| m.closed).await;
    }

    /// How many streams may be open at a time right now: the peer's limit once known, else
    /// [`streams_before_settings`](Config::streams_before_settings); zero when it is draining,
    /// suspect or closed.
    pub fn slots(&self) -> u32 {
        self.observed.slots(&self.config)
    }

    /// The peer's MAX_CONCURRENT_STREAMS: `None` before its SETTINGS, `u32::MAX` when it sets no
    /// limit.
    pub fn peer_limit(&self) -> Option<u32> {
        self.observed.peer_limit()
    }

    /// Streams that are open now.
    pub fn in_flight(&self) -> u32 {
        self.observed.in_flight()
    }

    /// Streams opened since the connection began.
    pub fn opened(&self) -> u64 {
        self.observed.opened()
    }

    /// Whether it takes streams, drains or is gone.
    pub fn phase(&self) -> Phase {
        self.observed.phase()
    }

    /// Whether a PING is overdue, see [`keep_alive_timeout`](Config::keep_alive_timeout).
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
        // A panic inside h2 leaves this handle as it was; h2's own lock is the one that tells.
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for H2Connection {
    fn drop(&mut self) {
        self.observed.request_close();
    }
}

impl fmt::Debug for H2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Connection")
            .field("phase", &self.phase())
            .field("slots", &self.slots())
            .field("in_flight", &self.in_flight())
            .field("opened", &self.opened())
            .finish_non_exhaustive()
    }
}
