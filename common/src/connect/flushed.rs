//! Streams that buffer what is written, used as if they did not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Flushes after each write, and where that has to wait, before each read.
///
/// A stream such as TLS takes bytes into a buffer, and they reach the peer when it is flushed. The
/// protocols of this workspace write to sockets, which need no flush; after a request they only read.
/// So a request that did not fit into the socket goes out while its response is awaited.
#[derive(Debug)]
pub(super) struct Flushed<T> {
    io: T,
    unflushed: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Flushed<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, unflushed: false }
    }

    #[cfg(feature = "rustls")]
    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }

    #[cfg(feature = "rustls")]
    pub(super) fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    fn push(&mut self, cx: &mut Context<'_>) {
        if self.unflushed {
            // A failure is not reported here, since the bytes may have gone out. The next read tells of it.
            let _ = Pin::new(self).poll_flush(cx);
        }
    }

    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.unflushed = true;
            self.push(cx);
        }
        written
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Flushed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.push(cx);
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Flushed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.after_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.unflushed &= flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_that_did_not_fit_go_out_while_an_answer_is_awaited() {
        let (near, mut far) = duplex(4);
        let mut near = Flushed::new(BufWriter::new(near));
        // No flush follows, and the peer takes 4 bytes at a time.
        near.write_all(b"0123456789").await.expect("buffered");
        let peer = async {
            let mut request = [0; 10];
            far.read_exact(&mut request).await.expect("all of the request comes");
            far.write_all(b"ok").await.expect("connected");
            request
        };
        let mut answer = [0; 2];
        let (request, read) = tokio::join!(peer, near.read_exact(&mut answer));
        read.expect("the answer comes");
        assert_eq!((&request, &answer), (b"0123456789", b"ok"));
    }

    /// Its flush has to wait the first time. Counts the others.
    #[derive(Default)]
    struct Slow {
        asked: bool,
        flushes: u32,
    }

    impl AsyncRead for Slow {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !std::mem::replace(&mut self.asked, true) {
                return Poll::Pending;
            }
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_read_after_a_flush_does_not_flush_again() {
        let mut stream = Flushed::new(Slow::default());
        stream.write_all(b"x").await.expect("taken");
        assert_eq!(stream.io.flushes, 0, "the flush behind the write had to wait");
        poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await.expect("flushed");
        assert_eq!(stream.read(&mut [0]).await.expect("it reads"), 0);
        assert_eq!(stream.io.flushes, 1);
    }
}
