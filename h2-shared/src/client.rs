//! The client: one call for a request, over the pool's shared connections.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::{fmt, mem};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{Extensions, Method, Request, Response};
use http_body::Body as HttpBody;
#[cfg(doc)]
use pool_common::exchange::TotalTimeout;
use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalDeadline};
use pool_common::policy::{Dial, IdleOrder, Retry};
use pool_common::retry::{Count, Fate, Verdict};
use pool_common::{AcquireTimes, Policy, Pool};
use tokio::time::sleep;

use crate::body::Body;
use crate::builder::ClientBuilder;
use crate::config::Config;
use crate::connection::NotSent;
use crate::error::{Closed, Error, InvalidRequest};
use crate::exchange::{Exchange, Unanswered};
use crate::head::prepare;
use crate::key::Key;
use crate::manager::Manager;
use crate::retry::{Attempt, decide};
use crate::slot::Slot;
use crate::upload::{BodyError, Source, Upload};

/// An HTTP/2 client (h2c, prior knowledge) whose requests share connections.
///
/// Cheap to clone; every clone uses the same pool. See the [crate's page](crate) for how requests
/// find their connection.
#[derive(Clone)]
pub struct Client {
    pool: Pool<Manager>,
}

impl Client {
    /// A client with the [default policy](Self::default_policy) and the default [`Config`].
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults are valid, and tested")
    }

    /// A client whose policy, config and parts can be chosen.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A policy for shared connections, and the base for a changed one:
    /// `Policy { max_open_per_key: Some(4), ..Client::default_policy() }`. [`Policy::default`] is
    /// not, because it repeats no request.
    ///
    /// The oldest connection with room fills up first; one dial at a time for each origin serves
    /// all callers that wait for it, where `net/http` lets each dial and throws all but one away.
    /// Requests that the peer did not process are sent again, up to 4 attempts; an idempotent request whose
    /// connection had served others and was lost is sent again once. The rest as
    /// [`Policy::default`].
    pub fn default_policy() -> Policy {
        Policy {
            idle_order: IdleOrder::FirstWithRoom,
            dial: Dial::Shared,
            retry: Retry::ReusedAndReplayable,
            retry_attempts: 4,
            ..Policy::default()
        }
    }

    /// The pool, to look at or to close.
    pub fn pool(&self) -> &Pool<Manager> {
        &self.pool
    }

    /// How connections are opened and watched.
    pub fn config(&self) -> &Config {
        self.pool.manager().config()
    }

    /// Closes the pool: no new requests, and waits for the streams that are still open.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Sends a request and returns its response as soon as the head is there.
    ///
    /// A stream slot is taken from the pool and held until both bodies have ended. A request
    /// without a body (its `is_end_stream` is true) is one HEADERS frame; other bodies are read by
    /// this future, as flow control allows. A response that overtakes the end of a request body is
    /// returned at once; the rest of that body is then sent by a task, until the response body ends
    /// or is dropped.
    ///
    /// The URI is absolute with scheme `http`. Fields that have no meaning in HTTP/2 (`Connection`,
    /// `Transfer-Encoding`, ...) are dropped, `Host` becomes the authority, content-length is added
    /// when the body knows its length. Informational (1xx) responses are skipped.
    ///
    /// A request that the peer did not process is sent again as the policy's
    /// [`retry`](pool_common::Policy::retry) says, with its body if no more than
    /// [`replay_limit`](Config::replay_limit) was sent of it. A request whose stream was refused
    /// waits before it is sent again, longer each time (`retry_back_off_min` and `_max`): a peer that
    /// refuses has too much to do already. It goes to another connection if it was refused twice,
    /// but all requests to an origin together give up one connection per second for that.
    ///
    /// `acquire_timeout` and `response_timeout` apply to each attempt, and no attempt follows a time
    /// limit that has passed. A [`TotalTimeout`] among the extensions of the request is one limit over
    /// all attempts, pauses and bodies. [`RecordExchange`] asks for an [`ExchangeRecord`] among those
    /// of the response:
    ///
    /// ```
    /// # async fn example(address: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalTimeout};
    ///
    /// let client = h2_shared::Client::new();
    /// let request = http::Request::get(format!("http://{address}/"))
    ///     .extension(TotalTimeout::after(Duration::from_secs(5)))
    ///     .extension(RecordExchange)
    ///     .body(h2_shared::Body::default())?;
    /// let response = client.request(request).await?;
    /// let record = response.extensions().get::<ExchangeRecord>().expect("it was asked for");
    /// assert_eq!((record.peer, record.reused, record.attempts), (Some(address), false, 1));
    /// # Ok(())
    /// # }
    /// # let server = pool_common::testing::servers::NghttpdServer::start(&[]);
    /// # let runtime = tokio::runtime::Runtime::new().unwrap();
    /// # runtime.block_on(example(server.addr())).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`Error`]. [`Error::may_have_executed`] says whether sending the request again may run it
    /// twice.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream (CANCEL) if it was opened, and gives the slot back.
    /// The connection and its other streams go on. The peer may have processed the request.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    #[track_caller]
    pub fn request<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        self.carry_out(request, Location::caller())
    }

    /// `place` is the caller's, for leak detection.
    pub(crate) async fn carry_out<B>(
        &self,
        request: Request<B>,
        place: &'static Location<'static>,
    ) -> Result<Response<Body>, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        let (total, times) = options(&parts.extensions);
        let connector = &self.pool.manager().connector;
        let key = connector.uri_key(&parts.uri, &parts.extensions)?;
        let (head, declared) = prepare(parts, &body)?;
        let limit = self.pool.manager().config().replay_limit;
        let source = (!body.is_end_stream()).then(|| Source::new(body, declared, limit));
        let idempotent = head.method().is_idempotent();
        let policy = self.pool.initial_policy();
        let fate = Fate::NotSent;
        let mut call = Call { pool: &self.pool, key, place, head, source, fate, total, times };
        let (mut count, mut lost, mut fresh) = (Count::first(policy), 0, false);
        loop {
            let before = call.fate;
            let Failed { error, reused } = match call.attempt(count, fresh).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            call.fate = before.max(error.fate());
            lost += u32::from(matches!(error, Error::ConnectionLost { .. }));
            let attempt = Attempt {
                count,
                lost,
                error: &error,
                reused,
                replayable: call.is_replayable(),
                idempotent,
            };
            let verdict = decide(policy, attempt, fastrand::f64());
            let Verdict::Again { fresh: next_fresh, pause } = verdict else {
                return Err(error);
            };
            tracing::debug!(%error, number = count.number(), "sending the request again");
            if !pause.is_zero() {
                let pause = Box::pin(sleep(pause));
                if let Err(limit) = TotalDeadline::bound(&mut call.total, pause).await {
                    return Err(Error::TotalTimeout { limit, fate: call.fate });
                }
            }
            count = count.next();
            fresh = next_fresh;
        }
    }
}

