//! The socket as the driver sees it: every read and every refused write leaves a mark, and a write
//! that fails does not hide what is still to be read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What passed through a [`Watched`] socket. Only the driver's task touches it, hence relaxed
/// order.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    reads: AtomicU64,
    writes: AtomicU64,
    blocked: AtomicBool,
    failed: AtomicBool,
}

impl Activity {
    /// How many reads brought something, the end of the stream included.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many writes took something.
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
                bump(&self.writes);
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

/// One writer, so no read-modify-write is needed.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A socket that keeps its [`Activity`] up to date.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(crate) fn new(inner: T) -> (Self, Arc<Activity>) {
        let activity = Arc::new(Activity::default());
        let watched = Self { inner, activity: Arc::clone(&activity) };
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
        let result = Pin::new(&mut me.inner).poll_read(cx, buf);
        if result.is_ready() {
            bump(&me.activity.reads);
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
