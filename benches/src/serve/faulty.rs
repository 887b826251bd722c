//! A connection of a server, subject to the faults in force.
//!
//! Without faults every call goes directly to the socket, after one load of a number and one
//! comparison of two pointers. Under faults, delayed bytes wait in a queue, and are sent while
//! the server reads or closes; bytes that are read in a silence are kept until the silence ends.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::faults::{Connection, Faults, Plan, Side};
use crate::fault::Cut;

/// The most bytes that are kept in each direction. Further bytes read in a silence are thrown away, and the
/// connection is reset when the silence ends; further delayed writes have to wait.
const MOST_KEPT: usize = 1024 * 1024;

/// A TCP stream that is subject to faults.
#[derive(Debug)]
pub struct Faulty {
    stream: TcpStream,
    faults: Arc<Faults>,
    connection: Arc<Connection>,
    accepted: Instant,
    /// The version of the plan.
    version: u64,
    plan: Plan,
    /// No fault applies to this connection, and nothing is left of an earlier one.
    calm: bool,
    /// Delayed bytes, and when the server wrote them.
    late: VecDeque<(Instant, Bytes)>,
    late_bytes: usize,
    /// Read in a silence.
    held: BytesMut,
    /// More was read in a silence than is kept.
    overflowed: bool,
    /// The client has left in a silence, or the connection was cut.
    gone: bool,
    /// A task waits to write more.
    blocked: bool,
    /// When the last byte came or left, since connections that are idle are cut.
    last_active: Instant,
    /// What `connection` has registered for each side.
    registered: [Option<Waker>; 2],
    timers: [Option<Pin<Box<Sleep>>>; 2],
}