/// What the caller asks of one exchange, in the extensions of its request: a limit, and a record.
fn options(extensions: &Extensions) -> (Option<Box<TotalDeadline>>, Option<Box<AcquireTimes>>) {
    if extensions.is_empty() {
        return (None, None);
    }
    let record = extensions.get::<RecordExchange>();
    (TotalDeadline::start(extensions.get()), record.map(|_| Box::default()))
}

/// A client over a pool that was built by hand. Its policy starts from [`Client::default_policy`] in
/// most cases; a retry rule that repeats no request is logged.
impl From<Pool<Manager>> for Client {
    fn from(pool: Pool<Manager>) -> Self {
        let rule = pool.initial_policy().retry;
        if rule == Retry::Never {
            tracing::warn!(
                target: "h2_shared",
                retry = rule.word(),
                "this retry rule repeats no request that a GOAWAY or a close left undone; \
                 take Client::default_policy() as the base of a policy, or set retry",
            );
        }
        Self { pool }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.pool).finish()
    }
}

/// One request, in as many attempts as it takes.
struct Call<'a, B> {
    pool: &'a Pool<Manager>,
    key: Key,
    /// The line of code that asked, for leak detection.
    place: &'static Location<'static>,
    head: Request<()>,
    /// `None` when there is no body, and while an attempt has it.
    source: Option<Source<B>>,
    /// Of the attempt that came furthest.
    fate: Fate,
    total: Option<Box<TotalDeadline>>,
    /// Of all attempts, if there shall be a record.
    times: Option<Box<AcquireTimes>>,
}

/// An attempt that brought no response.
struct Failed {
    error: Error,
    reused: bool,
}

