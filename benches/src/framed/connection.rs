//! One connection: a socket, the codec over it, and whether it is in step.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use pool_common::connect::Socket;
use pool_common::deadline::Deadline;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::codec::{Frame, FrameCodec};

/// Why an exchange failed. The connection is out of step after any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramedError {
    /// The socket failed, or the peer's frame was longer than a frame may be.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection instead of answering.
    #[error("the server closed the connection")]
    Closed,
    /// The answer belongs to another request.
    #[error("sequence id {got} came back where {wanted} was sent")]
    OutOfSequence {
        /// The id of the request.
        wanted: u64,
        /// The id of the answer.
        got: u64,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// An earlier exchange on this connection did not end, so the next answer may belong to that one; or
    /// the peer sent bytes without a request, or closed the connection. Nothing was sent.
    #[error("the connection is out of step")]
    OutOfStep,
}

/// A connection that carries one exchange at a time.
#[derive(Debug)]
pub struct Connection {
    framed: Framed<Socket, FrameCodec>,
    sequence: u64,
    /// Set before the first byte of a request is written, cleared when its answer was read.
    in_flight: bool,
    call_timeout: Duration,
    deadline: Deadline,
}

impl Connection {
    /// Dials; each exchange is bounded by `call_timeout`.
    ///
    /// # Errors
    /// The error of the system.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(address: SocketAddr, call_timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            framed: Framed::new(Socket::new(stream), FrameCodec::new()),
            sequence: 0,
            in_flight: false,
            call_timeout,
            deadline: Deadline::default(),
        })
    }

    /// Sends `body` and returns the body of the answer. Sequence ids count 1, 2, 3, wrapping
    /// (Thrift, A5), and the id of the answer must equal that of the request.
    ///
    /// # Errors
    /// Any [`FramedError`]; afterwards the connection is broken.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection broken, since the answer may still come.
    pub async fn call(&mut self, body: Bytes) -> Result<Bytes, FramedError> {
        if self.in_flight || self.is_stale() {
            return Err(FramedError::OutOfStep);
        }
        self.in_flight = true;
        self.sequence = self.sequence.wrapping_add(1);
        let id = self.sequence;
        let framed = &mut self.framed;
        let exchange = async {
            framed.feed(Frame { id, body }).await?;
            let whole = framed.write_buffer().len();
            let mut was_away = false;
            poll_fn(|cx| {
                // Bytes that came before the first byte was written are not the answer.
                if std::mem::replace(&mut was_away, true)
                    && framed.write_buffer().len() == whole
                    && !framed.get_mut().is_quiet(Instant::now())
                {
                    return Poll::Ready(Err(FramedError::OutOfStep));
                }
                framed.poll_flush_unpin(cx).map_err(FramedError::Io)
            })
            .await?;
            framed.next().await.ok_or(FramedError::Closed)?.map_err(FramedError::Io)
        };
        let answer = self
            .deadline
            .bound(self.call_timeout, exchange)
            .await
            .map_err(|_| FramedError::Timeout(self.call_timeout))??;
        if answer.id != id {
            return Err(FramedError::OutOfSequence { wanted: id, got: answer.id });
        }
        self.in_flight = false;
        Ok(answer.body)
    }

    /// Whether it must not be lent again: an exchange did not end, bytes came without a request, or the
    /// peer closed it, as far as the runtime has seen. Never waits.
    pub fn is_broken(&mut self) -> bool {
        if self.in_flight || !self.framed.read_buffer().is_empty() {
            return true;
        }
        let seen = self.framed.get_mut().read_seen(&mut [0]);
        self.note(!matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
    }

    /// Like [`is_broken`](Connection::is_broken), but asks the socket itself. For the moments before the
    /// connection is lent and before each request.
    pub fn is_stale(&mut self) -> bool {
        if self.in_flight || !self.framed.read_buffer().is_empty() {
            return true;
        }
        let quiet = self.framed.get_mut().is_quiet(Instant::now());
        self.note(!quiet)
    }

    /// A connection that was broken once stays broken, although looking consumes the stray bytes.
    fn note(&mut self, broken: bool) -> bool {
        self.in_flight |= broken;
        broken
    }
}
