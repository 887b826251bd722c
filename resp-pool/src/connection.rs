//! One connection: requests out, replies in, and the mark that says whose reply comes next.

use std::{collections::VecDeque, fmt, net::SocketAddr, sync::Arc, time::Duration};

use pool_common::connect::{Connector, Stream, Target};
use tokio::time::Instant;

use crate::{
    command::Request,
    config::Settings,
    effect::Effect,
    error::Error,
    from_value::FromValue,
    incoming::Incoming,
    key::Key,
    pipeline::{self, Pipeline},
    probe::Permissions,
    pushes::Pushes,
    session::Session,
    value::Value,
    wire::{Look, Stray, Wire},
};

/// A connection to a server, after its handshake. Borrowed from a [`Client`](crate::Client), or
/// dialed by hand with [`Connection::dial`].
///
/// All I/O happens in the caller's task. A request is one write, its reply usually one read.
///
/// # Whose reply comes next
/// Before the first byte of a request is written the connection is marked as *in a call*, and the
/// mark goes away when the last reply of that call has been read completely. A call whose future is
/// dropped halfway leaves the mark: from then on every method returns [`Error::Abandoned`], and the
/// pool discards the connection when it is returned. The raw methods [`send`](Self::send),
/// [`flush`](Self::flush) and [`receive`](Self::receive) can be dropped at any await and continued,
/// since their state stays here.
///
/// # Session
/// What a borrower changes in the session (transaction, watched keys, subscriptions, database, ...)
/// is followed in [`session`](Self::session) and undone when the connection is returned; see
/// [`Session`].
pub struct Connection {
    pub(crate) wire: Wire,
    pub(crate) session: Session,
    pub(crate) settings: Arc<Settings>,
    pub(crate) key: Key,
    /// The commands that are owed a reply, oldest first.
    pub(crate) expected: VecDeque<Effect>,
    /// Messages that the server sent by itself, until they are received.
    pub(crate) pushes: Pushes,
    /// A call has begun and not completed.
    pub(crate) in_call: bool,
    /// Failed for good.
    pub(crate) broken: bool,
    /// Since when every reply has been `LOADING`.
    pub(crate) loading_since: Option<Instant>,
    /// Which commands the user may not run, as far as it matters here.
    pub(crate) permissions: Arc<Permissions>,
}

/// A queue that grew beyond this for one large pipeline is given back afterwards.
const LARGEST_KEPT: usize = 1024;

impl Connection {
    /// Dials `key` and shakes hands: `HELLO` with credentials and name (RESP3) or `AUTH` and
    /// `CLIENT SETNAME` (RESP2), then `SELECT`, all in one write. With RESP2, no credentials, no
    /// name and database 0 there is nothing to say and no round trip.
    ///
    /// # Errors
    /// [`Error::Connect`] when the server cannot be reached, [`Error::Server`] when it refuses
    /// (wrong password, too many clients), and those of a request.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket. The time is bounded by the connector's `timeout`
    /// (5 s) and by `read_timeout` for each reply; the pool bounds the whole by its `dial_timeout`.
    pub async fn dial(key: &Key, settings: Arc<Settings>) -> Result<Self, Error> {
        Self::dial_with(&Connector::default(), key, settings).await
    }

    /// As [`dial`](Self::dial), with the caller's own connector.
    ///
    /// # Errors
    /// As for [`dial`](Self::dial).
    ///
    /// # Cancel safety
    /// As for [`dial`](Self::dial).
    pub async fn dial_with(
        connector: &Connector,
        key: &Key,
        settings: Arc<Settings>,
    ) -> Result<Self, Error> {
        let target = match key.unix_socket() {
            Some(path) => Target::unix(path),
            None => Target::host(key.host(), key.port()),
        };
        let target = if key.tls() { target.with_tls(&[]) } else { target };
        let stream = connector.connect(target).await.map_err(Error::Connect)?;
        Self::with_stream(stream, key, settings).await
    }

    /// Shakes hands on a stream that is connected already; otherwise like [`dial`](Self::dial).
    ///
    /// # Errors
    /// As for [`dial`](Self::dial).
    ///
    /// # Cancel safety
    /// As for [`dial`](Self::dial).
    pub async fn with_stream(
        stream: impl Into<Stream>,
        key: &Key,
        settings: Arc<Settings>,
    ) -> Result<Self, Error> {
        let mut connection = Self {
            wire: Wire::new(stream.into(), settings.limits),
            session: Session::new(key.database()),
            settings,
            key: key.clone(),
            expected: VecDeque::new(),
            pushes: Pushes::default(),
            in_call: false,
            broken: false,
            loading_since: None,
            permissions: Arc::default(),
        };
        connection.handshake().await?;
        Ok(connection)
    }

