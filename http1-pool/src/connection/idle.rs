//! Looks for bytes or a close when no byte is expected: while a connection is idle, and before a request.

use std::io;

use tokio::time::Instant;

use super::Connection;
use crate::error::{Error, ProtocolError, Stage};
use crate::foreign::check_start;

/// Bytes that are read where none should be.
const STRAY_SIZE: usize = 32;

/// What is seen on an idle connection without waiting and, most often, without a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peek {
    Quiet,
    Closed,
    StrayBytes,
}

impl Connection {
    /// Whether it must not carry another request, as far as that is known without a system call:
    /// asked when the connection is given back.
    pub(crate) fn is_broken(&mut self) -> bool {
        let mut bytes = [0; STRAY_SIZE];
        let seen = self.stream.read_seen(&mut bytes);
        self.is_spent() || self.note(seen, &bytes) != Peek::Quiet
    }

    /// Whether it must not be lent. Asks the socket itself unless it was seen empty a moment ago;
    /// see [`Socket`](pool_common::connect::Socket).
    pub(crate) fn is_stale(&mut self) -> bool {
        self.is_spent() || self.peek(Instant::now()) != Peek::Quiet
    }

    fn is_spent(&self) -> bool {
        self.in_flight || !self.reusable || !self.input.is_empty()
    }

    /// Looks at the socket without waiting.
    fn peek(&mut self, now: Instant) -> Peek {
        let mut bytes = [0; STRAY_SIZE];
        let stray = self.stream.read_stray(&mut bytes, now);
        self.note(stray, &bytes)
    }

    /// `unasked` is how many of `bytes` were read. They are kept, to say what they look like.
    fn note(&mut self, unasked: io::Result<usize>, bytes: &[u8]) -> Peek {
        let peek = match unasked {
            Ok(0) => Peek::Closed,
            Ok(length) => {
                self.input.extend_from_slice(&bytes[..length]);
                Peek::StrayBytes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Quiet,
            Err(_) => Peek::Closed,
        };
        if peek != Peek::Quiet {
            self.reusable = false;
        }
        peek
    }

    /// Looks at the socket before the first byte of a request is written.
    pub(super) fn look(&mut self, now: Instant) -> Result<(), Error> {
        match self.peek(now) {
            Peek::Quiet => Ok(()),
            Peek::Closed => Err(self.closed(Stage::Start)),
            Peek::StrayBytes => Err(self.broken(self.unsolicited())),
        }
    }

    /// The error for bytes that arrived before a request was sent. On a connection that was never
    /// used they come from a server that speaks first, which is no HTTP server, and another
    /// connection to it would not be better. Later the bytes may be anything, say the `408` of a
    /// server that gave up waiting.
    pub(super) fn unsolicited(&self) -> ProtocolError {
        match check_start(&self.input) {
            Err(error) if !self.used => error,
            _ => ProtocolError::Unsolicited,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pool_common::retry::Fate;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::Config;
    use crate::key::Key;
    use crate::request::{Payload, RequestHead};

    /// A connection whose peer has said `greeting`, which the runtime has seen.
    async fn greeted(greeting: &[u8]) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (near, mut far) = (near.unwrap(), far.unwrap().0);
        far.write_all(greeting).await.unwrap();
        near.readable().await.unwrap();
        let key = Key::from_uri(&http::Uri::from_static("http://a/")).unwrap();
        (Connection::new(near.into(), key, Arc::new(Config::default())), far)
    }

    fn begin(connection: &mut Connection) -> ProtocolError {
        let parts = http::Request::get("http://a/").body(()).unwrap().into_parts().0;
        let (head, _) = RequestHead::new(
            &parts,
            &mut Payload::None,
            &pool_common::connect::Connector::default(),
        )
        .unwrap();
        let failure = connection.begin(head, &mut Payload::None).unwrap_err();
        assert_eq!(failure.fate, Fate::NotSent);
        match failure.error {
            Error::Protocol { source, .. } => source,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn a_server_that_speaks_first_is_named() {
        let (mut connection, _peer) = greeted(b"SSH-2.0-x\r\n").await;
        let error = begin(&mut connection);
        assert!(error.to_string().contains("SSH"), "{error}");
        assert!(connection.is_broken());
    }

    #[tokio::test]
    async fn stray_bytes_do_not_name_the_protocol_of_a_server_used_before() {
        let (mut connection, _peer) = greeted(b"SSH-2.0-x\r\n").await;
        connection.used = true;
        assert_eq!(begin(&mut connection), ProtocolError::Unsolicited);
        let (mut fresh, _peer) = greeted(b"HTTP/1.1 408 Late\r\n").await;
        assert_eq!(begin(&mut fresh), ProtocolError::Unsolicited);
    }
}
