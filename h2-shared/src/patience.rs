//! How long a request waits for its peer, and what a peer that was silent all the time has to prove.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::alarm::FAR;
use crate::connection::H2Connection;

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
    /// The last part of the wait has begun.
    asked: bool,
}

impl Patience {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit: limit.map(|limit| limit.min(FAR)), wait: None }
    }

    /// Whether a timer is needed.
    pub(crate) fn has_limit(&self) -> bool {
        self.limit.is_some()
    }

    /// Ready with the limit when it has been reached. `timer` is where the timer lives.
    ///
    /// When three quarters have passed without a word from the peer, on any stream, a PING goes
    /// out. A peer that works has answered it by the end, and keeps its connection.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Option<Sleep>>,
        progress: u64,
        connection: &H2Connection,
    ) -> Poll<Duration> {
        if self.wait.is_none_or(|wait| wait.progress != progress) {
            let since = Instant::now();
            let reads = connection.reads();
            self.wait = Some(Wait { since, progress, reads, asked: false });
            timer.set(self.limit.map(|limit| sleep_until(since + limit / 4 * 3)));
        }
        let (Some(limit), Some(wait)) = (self.limit, &mut self.wait) else {
            return Poll::Pending;
        };
        let Some(mut timer) = timer.as_pin_mut() else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        if !wait.asked {
            wait.asked = true;
            if connection.reads() == wait.reads {
                connection.ask();
            }
            timer.as_mut().reset(wait.since + limit);
            ready!(timer.poll(cx));
        }
        Poll::Ready(limit)
    }

    /// The peer has answered, or it is the caller's turn.
    pub(crate) fn stop(&mut self) {
        self.wait = None;
    }

    /// Ends a wait that reached its limit. Returns whether the peer was silent all the time.
    pub(crate) fn was_silent(&mut self, connection: &H2Connection) -> bool {
        self.wait.take().is_some_and(|wait| wait.reads == connection.reads())
    }

    /// Ends a wait whose caller is gone.
    pub(crate) fn abandon(&mut self, connection: &H2Connection) {
        if let Some(wait) = self.wait.take()
            && wait.reads == connection.reads()
            && wait.since.elapsed() >= DOUBT_AFTER
        {
            connection.doubt();
        }
    }
}
