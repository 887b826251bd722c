//! A connection of a server, as the faults in force let it be.
//!
//! Without faults every call goes straight to the socket. What is written late waits in a queue and
//! leaves while the server reads, which it does all the time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::faults::{Connection, Faults, Plan, due};
use crate::fault::Cut;

/// Bytes that are read and kept while a connection is silent; after them the client's window closes.
const MOST_HELD: usize = 1024 * 1024;

/// A TCP stream that feels faults.
#[derive(Debug)]
pub struct Faulty {
    stream: TcpStream,
    faults: Arc<Faults>,
    connection: Arc<Connection>,
    accepted: Instant,
    /// Of the plan.
    version: u64,
    plan: Plan,
    /// Written by the server, and when it may leave.
    late: VecDeque<(Instant, Bytes)>,
    /// Read while silent.
    held: BytesMut,
    last_read: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Faulty {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, faults: Arc<Faults>) -> Self {
        let connection = faults.accepted();
        let now = Instant::now();
        let version = faults.version();
        Self {
            plan: faults.plan(&connection),
            version,
            stream,
            faults,
            connection,
            accepted: now,
            late: VecDeque::new(),
            held: BytesMut::new(),
            last_read: now,
            timer: None,
        }
    }

    /// What the faults know of it.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// HTTP/2: streams that a fault allows at once.
    pub fn max_streams(&self) -> Option<u32> {
        self.plan.max_streams
    }

    /// Reads what is in force if it has changed, and ends the connection if it was cut.
    fn refresh(&mut self) -> io::Result<()> {
        let version = self.faults.version();
        if version != self.version {
            self.version = version;
            self.plan = self.faults.plan(&self.connection);
            if let Some(how) = self.connection.cut() {
                return Err(self.cut(how));
            }
        }
        Ok(())
    }

    /// The server ends the connection when it reads this error; the socket then closes as asked.
    fn cut(&mut self, how: Cut) -> io::Error {
        if how == Cut::Rst {
            // Without lingering, a close is a reset. Fails only on a socket that is gone.
            drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault")
    }

    /// Writes what is due. Ready when nothing is left.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((due, bytes)) = self.late.front_mut() {
            if self.plan.silent {
                return Poll::Pending;
            }
            let due = *due;
            if due > Instant::now() {
                ready!(poll_timer(&mut self.timer, cx, due));
            }
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            bytes.advance(count);
            if bytes.is_empty() {
                self.late.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what comes while the connection is silent; ready when the client has gone.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        while self.held.len() < MOST_HELD {
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(buffer.filled());
        }
        Poll::Pending
    }
}

impl AsyncRead for Faulty {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Before the look at the version: a change after it finds the waker.
        this.connection.waker().register(cx.waker());
        this.refresh()?;
        if !this.late.is_empty() {
            let _: Poll<()> = this.poll_late(cx)?;
        }
        if this.plan.silent {
            return this.poll_held(cx);
        }
        if !this.held.is_empty() {
            let count = this.held.len().min(buffer.remaining());
            buffer.put_slice(&this.held.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Some((after, how)) = this.plan.cut_idle {
            let now = Instant::now();
            if read.is_ready() && buffer.filled().len() > before {
                this.last_read = now;
            } else if read.is_pending() && this.late.is_empty() {
                ready!(poll_timer(&mut this.timer, cx, this.last_read + after));
                return Poll::Ready(Err(this.cut(how)));
            }
        }
        read
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.refresh()?;
        let plan = &this.plan;
        let on_time = plan.delay.is_zero() && plan.greeting_after.is_zero() && !plan.silent;
        if on_time && this.late.is_empty() {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        let due = due(plan, this.accepted, Instant::now());
        this.late.push_back((due, Bytes::copy_from_slice(bytes)));
        // Somebody has to call when it is due: the timer that this sets.
        let _: Poll<()> = this.poll_late(cx)?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Does not wait for what is late: it leaves while the server goes on.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.refresh()?;
        let _: Poll<()> = this.poll_late(cx)?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Waits for what is late, and for a silence to end.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.waker().register(cx.waker());
        this.refresh()?;
        ready!(this.poll_late(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.faults.closed(&self.connection);
    }
}

/// Ready when `at` has come.
fn poll_timer(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
    if timer.deadline() != at {
        timer.as_mut().reset(at);
    }
    timer.as_mut().poll(cx)
}
