//! The stream that a connector makes, whatever it leads through.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::Socket;
use super::flushed::Flushed;
#[cfg(feature = "rustls")]
use super::tls::TlsStream;

/// A connected stream: plain TCP, a Unix socket, TLS over either, or the stream of a connector of the
/// user's.
///
/// Plain TCP pays one comparison for the others in each call, and no allocation. All kinds follow the
/// peek rule of [`Socket`]: [`read_seen`](Stream::read_seen), [`read_stray`](Stream::read_stray) and
/// [`is_quiet`](Stream::is_quiet) never wait, and find what must not be on an idle connection.
pub struct Stream(Kind);

enum Kind {
    Tcp(Socket),
    #[cfg(unix)]
    Unix(Socket<UnixStream>),
    #[cfg(feature = "rustls")]
    Tls(Box<TlsStream>),
    /// The lock is never taken. It makes any stream `Sync`, since `get_mut` needs no lock.
    Other(Mutex<Flushed<Box<dyn Io>>>),
}

/// The stream of a connector of the user's.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(Socket::new(stream)))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Kind::Unix(Socket::new(stream)))
    }
}

impl Stream {
    /// A stream of any other type.
    ///
    /// Stray bytes are found by polling it once. A stream over a tokio socket then shows what the
    /// runtime's driver has seen, and no more; see [`Socket`] for the difference.
    pub fn other(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self(Kind::Other(Mutex::new(Flushed::new(Box::new(stream)))))
    }

    /// The stream as plain TCP, for a protocol that leaves the peek rule to others.
    ///
    /// # Errors
    /// The stream itself when it is not plain TCP.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.0 {
            Kind::Tcp(socket) => Ok(socket.into_inner()),
            other => Err(Self(other)),
        }
    }

    #[cfg(feature = "rustls")]
    pub(super) fn tls(stream: TlsStream) -> Self {
        Self(Kind::Tls(Box::new(stream)))
    }

    /// Whether it is a socket of the kernel, and no library is in between.
    #[cfg(feature = "rustls")]
    pub(super) fn is_kernels(&self) -> bool {
        match &self.0 {
            Kind::Tcp(_) => true,
            #[cfg(unix)]
            Kind::Unix(_) => true,
            _ => false,
        }
    }

    /// Whether the bytes are encrypted with [`Tls`](super::Tls).
    pub fn is_tls(&self) -> bool {
        #[cfg(feature = "rustls")]
        if matches!(self.0, Kind::Tls(_)) {
            return true;
        }
        false
    }

    /// The protocol that the TLS handshake agreed on (ALPN), if there was one.
    pub fn alpn(&self) -> Option<&[u8]> {
        #[cfg(feature = "rustls")]
        if let Kind::Tls(tls) = &self.0 {
            return tls.alpn();
        }
        None
    }

    /// The TCP stream at the bottom, unless the connection is of another kind.
    fn tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(socket) => Some(socket.get_ref()),
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => tls.carrier().tcp(),
            _ => None,
        }
    }

    /// Our address, if the connection is TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    /// The peer's address, if the connection is TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }

    /// Reads stray bytes, as [`Socket::read_seen`] does.
    ///
    /// # Errors
    /// As [`Socket::read_seen`].
    #[inline]
    pub fn read_seen(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Tcp(socket) => socket.read_seen(buffer),
            #[cfg(unix)]
            Kind::Unix(socket) => socket.read_seen(buffer),
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => tls.read_seen(buffer),
            Kind::Other(io) => read_now(other(io), buffer),
        }
    }

    /// Reads stray bytes, as [`Socket::read_stray`] does.
    ///
    /// # Errors
    /// As [`Socket::read_stray`].
    #[inline]
    pub fn read_stray(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Tcp(socket) => socket.read_stray(buffer, now),
            #[cfg(unix)]
            Kind::Unix(socket) => socket.read_stray(buffer, now),
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => tls.read_stray(buffer, now),
            Kind::Other(io) => read_now(other(io), buffer),
        }
    }

    /// Whether there are no stray bytes and the stream works, as [`Socket::is_quiet`].
    #[inline]
    pub fn is_quiet(&mut self, now: Instant) -> bool {
        let stray = self.read_stray(&mut [0], now);
        matches!(stray, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes as many bytes as possible without waiting. Write the rest with
    /// [`poll_write`](AsyncWrite::poll_write), which wakes its task.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be written now; otherwise the error of the stream.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Tcp(socket) => socket.try_write(bytes),
            #[cfg(unix)]
            Kind::Unix(socket) => socket.try_write(bytes),
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => now(|cx| Pin::new(&mut tls.io).poll_write(cx, bytes)),
            Kind::Other(io) => now(|cx| Pin::new(other(io)).poll_write(cx, bytes)),
        }
    }
}

fn other(io: &mut Mutex<Flushed<Box<dyn Io>>>) -> &mut Flushed<Box<dyn Io>> {
    io.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn read_now(mut io: impl AsyncRead + Unpin, buffer: &mut [u8]) -> io::Result<usize> {
    let mut buffer = ReadBuf::new(buffer);
    now(|cx| Pin::new(&mut io).poll_read(cx, &mut buffer))?;
    Ok(buffer.filled().len())
}

/// What one poll gives; `WouldBlock` when it would have to wait.
fn now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    // Unconstrained, since a task that has used up its budget would always get `Pending`.
    let polled = pin!(unconstrained(std::future::poll_fn(|cx| poll(cx))));
    match polled.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Calls a method of the stream inside, whatever it is.
macro_rules! inside {
    ($stream:expr, $io:ident => $call:expr) => {
        match &mut $stream.0 {
            Kind::Tcp($io) => $call,
            #[cfg(unix)]
            Kind::Unix($io) => $call,
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => {
                let $io = &mut tls.io;
                $call
            }
            Kind::Other(io) => {
                let $io = other(io);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(self, io => Pin::new(io).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        inside!(self, io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(self, io => Pin::new(io).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Tcp(socket) => socket.is_write_vectored(),
            #[cfg(unix)]
            Kind::Unix(socket) => socket.is_write_vectored(),
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => tls.io.is_write_vectored(),
            // Asked through a shared reference, which would need the lock.
            Kind::Other(_) => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(socket) => socket.fmt(f),
            #[cfg(unix)]
            Kind::Unix(socket) => socket.fmt(f),
            #[cfg(feature = "rustls")]
            Kind::Tls(tls) => f.debug_tuple("Tls").field(tls.carrier()).finish(),
            Kind::Other(_) => f.write_str("Stream(other)"),
        }
    }
}