impl Faulty {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, faults: Arc<Faults>) -> Self {
        let connection = faults.accepted();
        let now = Instant::now();
        let version = faults.version();
        let plan = faults.plan(&connection);
        Self {
            version,
            calm: plan == Plan::default(),
            plan,
            stream,
            faults,
            connection,
            accepted: now,
            late: VecDeque::new(),
            late_bytes: 0,
            held: BytesMut::new(),
            overflowed: false,
            gone: false,
            blocked: false,
            last_active: now,
            registered: [None, None],
            timers: [None, None],
        }
    }

    /// The state that the faults keep of it.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Registers this task to be woken by a change of the faults. Called before the version is read, so
    /// that no change is missed.
    fn register(&mut self, side: Side, cx: &Context<'_>) {
        let registered = &mut self.registered[side as usize];
        if !registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *registered = Some(cx.waker().clone());
            self.connection.register(side, cx.waker());
        }
    }

    /// Reads the faults in force if they have changed, and ends the connection if it was cut.
    fn refresh(&mut self) -> io::Result<()> {
        let version = self.faults.version();
        if version == self.version {
            return Ok(());
        }
        self.version = version;
        let before = std::mem::replace(&mut self.plan, self.faults.plan(&self.connection));
        if before.cut_idle.is_none() {
            // The time of the last byte is not known, so idling counts from here.
            self.last_active = Instant::now();
        }
        self.calm = false;
        if let Some(how) = self.connection.cut() {
            return Err(self.cut(how));
        }
        if self.overflowed && !self.plan.silent {
            return Err(self.cut(Cut::Rst));
        }
        self.settle();
        Ok(())
    }

    /// Notices when nothing is left of a fault.
    fn settle(&mut self) {
        self.calm = self.plan == Plan::default()
            && self.late.is_empty()
            && self.held.is_empty()
            && !self.overflowed
            && !self.gone;
    }

    /// Ends the connection. The server closes the socket when it sees this error.
    fn cut(&mut self, how: Cut) -> io::Error {
        self.leave();
        // All of this fails only on a socket that is gone.
        match how {
            // Without lingering, a close is a reset.
            Cut::Rst => drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))),
            Cut::Fin => {
                drop(SockRef::from(&self.stream).shutdown(Shutdown::Write));
                // A close with bytes unread would be a reset.
                let mut space = [0; 4096];
                let mut left = MOST_KEPT / space.len();
                while left > 0 && self.stream.try_read(&mut space).is_ok_and(|count| count > 0) {
                    left -= 1;
                }
            }
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault")
    }

    /// Drops the bytes for a client that is gone, and wakes both tasks.
    fn leave(&mut self) {
        self.gone = true;
        self.calm = false;
        self.late.clear();
        self.late_bytes = 0;
        self.held.clear();
        self.connection.wake(Side::Read);
        self.connection.wake(Side::Write);
    }

    /// Writes the bytes that are due. Ready when nothing is left.
    fn poll_late(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((written, bytes)) = self.late.front_mut() {
            if self.plan.silent {
                return Poll::Pending;
            }
            let due = self.plan.due(self.accepted, *written);
            if due > Instant::now() {
                ready!(poll_timer(&mut self.timers[side as usize], cx, due));
            }
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            bytes.advance(count);
            if bytes.is_empty() {
                self.late.pop_front();
            }
            self.late_bytes -= count;
            self.last_active = Instant::now();
            if std::mem::take(&mut self.blocked) {
                self.connection.wake(Side::Write);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and keeps bytes that come in a silence; ready when the client has left.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.leave();
                return Poll::Ready(Ok(()));
            }
            if self.held.len() < MOST_KEPT {
                self.held.extend_from_slice(buffer.filled());
            } else {
                self.overflowed = true;
            }
        }
    }

    /// Reads while something is in force or left.
    fn poll_read_late(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gone {
            return Poll::Ready(Ok(()));
        }
        let _: Poll<()> = self.poll_late(Side::Read, cx)?;
        if self.plan.silent {
            return self.poll_silence(cx);
        }
        if !self.held.is_empty() {
            let count = self.held.len().min(buffer.remaining());
            buffer.put_slice(&self.held.split_to(count));
            return Poll::Ready(Ok(()));
        }
        self.settle();
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some((after, how)) = self.plan.cut_idle {
            if buffer.filled().len() > before {
                self.last_active = Instant::now();
            } else if read.is_pending() && self.late.is_empty() {
                let end = self.last_active + after;
                ready!(poll_timer(&mut self.timers[Side::Read as usize], cx, end));
                return Poll::Ready(Err(self.cut(how)));
            }
        }
        read
    }

    /// Writes while something is in force or left.
    fn poll_write_late(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let plan = &self.plan;
        if plan.delay.is_zero()
            && plan.greeting_after.is_zero()
            && !plan.silent
            && self.late.is_empty()
        {
            self.last_active = Instant::now();
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        if self.late_bytes >= MOST_KEPT {
            self.blocked = true;
            self.register(Side::Write, cx);
            let _: Poll<()> = self.poll_late(Side::Write, cx)?;
            if self.plan.silent {
                let _: Poll<()> = self.poll_silence(cx)?;
            }
            if self.gone {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if self.late_bytes >= MOST_KEPT {
                return Poll::Pending;
            }
        }
        self.put_late(cx, Bytes::copy_from_slice(bytes))?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Queues bytes to be sent when they are due, after all bytes written earlier.
    fn put_late(&mut self, cx: &mut Context<'_>, bytes: Bytes) -> io::Result<()> {
        self.calm = false;
        self.late_bytes += bytes.len();
        self.late.push_back((Instant::now(), bytes));
        // The task that reads also sends the bytes when they are due. If that is this task, the timer has
        // to be set now, since the task may already have read.
        let reader = self.registered[Side::Read as usize].as_ref();
        if reader.is_some_and(|reader| !reader.will_wake(cx.waker())) {
            self.connection.wake(Side::Read);
            return Ok(());
        }
        let _: Poll<()> = self.poll_late(Side::Read, cx)?;
        Ok(())
    }
}

impl AsyncRead for Faulty {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.register(Side::Read, cx);
        this.refresh()?;
        if this.calm {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        this.poll_read_late(cx, buffer)
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
        if let Some(other) = this.connection.replaced(bytes) {
            // As a whole: after a partial write, the caller would write the rest of the original bytes.
            this.put_late(cx, Bytes::from(other))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.calm {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        this.poll_write_late(cx, bytes)
    }

    /// Does not wait for delayed bytes: they are sent while the server goes on.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.refresh()?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Waits until delayed bytes are sent, and until a silence ends or the client leaves.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.register(Side::Write, cx);
        this.refresh()?;
        if this.plan.silent && !this.gone {
            ready!(this.poll_silence(cx))?;
        }
        if this.gone {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_late(Side::Write, cx))?;
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

#[cfg(test)]
#[path = "faulty/tests.rs"]
mod tests;
