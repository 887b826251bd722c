//! A TLS stream, and the peek that looks through it.

use std::io::{self, Read};

use tokio::time::Instant;
use tokio_rustls::client;
use tokio_rustls::rustls;

use super::super::flushed::Flushed;
use super::super::stream::Stream;

/// Most reads of one peek. A peer that keeps sending messages without data is not worth waiting for.
const MOST_READS: usize = 64;

/// TLS over any other stream.
#[derive(Debug)]
pub(in super::super) struct TlsStream {
    /// Reads and writes what is encrypted.
    pub(in super::super) io: Flushed<client::TlsStream<Stream>>,
}

impl TlsStream {
    pub(super) fn new(stream: client::TlsStream<Stream>) -> Self {
        Self { io: Flushed::new(stream) }
    }

    /// The stream under TLS.
    pub(in super::super) fn carrier(&self) -> &Stream {
        self.io.get_ref().get_ref().0
    }

    /// The protocol that the handshake agreed on.
    pub(in super::super) fn alpn(&self) -> Option<&[u8]> {
        self.io.get_ref().get_ref().1.alpn_protocol()
    }

    pub(in super::super) fn read_seen(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_stray_with(buffer, Stream::read_seen)
    }

    pub(in super::super) fn read_stray(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
    ) -> io::Result<usize> {
        self.read_stray_with(buffer, |stream, bytes| stream.read_stray(bytes, now))
    }

    /// Decrypts what is on the connection. Only data and the end count: a session ticket or a key update is
    /// taken in, and the connection stays quiet. `read` looks at the stream below.
    fn read_stray_with(
        &mut self,
        buffer: &mut [u8],
        read: impl Fn(&mut Stream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (stream, session) = self.io.get_mut().get_mut();
        let mut encrypted = [0; 2048];
        for _ in 0..MOST_READS {
            let state = session.process_new_packets().map_err(invalid_data)?;
            if state.plaintext_bytes_to_read() > 0 {
                return session.reader().read(buffer);
            }
            if state.peer_has_closed() {
                return Ok(0);
            }
            let count = read(stream, &mut encrypted)?;
            if count == 0 {
                return Ok(0);
            }
            let mut received = &encrypted[..count];
            while !received.is_empty() {
                session.read_tls(&mut received)?;
                session.process_new_packets().map_err(invalid_data)?;
            }
        }
        Err(io::Error::other("the peer keeps sending messages of TLS without data"))
    }
}

fn invalid_data(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Tells the peer of the end as far as that takes no waiting, so that its log shows no cut connection.
impl Drop for TlsStream {
    fn drop(&mut self) {
        let (stream, session) = self.io.get_mut().get_mut();
        // A stream of the user's may need its runtime, which may have ended.
        if !stream.is_kernels() {
            return;
        }
        session.send_close_notify();
        // What is in the way, or does not fit, is lost with the connection.
        let _ = session.write_tls(&mut WriteNow(stream));
    }
}

struct WriteNow<'a>(&'a mut Stream);

impl io::Write for WriteNow<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
