//! One connection: a socket, the codec over it, and whether it is in step.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use super::codec::{Frame, FrameCodec};
use super::deadline::Deadline;

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
    /// The answer is another request's.
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
    /// An earlier exchange on this connection did not end, so the next answer may be its.
    #[error("the connection is out of step")]
    OutOfStep,
}

/// A connection that carries one exchange at a time.
#[derive(Debug)]
pub struct Connection {
    framed: Framed<TcpStream, FrameCodec>,
    sequence: u64,
    /// Set before the first byte of a request is written, cleared when its answer was read.
    in_flight: bool,
    deadline: Deadline,
}

impl Connection {
    /// Dials; each exchange is bounded by `call_timeout`.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(address: SocketAddr, call_timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            framed: Framed::new(stream, FrameCodec::new()),
            sequence: 0,
            in_flight: false,
            deadline: Deadline::new(call_timeout),
        })
    }

    /// Sends `body` and returns the body of the answer. Sequence ids count 1, 2, 3, wrapping
    /// (Thrift, A5), and the answer's must be the request's.
    ///
    /// # Errors
    /// Any [`FramedError`]; afterwards the connection is broken.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection broken, since the answer may still come.
    pub async fn call(&mut self, body: Bytes) -> Result<Bytes, FramedError> {
        if self.in_flight {
            return Err(FramedError::OutOfStep);
        }
        self.in_flight = true;
        self.sequence = self.sequence.wrapping_add(1);
        let id = self.sequence;
        let framed = &mut self.framed;
        let exchange = async {
            framed.send(Frame { id, body }).await?;
            framed.next().await.ok_or(FramedError::Closed)?.map_err(FramedError::Io)
        };
        let answer = self
            .deadline
            .bound(exchange)
            .await
            .map_err(|_| FramedError::Timeout(self.deadline.limit()))??;
        if answer.id != id {
            return Err(FramedError::OutOfSequence { wanted: id, got: answer.id });
        }
        self.in_flight = false;
        Ok(answer.body)
    }

    /// Whether it must not be lent again: an exchange did not end, bytes came that nobody asked
    /// for, or the peer closed it. Never waits.
    pub fn is_broken(&self) -> bool {
        if self.in_flight || !self.framed.read_buffer().is_empty() {
            return true;
        }
        let looked = self.framed.get_ref().try_read(&mut [0; 1]);
        !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
