//! The peek rule: how to find stray bytes, or the end of the stream, on an idle connection.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::unconstrained;
use tokio::time::Instant;

/// For how long a socket that was seen empty counts as empty.
///
/// A caller that reads an answer and sends its next request at once takes 1 to 3 us for that, and
/// asking the socket takes 0.5 to 0.7 us, a tenth of such a request. The kernel may also deliver
/// a byte between the question and the write, so a shorter time would not close the gap.
///
/// The clock is read after the socket; if it were read first, each read that finds nothing would also
/// cost a reading of the clock. If the thread is suspended between the two, that time is not counted.
const STAYS_EMPTY: Duration = Duration::from_micros(10);

/// A stream of the kernel that can be asked without waiting: TCP, or a Unix socket.
///
/// Implemented by tokio's streams; there is nothing to implement elsewhere.
pub trait KernelStream:
    AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send + sealed::Sealed
{
    #[doc(hidden)]
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize>;
    #[doc(hidden)]
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
    #[doc(hidden)]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    #[doc(hidden)]
    fn as_socket(&self) -> SockRef<'_>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! kernel_streams {
    ($($(#[$attribute:meta])* $stream:ty),*) => {$(
        $(#[$attribute])*
        impl sealed::Sealed for $stream {}

        $(#[$attribute])*
        impl KernelStream for $stream {
            #[inline]
            fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }

            #[inline]
            fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn as_socket(&self) -> SockRef<'_> {
                SockRef::from(self)
            }
        }
    )*};
}

kernel_streams!(
    TcpStream,
    #[cfg(unix)]
    UnixStream
);

/// A TCP stream (or a Unix socket) that knows when it was last seen empty.
///
/// Bytes that were in the socket before the first byte of a request was written are never the answer
/// to that request. Before a request is written, and before an idle connection is lent, a protocol
/// that relies on the order of its answers therefore calls [`read_stray`](Socket::read_stray).
///
/// tokio's readiness flag alone is not enough: it shows only what the runtime's driver has seen, and the
/// driver runs only when the tasks of the runtime let it. A thread that computed for some
/// milliseconds since the last answer finds the flag down although a second answer, or the end of
/// the stream, is in the socket. A read that did not fill its buffer is better evidence: at that
/// moment the socket was empty. A `Socket` notes the time of such reads, and asks the socket itself
/// (one system call of about half a microsecond) unless the last such read was less than 10 us ago. In
/// a closed loop, where a caller sends the next request as soon as it has its answer, that costs two
/// readings of a clock and no system call.
///
/// A `Socket` also reports that the runtime on which it was made has ended. Such a socket can still be
/// written to, but no task would ever be told of an answer.
#[derive(Debug)]
pub struct Socket<S = TcpStream> {
    stream: S,
    /// When a read last found no more bytes than it returned.
    empty_at: Option<Instant>,
}

impl<S: KernelStream> Socket<S> {
    /// Wraps a stream. Until the first read nothing is known about it.
    pub fn new(stream: S) -> Self {
        Self { stream, empty_at: None }
    }

    /// The stream, for its addresses and options. The socket does not note direct reads from it.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Gives up the wrapper.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Reads stray bytes, as far as the runtime's driver has seen them; without any it costs no system
    /// call. For the moment a connection is given back. [`read_stray`](Socket::read_stray) finds bytes
    /// that arrive later.
    ///
    /// # Errors
    /// `WouldBlock` when the driver has seen nothing; otherwise the error of the socket. `Ok(0)` is the end
    /// of the stream.
    pub fn read_seen(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read_now(buffer)
    }

    /// Reads stray bytes: for the moment before a connection is lent or a request is written.
    /// `now` is the time by [`Instant::now`], read for this call; with a paused clock the socket is
    /// always asked.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing and the socket works; `NotConnected` when the runtime of
    /// the socket has ended; otherwise the error of the socket. `Ok(0)` is the end of the stream.
    #[inline]
    pub fn read_stray(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<usize> {
        match self.stream.read_now(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.was_just_empty(now) {
                    Err(error)
                } else {
                    self.ask(buffer, now)
                }
            }
            seen => seen,
        }
    }

    /// Whether there are no stray bytes and the socket works, by [`read_stray`](Socket::read_stray).
    /// Stray bytes are lost, so do not use a socket any more that was not quiet once.
    #[inline]
    pub fn is_quiet(&mut self, now: Instant) -> bool {
        let stray = self.read_stray(&mut [0], now);
        matches!(stray, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes what fits into the socket now. `WouldBlock` when nothing does.
    #[inline]
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_now(bytes)
    }

    #[inline]
    fn was_just_empty(&self, now: Instant) -> bool {
        let ago = self.empty_at.map(|at| now.saturating_duration_since(at));
        // If the clock has not moved since then, the time that has passed is not known.
        ago.is_some_and(|ago| !ago.is_zero() && ago < STAYS_EMPTY)
    }

    #[cold]
    fn ask(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<usize> {
        if self.has_lost_its_runtime() {
            let lost = "the runtime of the connection has ended";
            return Err(io::Error::new(io::ErrorKind::NotConnected, lost));
        }
        // This bypasses tokio, which would only repeat what its driver has seen. The socket does not block.
        let read = (&*self.stream.as_socket()).read(buffer);
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.empty_at = Some(now);
        }
        read
    }

    /// A poll of the readiness fails when the driver has been shut down, and in no other case.
    fn has_lost_its_runtime(&self) -> bool {
        // Unconstrained, since a task that has used up its budget would always get `Pending`.
        let ready = pin!(unconstrained(poll_fn(|cx| self.stream.poll_readable(cx))));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Err(_)))
    }
}

