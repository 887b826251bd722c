//! The socket with its two buffers and its timer: bytes out, whole frames in.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use pool_common::{connect::Stream, deadline::Deadline};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    codec,
    error::{Error, ProtocolError, Stage},
    limits::{Limits, ScanError},
    scan::{ATTRIBUTE, Scanner},
    value::{ServerError, Value},
};

/// The first read buffer of a connection. It doubles when a read fills it, up to [`LARGEST_READ`].
const SMALLEST_READ: usize = 2 * 1024;
/// With less room than this left in the buffer, a new one is made.
const LEAST_READ: usize = 512;
/// Reads larger than this are no faster.
const LARGEST_READ: usize = 64 * 1024;
/// An idle connection keeps no larger read buffer than this.
const LARGEST_IDLE: usize = 4 * 1024;
/// A buffer that grew beyond this for one large request or reply is given back afterwards.
const LARGEST_KEPT: usize = 64 * 1024;
/// The most that is read after a failed write, in bytes and in time.
const LAST_WORDS_BYTES: u64 = 1024 * 1024;
const LAST_WORDS_TIME: Duration = Duration::from_millis(100);
/// After this many reads and frames without waiting, other tasks get a turn and the clock is read.
const MOST_WORK: u32 = 128;
/// Encoding more than this takes long enough for something to arrive meanwhile.
const LARGE_REQUEST: usize = 16 * 1024;

/// A socket that sends and receives frames.
pub(crate) struct Wire {
    stream: Stream,
    limits: Limits,
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
    /// Bytes written and read in the life of the connection.
    total_written: u64,
    total_consumed: u64,
    input: BytesMut,
    next_read: usize,
    scanner: Scanner,
    /// The last frame was an attribute.
    after_attribute: bool,
    /// Reads and frames since the last request, or the last [`breathe`](Self::breathe).
    work: u32,
    /// Of all waits of the connection.
    timer: Deadline,
    /// When the request that is being written was begun, as long as that took no time to speak of:
    /// its reply is waited for from then on, with one look at the clock less.
    began: Option<Instant>,
    /// The encoded request was begun on a quiet connection, and none of it is written yet. Bytes that
    /// arrive before the write are not its reply, however long that takes, and whichever call writes it.
    unasked: bool,
}

/// A wait for the server and its limit, which starts when it is first needed, so that a reply which is
/// already there costs no look at the clock. The timer is that of the [`Wire`].
#[derive(Debug)]
pub(crate) struct Wait {
    limit: Option<Duration>,
    at: Option<Instant>,
}

impl Wait {
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        Self { limit, at: None }
    }

    /// As [`after`](Self::after), for a wait that began at `began` if that is known.
    pub(crate) fn since(began: Option<Instant>, limit: Option<Duration>) -> Self {
        let end = |began: Instant| limit.and_then(|limit| began.checked_add(limit));
        Self { limit, at: began.and_then(end) }
    }

    fn at(&mut self) -> Option<Instant> {
        if self.at.is_none() {
            // A limit beyond the clock's range never ends.
            self.at = Instant::now().checked_add(self.limit?);
        }
        self.at
    }

    fn has_passed(&mut self) -> bool {
        self.at().is_some_and(|at| Instant::now() >= at)
    }

    fn error(&self, stage: Stage, sent: bool) -> Error {
        Error::Timeout { stage, sent, after: self.limit.unwrap_or_default() }
    }
}

