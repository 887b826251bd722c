//! The socket as the driver sees it: the bytes that pass through are watched, and a failed write does
//! not hide bytes that are still to be read.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{Closed, legible};
use crate::frames::{
    DATA, END_STREAM, Found, FrameHead, GOAWAY, HEADERS, Scanner, WINDOW_UPDATE, number,
};
use crate::pseudo::{self, Start};

/// Receive window of a new connection, in bytes (RFC 9113, 6.9.2).
const FIRST_WINDOW: u64 = 65_535;

/// A record of the bytes that passed through a [`Watched`] socket.
///
/// Only the driver's task writes it, while it polls h2. A task that looks at it because its stream
/// has failed learned of that under h2's lock, after the driver wrote; hence relaxed order.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    reads: AtomicU64,
    writes: AtomicU64,
    blocked: AtomicBool,
    failed: AtomicBool,
    ended: AtomicBool,
    /// Bytes of DATA frames from the peer, padding included.
    received: AtomicU64,
    /// Bytes by which we have enlarged the peer's window of the connection.
    granted: AtomicU64,
    /// The highest stream whose HEADERS frame went out; ids only grow.
    last_stream: AtomicU32,
    go_away: Mutex<Option<Closed>>,
    unfinished: Unfinished,
    pseudo: PseudoFields,
}

/// Streams whose blocks have pseudo-header fields that matter: [`BAD`] ones, and blocks with
/// END_STREAM that begin with one. The latter are complete responses or malformed trailers, which
/// only the reader of the stream can tell apart. Each stream has one of a few places, so that there
/// is no lock, and an old stream is forgotten.
#[derive(Debug, Default)]
struct PseudoFields {
    any_bad: AtomicBool,
    streams: [AtomicU32; 32],
}

/// The highest bit, which ids of streams do not use: the block is not valid in any response.
const BAD: u32 = 1 << 31;

impl PseudoFields {
    fn place(&self, stream: u32) -> &AtomicU32 {
        // The ids of our streams are odd.
        &self.streams[stream as usize / 2 % self.streams.len()]
    }

