//! The task of one connection: moves its frames, watches its peer, ends it.
//!
//! The only task there is; requests and bodies run in their callers' tasks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, Reason};
use pool_common::deadline::Deadline;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::config::{Config, FAR};
use crate::error::Closed;
use crate::keep_alive::{KeepAlive, Step};
use crate::observed::{Observed, Phase, now_or_pending};
use crate::transport::{Activity, Watched};

/// Given to h2 as the number of streams allowed before SETTINGS, so that their arrival can be seen:
/// a real limit fits in 32 bits, and a peer without a limit makes it `usize::MAX`. Before SETTINGS
/// the slots of the pool are the limit.
pub(crate) const BEFORE_SETTINGS: usize = usize::MAX - 1;

/// How long unread responses may hold most of the connection's window before it is enlarged, or
/// the connection takes no new streams. A reader that is only busy needs less time.
const CROWDED_AFTER: Duration = Duration::from_millis(10);

/// The future that is the task.
pub(crate) struct Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Dropped before `connection`, so that a task that is woken by the loss of its stream finds
    /// the cause.
    end: End,
    connection: Connection<Watched<T>, Bytes>,
    /// Shows a GOAWAY as soon as h2 has read it. Given up to let the connection end.
    probe: Option<SendRequest<Bytes>>,
    observed: Arc<Observed>,
    activity: Arc<Activity>,
    config: Arc<Config>,

    waker: Option<Waker>,
    reads_seen: u64,
    ping_pong: Option<PingPong>,
    ping_sent: bool,
    keep_alive: Option<KeepAlive>,
    look_again: Deadline,
    stall: Deadline,
    stall_writes: u64,
    close: Deadline,
    /// A GOAWAY came, or h2 takes no new streams for another reason.
    ends: bool,
    /// Since when the peer owes an answer because a request missed its deadline.
    doubt_since: Option<Instant>,
    doubt: Deadline,
    /// The window of the connection that h2 keeps up, in bytes.
    window: u32,
    crowd: Deadline,
}

