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
        // A failure is not reported here, since the bytes may have gone out. The next read tells of it.
        if self.unflushed && Pin::new(&mut self.io).poll_flush(cx).is_ready() {
            self.unflushed = false;
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
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
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
}