impl<B> Call<'_, B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    fn is_replayable(&self) -> bool {
        self.source.as_ref().is_none_or(Source::is_replayable)
    }

    /// Sends the request once, on a connection that was just dialed if `fresh`. The last attempt uses
    /// up the head.
    async fn attempt(&mut self, count: Count, fresh: bool) -> Result<Response<Body>, Failed> {
        let mut acquiring = match fresh {
            false => self.pool.acquire_from(&self.key, self.place),
            true => self.pool.acquire_fresh_from(&self.key, self.place),
        };
        // Two ways, so that without a limit no result is wrapped and moved once more.
        let lease = match &mut self.total {
            None => (&mut acquiring).await.map_err(Error::from),
            limited => match TotalDeadline::bound(limited, &mut acquiring).await {
                Ok(lease) => lease.map_err(Error::from),
                Err(limit) => Err(Error::TotalTimeout { limit, fate: self.fate }),
            },
        };
        let lease = lease.map_err(|error| Failed { error, reused: false })?;
        if let Some(times) = &mut self.times {
            **times += acquiring.times(&lease);
        }
        drop(acquiring);
        let config = self.pool.manager().config();
        let mut slot = Slot::new(lease, config.response_timeout);
        let reused = slot.is_reused();
        let head = match count.is_last() {
            false => self.head.clone(),
            true => mem::take(&mut self.head),
        };
        let no_content = head.method() == Method::HEAD;
        let sent = slot.connection().send_request(head, self.source.is_none());
        let (response, stream) = match sent {
            Ok(opened) => opened,
            Err(not_sent) => {
                let closed = slot.connection().cause_so_far();
                if let NotSent::Gone(_) = not_sent {
                    slot.retire();
                }
                return Err(Failed { error: not_sent.into_error(closed), reused });
            }
        };
        let upload = self.source.take().map(|source| Upload::new(source, stream));
        let mut exchange = Exchange::new(response, upload, slot.connection());
        let mut timer = pin!(None);
        let total = &mut self.total;
        let answer = poll_fn(|cx| {
            let answer = exchange.poll(cx, timer.as_mut(), &mut slot);
            match total {
                Some(total) if answer.is_pending() => total.poll(cx).map(|limit| {
                    let fate = Fate::Unknown;
                    Err(Unanswered::Here(Error::TotalTimeout { limit, fate }))
                }),
                _ => answer,
            }
        });
        let error = match answer.await {
            Ok(head) if size_of_head(&head) > config.max_header_list_size as usize => {
                Error::bad_response("the response head is larger than max_header_list_size allows")
            }
            Ok(_) if slot.connection().has_bad_head(|| exchange.stream_id()) => {
                Error::bad_response("the response has pseudo-header fields of requests")
            }
            Ok(head) => {
                let record = self.times.take().map(|times| {
                    let peer = slot.connection().peer_addr();
                    Box::new(ExchangeRecord::new(slot.lease(), peer, count.number(), *times))
                });
                let total = self.total.take();
                let mut response = exchange.into_response(head, no_content, slot, config, total);
                if let Some(record) = record {
                    response.extensions_mut().insert(*record);
                }
                return Ok(response);
            }
            Err(Unanswered::Here(error)) => error,
            Err(Unanswered::Stream(error)) => {
                let sent = slot.connection().has_sent(exchange.stream_id());
                let closed = slot.note(&error);
                match Error::from_stream(error, closed) {
                    // The connection ended first.
                    Error::ConnectionLost { cause, source } if !sent => {
                        Error::Unprocessed { reason: None, closed: Some(cause), source }
                    }
                    error => error,
                }
            }
        };
        let refused =
            error.reason() == Some(Reason::REFUSED_STREAM) && error.fate() == Fate::Unprocessed;
        if refused && count.number() > 1 && self.pool.manager().may_replace_refusing(&self.key) {
            slot.retire();
        }
        self.source = exchange.upload.map(Upload::into_source);
        Err(Failed { error, reused })
    }
}

/// As RFC 9113, 6.5.2 counts.
fn size_of_head(head: &Response<RecvStream>) -> usize {
    const STATUS: usize = ":status".len() + "200".len();
    const FIELD: usize = 32;
    let fields =
        head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    STATUS + FIELD + fields.sum::<usize>()
}

impl NotSent {
    /// `closed` is why the connection ended, if it has.
    fn into_error(self, closed: Option<Closed>) -> Error {
        match self {
            Self::Gone(source) => Error::Unprocessed {
                reason: source.reason().filter(|_| source.is_go_away() && source.is_remote()),
                closed,
                source,
            },
            Self::Invalid => InvalidRequest::Head.into(),
        }
    }
}