    fn note(&self, head: FrameHead, payload: &[u8]) {
        match pseudo::start(head.flags, payload) {
            Start::Bad => {
                self.place(head.stream).store(head.stream | BAD, Ordering::Relaxed);
                self.any_bad.store(true, Ordering::Relaxed);
            }
            Start::Pseudo if head.flags & END_STREAM != 0 => {
                self.place(head.stream).store(head.stream, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Streams whose request is still being sent, and whether the peer has ended its side. h2 forgets
/// that it has when the connection fails before the request is complete.
#[derive(Debug, Default)]
struct Unfinished {
    /// Saves taking the lock if requests have no bodies.
    number: AtomicUsize,
    streams: Mutex<HashMap<u32, bool>>,
}

impl Activity {
    /// The number of reads that returned bytes or the end of the stream.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The number of writes that took bytes.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Whether the last write found the socket full.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether a write has failed: the peer takes no more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// How much the peer may still send on all streams together, in bytes.
    pub(crate) fn window(&self) -> u64 {
        let granted = FIRST_WINDOW + self.granted.load(Ordering::Relaxed);
        granted.saturating_sub(self.received.load(Ordering::Relaxed))
    }

    /// Whether the request of this stream went out, in whole or in part.
    pub(crate) fn has_sent(&self, stream: u32) -> bool {
        stream <= self.last_stream.load(Ordering::Relaxed)
    }

    /// The fault that the peer named in a GOAWAY.
    pub(crate) fn go_away(&self) -> Option<Closed> {
        lock(&self.go_away).clone()
    }

    /// Why the connection ends, as far as the peer has told: known before h2 fails its streams.
    pub(crate) fn cause(&self) -> Option<Closed> {
        let closed = || self.ended.load(Ordering::Relaxed).then_some(Closed::Peer);
        self.go_away().or_else(closed)
    }

    /// From now on records whether the peer ends its side of this stream.
    pub(crate) fn watch_end(self: &Arc<Self>, stream: u32) -> EndWatch {
        self.unfinished.number.fetch_add(1, Ordering::Relaxed);
        lock(&self.unfinished.streams).insert(stream, false);
        EndWatch { activity: Arc::clone(self), stream }
    }

    fn note_received(&self, found: Found<'_>) {
        match found {
            Found::Head(head) if head.kind == DATA => add(&self.received, head.length.into()),
            Found::StreamEnd(stream) => self.note_end(stream),
            Found::Payload(head, payload) if head.kind == GOAWAY => {
                self.note_go_away(head, payload);
            }
            Found::Payload(head, payload) if head.kind == HEADERS => {
                self.pseudo.note(head, payload);
            }
            Found::Head(_) | Found::Payload(..) => {}
        }
    }

    /// Whether the response head of this stream has pseudo-header fields of requests.
    pub(crate) fn has_bad_head(&self, stream: impl FnOnce() -> u32) -> bool {
        self.pseudo.any_bad.load(Ordering::Relaxed) && {
            let stream = stream();
            self.pseudo.place(stream).load(Ordering::Relaxed) == stream | BAD
        }
    }

    /// Whether the trailers of this stream have pseudo-header fields.
    pub(crate) fn has_bad_trailers(&self, stream: u32) -> bool {
        self.pseudo.place(stream).load(Ordering::Relaxed) & !BAD == stream
    }

    fn note_end(&self, stream: u32) {
        if self.unfinished.number.load(Ordering::Relaxed) > 0
            && let Some(ended) = lock(&self.unfinished.streams).get_mut(&stream)
        {
            *ended = true;
        }
    }

    /// A peer may announce its end first and name the fault later; the fault is kept.
    fn note_go_away(&self, head: FrameHead, payload: &[u8]) {
        let code = payload.get(4..).and_then(number);
        let Some(reason) = code.map(Reason::from).filter(|&reason| reason != Reason::NO_ERROR)
        else {
            return;
        };
        let cut = head.length as usize > payload.len();
        let message = legible(&payload[8..], cut).into();
        *lock(&self.go_away) = Some(Closed::GoAway { reason, message });
    }

    fn note_sent(&self, found: Found<'_>) {
        match found {
            // Trailers are HEADERS, too, of a stream that went out long ago.
            Found::Head(head) if head.kind == HEADERS && !self.has_sent(head.stream) => {
                self.last_stream.store(head.stream, Ordering::Relaxed);
            }
            Found::Payload(head, payload) if head.kind == WINDOW_UPDATE && head.stream == 0 => {
                add(&self.granted, number(payload).unwrap_or(0).into());
            }
            _ => {}
        }
    }

    /// Notes the result of writing `length` bytes. A failure becomes a success.
    ///
    /// A peer that closes has often said why before: a GOAWAY that proves which requests it did not
    /// process, or the response itself, waits in the receive buffer. h2 would drop all of it with
    /// the first write that fails. So from then on writes go nowhere, and the reads find the end.
    fn note_write(
        &self,
        result: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => self.blocked.store(true, Ordering::Relaxed),
            Poll::Ready(_) => {
                self.blocked.store(false, Ordering::Relaxed);
                add(&self.writes, 1);
            }
        }
        match result {
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a write failed, reading on");
                self.failed.store(true, Ordering::Relaxed);
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }
}

/// Tells whether the peer has ended its side of a stream whose request is not complete.
#[derive(Debug)]
pub(crate) struct EndWatch {
    activity: Arc<Activity>,
    stream: u32,
}

impl EndWatch {
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.activity.unfinished.streams).get(&self.stream).is_some_and(|ended| *ended)
    }
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        lock(&self.activity.unfinished.streams).remove(&self.stream);
        self.activity.unfinished.number.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic halfway through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One writer, so no read-modify-write is needed.
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed) + number, Ordering::Relaxed);
}

/// A socket that keeps its [`Activity`] up to date.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    activity: Arc<Activity>,
    incoming: Scanner,
    outgoing: Scanner,
}

impl<T> Watched<T> {
    pub(crate) fn new(inner: T) -> (Self, Arc<Activity>) {
        let activity = Arc::new(Activity::default());
        let watched = Self {
            inner,
            activity: Arc::clone(&activity),
            incoming: Scanner::new(),
            outgoing: Scanner::after_preface(),
        };
        (watched, activity)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut me.inner).poll_read(cx, buf);
        if let Poll::Ready(result) = &result {
            let activity = &me.activity;
            add(&activity.reads, 1);
            match &buf.filled()[before..] {
                [] if result.is_ok() => activity.ended.store(true, Ordering::Relaxed),
                new => me.incoming.scan(new, |found| activity.note_received(found)),
            }
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if me.activity.has_failed() {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut me.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = result {
            me.outgoing.scan(&buf[..written], |found| me.activity.note_sent(found));
        }
        me.activity.note_write(result, buf.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if me.activity.has_failed() {
            return Poll::Ready(Ok(length));
        }
        let result = Pin::new(&mut me.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut written)) = result {
            for buf in bufs {
                let part = written.min(buf.len());
                me.outgoing.scan(&buf[..part], |found| me.activity.note_sent(found));
                written -= part;
            }
        }
        me.activity.note_write(result, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        match me.activity.has_failed() {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut me.inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        match me.activity.has_failed() {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut me.inner).poll_shutdown(cx),
        }
    }
}