impl Wire {
    pub(crate) fn new(stream: Stream, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            out: Vec::new(),
            written: 0,
            total_written: 0,
            total_consumed: 0,
            input: BytesMut::new(),
            next_read: SMALLEST_READ,
            scanner: Scanner::new(limits),
            after_attribute: false,
            work: 0,
            timer: Deadline::default(),
            began: None,
            unasked: false,
        }
    }

    /// Where requests are encoded.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn has_output(&self) -> bool {
        self.written < self.out.len()
    }

    pub(crate) fn total_written(&self) -> u64 {
        self.total_written
    }

    /// Bytes of all frames that were decoded so far.
    pub(crate) fn total_consumed(&self) -> u64 {
        self.total_consumed
    }

    /// Bytes read so far, decoded or not.
    pub(crate) fn total_read(&self) -> u64 {
        self.total_consumed + self.input.len() as u64
    }

    /// Gives a large read buffer back before the connection idles.
    pub(crate) fn shed(&mut self) {
        if self.input.is_empty() && self.input.capacity() > LARGEST_IDLE {
            self.input = BytesMut::new();
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// A request is about to be encoded, while replies or messages may arrive.
    pub(crate) fn begin(&mut self) {
        self.began = None;
        // If something is unwritten, it belongs to the request that was begun.
        self.unasked &= self.has_output();
    }

    /// A request is about to be encoded, at `now`, and nothing may have arrived.
    ///
    /// The caller writes at once, or calls [`put_off`](Self::put_off).
    pub(crate) fn begin_quiet(&mut self, now: Instant) -> Result<(), Error> {
        self.began = Some(now);
        self.unasked = true;
        self.check_quiet(now)
    }

    /// The request that was begun may be written, or its reply awaited, at any later time.
    pub(crate) fn put_off(&mut self) {
        self.began = None;
    }

    /// Bytes that are there before a request is written would be taken for its reply.
    fn check_quiet(&mut self, now: Instant) -> Result<(), Error> {
        match self.stray(Look::Close(now)) {
            Stray::Nothing => Ok(()),
            Stray::Refusal(error) => Err(Error::Server(error.before_any_command())),
            Stray::Something => Err(Error::Stale),
        }
    }

    /// When the request that was just written was begun, if that is known.
    pub(crate) fn take_began(&mut self) -> Option<Instant> {
        self.began.take()
    }

    /// Writes what has been encoded, within `limit`.
    ///
    /// Cancel-safe: what is left is written by the next call.
    pub(crate) async fn flush(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        // A request nearly always fits the socket's buffer: one system call, no timer.
        if self.written == 0 && !self.out.is_empty() {
            self.work = 0;
            if self.unasked && (self.began.is_none() || self.out.len() > LARGE_REQUEST) {
                self.check_quiet(Instant::now())?;
            }
            match self.stream.try_write(&self.out) {
                Ok(count) => self.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.write_error(error)),
            }
        }
        if self.has_output() {
            self.began = None;
            let mut wait = Wait::after(limit);
            poll_fn(|cx| self.poll_flush(cx, &mut wait)).await?;
        }
        Ok(())
    }

    fn wrote(&mut self, count: usize) {
        self.unasked = false;
        self.written += count;
        self.total_written += count as u64;
        if self.written == self.out.len() {
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > LARGEST_KEPT {
                self.out = Vec::new();
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, wait: &mut Wait) -> Poll<Result<(), Error>> {
        while self.has_output() {
            if self.unasked && !self.stream.is_quiet(Instant::now()) {
                return Poll::Ready(Err(Error::Stale));
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(Ok(0)) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Poll::Ready(Err(self.write_error(error)));
                }
                Poll::Ready(Ok(count)) => self.wrote(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.write_error(error))),
                Poll::Pending => {
                    // The server may have stopped reading because its replies are not read.
                    if !self.unasked
                        && let Err(error) = self.read_ahead(cx)
                    {
                        return Poll::Ready(Err(self.write_error(error)));
                    }
                    // A timer says nothing to a task whose turn is used up, and reading uses it up.
                    if !wait.has_passed() {
                        ready!(poll_timer(&mut self.timer, cx, wait));
                    }
                    return Poll::Ready(Err(wait.error(Stage::Write, self.total_written > 0)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what has arrived while writing, as long as that is less than the largest frame.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.input.len() < self.limits.max_frame {
            let mut space = [0; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) => self.input.extend_from_slice(buffer.filled()),
            }
        }
        Ok(())
    }

    /// After a failed write, reads the bytes that the server sent before it closed. The socket is dead by
    /// then, so a read ends at once; the time limit is for a peer that only stopped reading.
    pub(crate) async fn read_last_words(&mut self) {
        let mut wait = Wait::after(Some(LAST_WORDS_TIME));
        let most = self.total_read() + LAST_WORDS_BYTES;
        while self.total_read() < most && self.fill(&mut wait).await.is_ok() {}
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Io { stage: Stage::Write, sent: self.total_written > 0, source }
    }

    /// Called before each look for a frame: a peer that sends faster than we read must neither keep
    /// the other tasks of the thread waiting nor hold the deadline off.
    ///
    /// Cancel-safe: nothing is taken.
    pub(crate) async fn breathe(&mut self, wait: &mut Wait) -> Result<(), Error> {
        if self.work < MOST_WORK {
            return Ok(());
        }
        self.work = 0;
        tokio::task::yield_now().await;
        if wait.has_passed() { Err(wait.error(Stage::Read, true)) } else { Ok(()) }
    }

    /// The next complete frame among the bytes read so far, decoded. Attributes are dropped.
    pub(crate) fn next_value(&mut self) -> Result<Option<Value>, ProtocolError> {
        loop {
            if self.input.is_empty() {
                return Ok(None);
            }
            let Some(frame) = self.scanner.scan(&self.input)? else {
                return Ok(None);
            };
            let bytes = self.input.split_to(frame.len).freeze();
            self.total_consumed += frame.len as u64;
            if frame.len > LARGEST_KEPT && self.input.is_empty() {
                self.input = BytesMut::new();
            }
            self.work += 1;
            if frame.kind != ATTRIBUTE {
                self.after_attribute = false;
                return codec::decode(&bytes, frame).map(Some);
            }
            // As inside a frame: an attribute describes the value after it. Without this, attributes
            // without end would be read over.
            if std::mem::replace(&mut self.after_attribute, true) {
                return Err(ScanError::Misplaced(ATTRIBUTE).into());
            }
        }
    }

    /// Reads more, at least one byte, before `wait` is over.
    ///
    /// Cancel-safe: what was read is kept.
    pub(crate) async fn fill(&mut self, wait: &mut Wait) -> Result<(), Error> {
        // The buffer grows with the bytes that have arrived, never with those announced. Room without
        // references is used again; while replies are kept, the rest of their buffer is used up first.
        let room = self.next_read.max(self.input.len());
        let Self { stream, input, timer, .. } = self;
        let free = input.capacity() - input.len();
        if free < room && !input.try_reclaim(room) && free < LEAST_READ {
            input.reserve(room);
        }
        let space = input.capacity() - input.len();
        let mut read = pin!(stream.read_buf(input));
        let count = poll_fn(|cx| {
            if let Poll::Ready(result) = read.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|source| Error::Io {
                    stage: Stage::Read,
                    sent: true,
                    source,
                }));
            }
            ready!(poll_timer(timer, cx, wait));
            Poll::Ready(Err(wait.error(Stage::Read, true)))
        })
        .await?;
        self.work += 1;
        if count == 0 {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(Error::Io { stage: Stage::Read, sent: true, source });
        }
        if count >= space {
            self.next_read = (self.next_read * 2).min(LARGEST_READ);
        }
        Ok(())
    }

    /// Reads the bytes that have come since the last reply. Never waits. The bytes are taken in, so
    /// the caller has to remember the verdict.
    ///
    /// With `Look::Free` it costs no system call while the runtime's driver has seen nothing; that is
    /// enough when a connection is given back. [`Look::Close`] also asks the socket, see [`Stream`].
    ///
    /// A whole push (RESP3) is dropped: a server may send one at any time.
    pub(crate) fn stray(&mut self, look: Look) -> Stray {
        /// More pushes than this at one time are not worth keeping the connection for.
        const MOST_READS: usize = 64;
        const MOST_FRAMES: usize = 1024;
        let mut frames = 0;
        let mut space = [0; 64];
        for _ in 0..MOST_READS {
            while !self.input.is_empty() {
                let first = self.total_consumed == 0;
                match self.next_value() {
                    Ok(Some(Value::Push(_))) if frames < MOST_FRAMES => frames += 1,
                    Ok(Some(Value::Error(error))) if first => return Stray::Refusal(error),
                    Ok(None) => break,
                    _ => return Stray::Something,
                }
            }
            let read = match look {
                Look::Free => self.stream.read_seen(&mut space),
                Look::Close(now) => self.stream.read_stray(&mut space, now),
            };
            match read {
                Ok(count @ 1..) => self.input.extend_from_slice(&space[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if self.input.is_empty() { Stray::Nothing } else { Stray::Something };
                }
                Ok(0) | Err(_) => return Stray::Something,
            }
        }
        Stray::Something
    }
}

/// Shows the number of bytes, not their content: requests and replies may be secret.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("stream", &self.stream)
            .field("unwritten", &(self.out.len() - self.written))
            .field("unread", &self.input.len())
            .field("total_written", &self.total_written)
            .field("total_consumed", &self.total_consumed)
            .finish_non_exhaustive()
    }
}

/// How closely [`Wire::stray`] looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// At what the runtime's driver has seen.
    Free,
    /// At the socket itself as well; with the time now.
    Close(Instant),
}

/// Unexpected input from a server.
#[derive(Debug)]
pub(crate) enum Stray {
    /// Nothing, as it should be.
    Nothing,
    /// An error before anything else: it does not want this connection (too many clients, protected
    /// mode).
    Refusal(ServerError),
    /// Bytes, or the end of the stream.
    Something,
}

/// Ready when `wait` is over; never without a limit.
fn poll_timer(timer: &mut Deadline, cx: &mut Context<'_>, wait: &mut Wait) -> Poll<()> {
    match wait.at() {
        Some(at) => timer.poll_at(cx, at),
        None => Poll::Pending,
    }
}