impl<S: KernelStream> AsyncRead for Socket<S> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (room, before) = (buffer.remaining(), buffer.filled().len());
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = read {
            let count = buffer.filled().len() - before;
            self.empty_at = (0 < count && count < room).then(Instant::now);
        }
        read
    }
}

impl<S: KernelStream> AsyncWrite for Socket<S> {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn pair() -> (Socket, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("listening");
        (Socket::new(stream), listener.accept().expect("connected").0)
    }

    fn kind(read: io::Result<usize>) -> Result<usize, io::ErrorKind> {
        read.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn read_stray_finds_what_the_driver_has_not_seen() {
        for ends in [false, true] {
            let (mut socket, mut peer) = pair().await;
            assert!(socket.is_quiet(Instant::now()), "nothing was sent");
            peer.write_all(b"answer").expect("sent");
            assert_eq!(socket.read(&mut [0; 16]).await.expect("open"), 6);
            // Loopback delivers within the call, and no await lets the driver run after it.
            if ends {
                peer.shutdown(Shutdown::Write).expect("connected");
            } else {
                peer.write_all(b"stray").expect("sent");
            }
            std::thread::sleep(Duration::from_millis(1));
            let expected = if ends { 0 } else { 5 };
            assert_eq!(kind(socket.read_seen(&mut [0; 16])), Err(io::ErrorKind::WouldBlock));
            assert_eq!(kind(socket.read_stray(&mut [0; 16], Instant::now())), Ok(expected));
        }
    }

    #[tokio::test]
    async fn a_socket_is_asked_unless_it_was_seen_empty_a_moment_ago() {
        let (mut socket, mut peer) = pair().await;
        peer.write_all(b"answer").expect("sent");
        assert_eq!(socket.read(&mut [0; 16]).await.expect("open"), 6);
        let empty_at = socket.empty_at.expect("there was room for more");
        peer.write_all(b"s").expect("sent");
        let later = |nanos| empty_at + Duration::from_nanos(nanos);
        assert!(socket.is_quiet(later(1)));
        assert!(socket.is_quiet(later(9_999)));
        assert!(!socket.is_quiet(later(10_000)));
        // The last call has read the stray byte.
        assert!(socket.is_quiet(later(20_000)));
        peer.write_all(b"s").expect("sent");
        assert!(socket.is_quiet(later(29_999)), "the last question found it empty");
        assert!(!socket.is_quiet(later(20_000)), "a clock that stands still proves nothing");
    }

    #[tokio::test]
    async fn a_read_that_fills_its_buffer_proves_nothing() {
        let (mut socket, mut peer) = pair().await;
        peer.write_all(b"answer").expect("sent");
        assert_eq!(socket.read(&mut [0; 6]).await.expect("open"), 6);
        assert_eq!(socket.empty_at, None);
    }

    #[test]
    fn a_socket_whose_runtime_has_ended_is_not_quiet() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (ends, lives) = (runtime().expect("starts"), runtime().expect("starts"));
        let (mut socket, _peer) = ends.block_on(pair());
        assert!(lives.block_on(async { socket.is_quiet(Instant::now()) }), "it stands still");
        drop(ends);
        lives.block_on(async {
            let stray = socket.read_stray(&mut [0], Instant::now() + STAYS_EMPTY);
            assert_eq!(kind(stray), Err(io::ErrorKind::NotConnected));
        });
    }
}
