//! How long a request waits for its peer, and what happens to the connection of a peer that was silent all
//! the time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::FAR;
use crate::connection::Connection;

/// A caller that gives up after a silence this long makes the peer suspect. Callers that cancel
/// earlier have other reasons.
const DOUBT_AFTER: Duration = Duration::from_millis(100);

/// A timeout that runs only while we wait for the peer, and starts anew with all progress.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Option<Duration>,
    wait: Option<Wait>,
}

/// A wait for the peer.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    /// What the request had sent by then.
    progress: u64,
    /// How often the peer had sent something by then, on any stream.
    reads: u64,
    /// When the last part of the wait began.
    asked: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit: limit.map(|limit| limit.min(FAR)), wait: None }
    }

    /// Ready with the limit when it has been reached. `poll_at` asks the timer, which lives with the
    /// caller: it is ready once that time has come.
    ///
    /// When three quarters have passed without a byte from the peer, on any stream, a PING is sent.
    /// A peer that works answers it, and its connection stays in use.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut poll_at: impl FnMut(&mut Context<'_>, Instant) -> Poll<()>,
        progress: u64,
        connection: &Connection,
    ) -> Poll<Duration> {
        let wait = match &mut self.wait {
            Some(wait) if wait.progress == progress => wait,
            wait => {
                let (since, reads) = (Instant::now(), connection.reads());
                wait.insert(Wait { since, progress, reads, asked: None })
            }
        };
        let Some(limit) = self.limit else { return Poll::Pending };
        if wait.asked.is_none() {
            ready!(poll_at(cx, wait.since + limit / 4 * 3));
            wait.asked = Some(Instant::now());
            if connection.reads() == wait.reads {
                connection.ask();
            }
        }
        poll_at(cx, wait.since + limit).map(|()| limit)
    }

    /// The peer has answered, or the next step is the caller's.
    pub(crate) fn stop(&mut self) {
        self.wait = None;
    }

    /// Ends a wait that reached its limit, and draws the conclusions for the connection if the peer
    /// was silent all the time.
    pub(crate) fn expire(&mut self, connection: &Connection) {
        if let Some(wait) = self.wait.take()
            && wait.reads == connection.reads()
        {
            connection.note_silence(wait.asked);
        }
    }

    /// Ends a wait whose caller is gone.
    pub(crate) fn abandon(&mut self, connection: &Connection) {
        if let Some(wait) = self.wait.take()
            && wait.reads == connection.reads()
            && wait.since.elapsed() >= DOUBT_AFTER
        {
            connection.doubt();
        }
    }
}

/// A timer that lives in the future of one call, so that a request which has to wait allocates
/// nothing. A timer that outlives the call is a [`Deadline`](pool_common::deadline::Deadline).
pub(crate) fn poll_sleep(
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
    at: Instant,
) -> Poll<()> {
    match timer.as_mut().as_pin_mut() {
        None => timer.set(Some(sleep_until(at))),
        Some(timer) if timer.deadline() != at => timer.reset(at),
        Some(_) => {}
    }
    timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
}