impl<T> Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) fn new(
        mut connection: Connection<Watched<T>, Bytes>,
        probe: SendRequest<Bytes>,
        activity: Arc<Activity>,
        observed: Arc<Observed>,
        config: Arc<Config>,
        patience: u32,
    ) -> Self {
        let ping_pong = connection.ping_pong();
        Self {
            connection,
            probe: Some(probe),
            end: End { observed: Arc::clone(&observed), cause: None },
            observed,
            activity,
            keep_alive: KeepAlive::new(&config, patience, Instant::now()),
            window: config.connection_window,
            config,
            waker: None,
            reads_seen: 0,
            ping_pong,
            ping_sent: false,
            look_again: Deadline::default(),
            stall: Deadline::default(),
            stall_writes: 0,
            close: Deadline::default(),
            ends: false,
            doubt_since: None,
            doubt: Deadline::default(),
            crowd: Deadline::default(),
        }
    }

    /// Notices changes of the peer's settings. Called only after bytes were read.
    fn look_at_peer(&mut self) {
        let reads = self.activity.reads();
        if reads == self.reads_seen {
            return;
        }
        self.reads_seen = reads;
        if let Some(check) = &mut self.keep_alive {
            check.handle_read(Instant::now());
        }
        if self.doubt_since.take().is_some() {
            self.doubt.restart();
        }
        if self.observed.is_suspect() {
            self.observed.set_suspect(false);
        }
        let mut news = false;
        let limit = self.connection.max_concurrent_send_streams();
        if limit != BEFORE_SETTINGS {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            news |= self.observed.set_peer_limit(limit);
        }
        self.look_for_go_away();
        if news {
            self.observed.tell_capacity(&self.config);
        }
    }

    /// h2 refuses new streams from the moment it has read a GOAWAY, also a graceful one while
    /// streams are open. Its future shows it only when the last of them has ended.
    fn look_for_go_away(&mut self) {
        if self.ends {
            return;
        }
        let Some(probe) = &mut self.probe else { return };
        let Poll::Ready(Err(error)) = now_or_pending(|cx| probe.poll_ready(cx)) else {
            return;
        };
        self.ends = true;
        // Not the error itself: its text has all debug data of a GOAWAY, the cause a cut version.
        let (reason, cause) = (error.reason(), self.activity.cause());
        let cause = cause.as_ref().map(tracing::field::display);
        tracing::debug!(?reason, cause, "no new streams on this connection");
        self.observed.retire();
    }

    /// Begins to close once there are no users: without the probe h2 ends by itself.
    fn look_at_requests(&mut self) {
        if self.probe.is_some() && self.observed.close_requested() {
            self.observed.advance(Phase::Draining);
            self.probe = None;
            self.close.begin(Instant::now(), Some(self.config.close_timeout));
        }
        if self.observed.take_ping_request() {
            self.send_ping();
        }
        if self.observed.take_proof_request() {
            self.send_ping();
            self.doubt_since.get_or_insert_with(Instant::now);
        }
    }

    fn send_ping(&mut self) {
        let Some(ping_pong) = &mut self.ping_pong else { return };
        // One PING at a time; its answer serves all callers that ask for one meanwhile.
        if !self.ping_sent {
            self.ping_sent = ping_pong.send_ping(Ping::opaque()).is_ok();
        }
    }

    fn look_for_pong(&mut self, cx: &mut Context<'_>) {
        let Some(ping_pong) = &mut self.ping_pong else { return };
        if self.ping_sent && ping_pong.poll_pong(cx).is_ready() {
            self.ping_sent = false;
            self.observed.note_pong();
        }
    }

    /// The health check; `Some` when the peer is given up.
    fn check_peer(&mut self, cx: &mut Context<'_>) -> Option<Closed> {
        while let Some(check) = &mut self.keep_alive {
            let step = check.poll_step(Instant::now(), self.observed.in_flight() > 0);
            let at = match step {
                Step::Dead => return Some(Closed::KeepAlive),
                Step::Ask => {
                    self.send_ping();
                    continue;
                }
                Step::Suspect(at) => {
                    if self.observed.set_suspect(true) {
                        tracing::debug!("the peer is silent");
                        // Retired, not given a capacity of 0: with that the pool would not dial in its place.
                        self.observed.retire();
                    }
                    at
                }
                Step::Sleep(at) => at,
            };
            if self.look_again.poll_at(cx, at).is_pending() {
                return None;
            }
        }
        None
    }

    /// The deadlines on the PING that follows a missed deadline: at the first the connection is
    /// retired, unless it was before; `Some` at the second, when the peer is given up.
    fn check_proof(&mut self, cx: &mut Context<'_>) -> Option<Closed> {
        let since = self.doubt_since?;
        if self.observed.phase() == Phase::Open {
            if self.doubt.poll_at(cx, since + self.config.ping_grace()).is_pending() {
                return None;
            }
            tracing::debug!("the peer is silent");
            self.observed.retire();
        }
        let limit = self.config.keep_alive_timeout.min(FAR);
        self.doubt.poll_at(cx, since + limit).is_ready().then_some(Closed::KeepAlive)
    }

    /// Unread responses hold the window that all streams share. It is enlarged for the
    /// others, up to a bound, which is then also the bound on the memory of unread responses; there
    /// the connection takes no new streams until some of it has been read.
    fn check_window(&mut self, cx: &mut Context<'_>) {
        let room = self.activity.window();
        let window = u64::from(self.window);
        // h2 renews the window long before this where readers keep up.
        if room >= window / 4 {
            self.crowd.restart();
            if room >= window / 2 && self.observed.is_crowded() && self.observed.set_crowded(false)
            {
                self.observed.tell_capacity(&self.config);
            }
            return;
        }
        if self.crowd.poll(cx, Some(CROWDED_AFTER)).is_pending() {
            return;
        }
        self.crowd.restart();
        let most = self.config.most_unread();
        if self.window < most {
            self.window = self.window.saturating_add(self.config.connection_window).min(most);
            tracing::debug!(window = self.window, "responses are not read, enlarging the window");
            // This wakes the task: h2 has a WINDOW_UPDATE to send.
            self.connection.set_target_window_size(self.window);
        } else if self.observed.set_crowded(true) {
            tracing::debug!(window = self.window, "unread responses fill the window");
            self.observed.tell_capacity(&self.config);
        }
    }

    /// The deadline on every write; `Some` when the peer has not read for too long. After the socket has
    /// failed, only bytes that the peer sent before can be read: this takes no longer than a close may.
    fn check_writes(&mut self, cx: &mut Context<'_>) -> Option<Closed> {
        if self.activity.has_failed() && !self.close.is_begun() {
            self.close.begin(Instant::now(), Some(self.config.close_timeout));
            self.observed.retire();
        }
        let limit = self.config.write_timeout?;
        if !self.activity.is_blocked() {
            self.stall.restart();
            return None;
        }
        let writes = self.activity.writes();
        if writes != self.stall_writes {
            self.stall_writes = writes;
            self.stall.restart();
        }
        self.stall.poll(cx, Some(limit)).is_ready().then_some(Closed::WriteStalled)
    }

    /// The bound on the time of a close.
    fn check_close(&mut self, cx: &mut Context<'_>) -> Option<Closed> {
        let cause = match self.probe {
            None => Closed::Local,
            Some(_) => Closed::Broken("the socket failed".into()),
        };
        self.close.poll_begun(cx).is_ready().then_some(cause)
    }

    fn remember_driver(&mut self, cx: &Context<'_>) {
        // A task's waker stays the same in practice, so the lock behind this is taken once.
        if self.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.observed.set_driver(cx.waker());
        }
    }

    /// Why h2 says the connection ended.
    fn cause(&self, result: Result<(), h2::Error>) -> Closed {
        match (result, self.activity.go_away()) {
            (_, Some(fault)) => fault,
            (Ok(()), None) if self.probe.is_none() => Closed::Local,
            (Ok(()), None) => Closed::Peer,
            (Err(error), None) => Closed::broken(&error),
        }
    }
}

impl<T> Future for Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        me.remember_driver(cx);
        me.look_at_requests();
        let result = Pin::new(&mut me.connection).poll(cx);
        me.look_at_peer();
        let ended = match result {
            Poll::Ready(result) => {
                // A GOAWAY and the end of the stream can come in one read.
                me.look_for_go_away();
                Some(me.cause(result))
            }
            Poll::Pending => {
                me.look_for_pong(cx);
                me.check_window(cx);
                let ended = me.check_peer(cx).or_else(|| me.check_proof(cx));
                ended.or_else(|| me.check_writes(cx)).or_else(|| me.check_close(cx))
            }
        };
        match ended {
            Some(cause) => {
                me.end.cause = Some(cause);
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    }
}

/// Tells all users that the connection is over when the task ends for any reason: it is done, it was
/// aborted with its runtime, or it panicked.
struct End {
    observed: Arc<Observed>,
    cause: Option<Closed>,
}

impl Drop for End {
    fn drop(&mut self) {
        let cause = self.cause.take();
        let cause = cause.unwrap_or_else(|| Closed::Broken("its task was stopped".into()));
        tracing::debug!(%cause, "connection ended");
        let calm = matches!(cause, Closed::GoAway { reason: Reason::ENHANCE_YOUR_CALM, .. });
        self.observed.set_closed(cause);
        self.observed.listener().broken(calm);
    }
}

#[cfg(test)]
mod tests;