    /// The key for which the connection was dialed.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What the borrower changed in the session so far.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Our end of the connection, if it is TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.wire.stream().local_addr()
    }

    /// Sends one command and converts its reply.
    ///
    /// Replies still owed to commands of [`send`](Self::send) are read first and dropped, errors
    /// included.
    ///
    /// # Errors
    /// [`Error::Server`] when the server refuses, [`Error::Conversion`] when the reply is of
    /// another type: both leave the connection in step, unless the server refused and closed before
    /// the request was written. Others end it.
    ///
    /// # Cancel safety
    /// Not cancel-safe: dropped before it completes, the connection is of no further use (and never
    /// lent again).
    pub async fn query<T: FromValue>(
        &mut self,
        request: &(impl Request + ?Sized),
    ) -> Result<T, Error> {
        match self.call(request).await? {
            Value::Error(error) => Err(Error::Server(error.answering(request.part(0)))),
            value => Ok(T::from_value(value).map_err(|error| error.answering(request.part(0)))?),
        }
    }

    /// Sends one command and returns its reply as it is; an error reply is a value here.
    ///
    /// # Errors
    /// As for [`query`](Self::query), without the first two.
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn call(&mut self, request: &(impl Request + ?Sized)) -> Result<Value, Error> {
        let effect = self.admit_request(request)?;
        if effect == Effect::MuteReplies {
            return Err(Error::Refused {
                command: effect.name(),
                reason: "no reply would come; use send, and discard the connection",
            });
        }
        let limit = request.read_timeout().unwrap_or(self.settings.read_timeout);
        self.in_call = true;
        self.enqueue(effect, |out| request.encode(out));
        let result = self.finish_call(limit).await;
        self.end_call(result)
    }

    /// Sends several commands in one write and returns their replies in order. Error replies are
    /// values, in the place of their command's reply.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn pipeline(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.admit_pipeline(pipeline)?;
        self.in_call = true;
        self.expected.extend(pipeline.effects());
        self.wire.out().extend_from_slice(pipeline.encoded());
        let count = pipeline.effects().len();
        let limit = self.settings.read_timeout;
        let result = self.finish_pipeline(count, limit).await;
        self.end_call(result)
    }

    /// As [`pipeline`](Self::pipeline), converted: a tuple or a list with one element for each
    /// command. The first error reply is the error of the whole.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn pipeline_as<T: FromValue>(&mut self, pipeline: &Pipeline) -> Result<T, Error> {
        pipeline::convert(self.pipeline(pipeline).await?)
    }

    /// Encodes a command without writing it yet; [`flush`](Self::flush) or any later call does. Its
    /// reply is taken by [`receive`](Self::receive), or read away when the connection is returned:
    /// like in redigo, a command that was sent is carried out, even if it was not flushed.
    ///
    /// # Errors
    /// [`Error::Refused`] for replication commands, [`Error::Broken`], [`Error::Abandoned`] or
    /// [`Error::Stale`].
    pub fn send(&mut self, request: &(impl Request + ?Sized)) -> Result<(), Error> {
        let effect = self.admit_request(request)?;
        self.wire.put_off();
        if effect == Effect::MuteReplies {
            self.session.set_unfit("CLIENT REPLY silenced replies");
            request.encode(self.wire.out());
        } else {
            self.enqueue(effect, |out| request.encode(out));
        }
        Ok(())
    }

    /// Writes what was [sent](Self::send).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Timeout`] (`write_timeout`), [`Error::Stale`] when something
    /// arrived before the first byte was written, or [`Error::Server`] when the server refused and
    /// closed meanwhile; the connection is of no further use.
    ///
    /// # Cancel safety
    /// Cancel-safe: the rest is written by the next call.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let result = self.flush_or_refusal().await;
        self.note(result)
    }

    /// The reply to the oldest command of [`send`](Self::send) that has not been read. Flushes
    /// first. An error reply is a value.
    ///
    /// # Errors
    /// [`Error::Refused`] when no reply is owed; [`Error::Io`], [`Error::Timeout`] (`read_timeout`),
    /// [`Error::Protocol`] or those of [`flush`](Self::flush) end the connection.
    ///
    /// # Cancel safety
    /// Cancel-safe: nothing that was read is lost.
    pub async fn receive(&mut self) -> Result<Value, Error> {
        self.check_usable()?;
        if self.expected.is_empty() {
            return Err(Error::Refused { command: "receive", reason: "no reply is owed" });
        }
        let limit = self.settings.read_timeout;
        let result = match self.flush_or_refusal().await {
            Ok(()) => self.next_reply(limit).await,
            Err(error) => Err(error),
        };
        self.note(result)
    }

    /// How many replies are owed to commands of [`send`](Self::send).
    pub fn pending_replies(&self) -> usize {
        self.expected.len()
    }

    /// Whether the connection must not be lent again. Never waits, and costs no system call while
    /// the runtime's driver has seen nothing.
    ///
    /// True after a failure, with a call given up halfway, with a session that cannot be undone,
    /// after a reply that says "wrong server" or "not able" (see [`Session`]), and, when the session
    /// is neutral, with anything unread or a closed socket.
    pub fn is_broken(&mut self) -> bool {
        self.is_unfit(Look::Free)
    }

    /// As [`is_broken`](Self::is_broken), for an idle connection that is about to be lent: the
    /// socket itself is asked.
    pub(crate) fn is_stale(&mut self) -> bool {
        self.is_unfit(Look::Close(Instant::now()))
    }

    fn is_unfit(&mut self, look: Look) -> bool {
        if self.broken || self.in_call || self.session.unfit().is_some() {
            return true;
        }
        if self.needs_reset() {
            // Whatever is unread belongs to what the reset will read away.
            return false;
        }
        self.pushes.clear();
        self.wire.shed();
        // Once broken, always broken: the look may have consumed the bytes that it saw.
        self.broken = !matches!(self.wire.stray(look), Stray::Nothing);
        self.broken
    }

    /// Whether replies are owed or the session is changed.
    pub fn needs_reset(&self) -> bool {
        !self.expected.is_empty() || self.wire.has_output() || !self.session.is_neutral()
    }

    fn enqueue(&mut self, effect: Effect, encode: impl FnOnce(&mut Vec<u8>)) {
        if effect == Effect::Monitor {
            self.session.expect_monitor();
        }
        self.expected.push_back(effect);
        encode(self.wire.out());
    }

    /// Writes everything and reads every reply; the last one is the result.
    async fn finish_call(&mut self, limit: Option<Duration>) -> Result<Value, Error> {
        let before = self.wire.total_written();
        let flushed = self.flush_or_refusal().await;
        flushed.map_err(|error| sent_since(error, self.wire.total_written() > before))?;
        loop {
            let reply = self.next_reply(limit).await?;
            if self.expected.is_empty() {
                return Ok(reply);
            }
        }
    }

    /// Writes everything and reads every reply; the last `count` are the result.
    async fn finish_pipeline(
        &mut self,
        count: usize,
        limit: Option<Duration>,
    ) -> Result<Vec<Value>, Error> {
        let before = self.wire.total_written();
        let flushed = self.flush_or_refusal().await;
        flushed.map_err(|error| sent_since(error, self.wire.total_written() > before))?;
        while self.expected.len() > count {
            self.next_reply(limit).await?;
        }
        let mut replies = Vec::with_capacity(count);
        while !self.expected.is_empty() {
            replies.push(self.next_reply(limit).await?);
        }
        Ok(replies)
    }

    /// Writes everything. When that fails because the server has gone, its last words come first: a
    /// server that refuses a request while it is still being written says why and closes, and the
    /// error of the write tells nothing of that.
    ///
    /// Commands before the last one are answered as well, and an error reply to one of them is not
    /// why the write failed. So only a reply to the last command counts, or a refusal of the whole
    /// connection.
    async fn flush_or_refusal(&mut self) -> Result<(), Error> {
        let lost = match self.wire.flush(self.settings.write_timeout).await {
            Err(error @ Error::Io { .. }) => error,
            // A server that refused before anything was written has closed as well.
            result => {
                self.broken |= result.is_err();
                return result;
            }
        };
        self.broken = true;
        self.wire.read_last_words().await;
        let mut refusal = None;
        let mut is_first = true;
        while let Ok(Some(incoming)) = self.next_incoming() {
            let Incoming::Reply(reply) = incoming else { continue };
            refusal = match reply {
                Value::Error(error)
                    if self.expected.is_empty() || error.refuses_connection(is_first) =>
                {
                    Some(error)
                }
                _ => None,
            };
            is_first = false;
        }
        Err(refusal.map_or(lost, Error::Server))
    }

    /// The call is over: with every reply read, the mark goes away.
    fn end_call<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_ok() {
            self.in_call = false;
            if self.expected.capacity() > LARGEST_KEPT {
                self.expected = VecDeque::new();
            }
        }
        self.note(result)
    }

    /// Remembers a failure that ends the connection.
    pub(crate) fn note<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result
            && !error.leaves_connection_usable()
        {
            self.broken = true;
            self.in_call = false;
        }
        result
    }
}

/// Shows what the connection is and how much it holds, but no bytes: requests and replies may be
/// secret.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("key", &self.key)
            .field("session", &self.session)
            .field("wire", &self.wire)
            .field("pending_replies", &self.expected.len())
            .field("pushes", &self.pushes)
            .field("in_call", &self.in_call)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

/// Says whether bytes of *this* request had been written.
fn sent_since(error: Error, any: bool) -> Error {
    match error {
        Error::Io { stage, source, .. } => Error::Io { stage, sent: any, source },
        Error::Timeout { stage, after, .. } => Error::Timeout { stage, sent: any, after },
        other => other,
    }
}
