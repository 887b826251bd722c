//! The client: requests in, responses out, connections from the pool.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response, Uri};
use pool_common::connect::Connector;
#[cfg(doc)]
use pool_common::exchange::TotalTimeout;
use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalDeadline};
use pool_common::policy::{Policy, Retry};
use pool_common::retry::{Count, Verdict};
use pool_common::{AcquireTimes, Lease, Pool};

use crate::body::Body;
use crate::builder::ClientBuilder;
use crate::config::Config;
use crate::connection::{Connection, Failure};
use crate::error::{BoxError, Error, Stage};
use crate::head::ResponseHead;
use crate::key::Key;
use crate::manager::Manager;
use crate::request::{Payload, RequestHead};
use crate::retry::{self, Attempt};

/// An HTTP/1 client. Cloning is cheap, and clones share one pool.
///
/// Needs a tokio runtime with I/O and time enabled. Does all its work in the caller's task.
///
/// # How many connections
/// By default at most **100 connections are open for each origin** (scheme, host and port), idle
/// ones included, and any number over all origins. A request that finds all 100 in use waits for
/// one, at most `acquire_timeout` (30 s), and then fails with
/// [`Error::Acquire`]. A response whose body is neither read to its end nor dropped keeps its
/// connection, so 100 such responses stop all further requests to their origin. The limit is
/// [`max_open_per_key`](Policy::max_open_per_key):
///
/// ```
/// # fn main() -> Result<(), http1_pool::BuildError> {
/// let client = http1_pool::Client::builder()
///     .change_policy(|policy| policy.max_open_per_key = Some(500))
///     .build()?;
/// # Ok(()) }
/// ```
///
/// # Which requests are sent again
/// When a connection dies, the [`retry`](Policy::retry) rule of the policy decides, whatever the
/// rule within these bounds: a request is tried at most
/// [`retry_attempts`](Policy::retry_attempts) times, and from the third time on with a connection
/// that was just dialed. It is never sent again after the first byte of a response, after a time
/// limit has passed, or when its body was a stream. A request that is not idempotent is sent again
/// only if nothing of it had been written ([`Retry::ReusedAndReplayable`] takes an
/// `Idempotency-Key` for idempotent); [`Retry::Attempts`] alone repeats such a request after that
/// too, at the risk that it is carried out twice.
///
/// # Changing the policy
/// Start from [`Client::default_policy`], as [`ClientBuilder::change_policy`] does, and not from
/// [`Policy::default`]: that one knows no protocol, so it has no retry rule, and every connection
/// that the peer closes without notice becomes an error of the request that meets it. Building a
/// client with such a policy logs a warning.
#[derive(Clone)]
pub struct Client {
    pool: Pool<Manager>,
}

impl Client {
    /// A client with the [default policy](Self::default_policy), the default [`Config`] and the
    /// default connector.
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults are valid")
    }

    /// A client whose policy, config and parts can be chosen.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// [`Policy::default`] with `net/http`'s retry rule, which is what suits HTTP/1: a request
    /// whose reused connection turns out to be dead is sent again where that is safe. Differs from
    /// `net/http` in that a request is tried at most `retry_attempts` (3) times.
    ///
    /// ```
    /// use http1_pool::{Client, BuildError};
    /// use pool_common::Policy;
    ///
    /// # fn main() -> Result<(), BuildError> {
    /// let policy = Policy { max_idle: Some(20), ..Client::default_policy() };
    /// let client = Client::builder().policy(policy).build()?;
    /// # Ok(()) }
    /// ```
    pub fn default_policy() -> Policy {
        Policy { retry: Retry::ReusedAndReplayable, ..Policy::default() }
    }

    /// Sends `request`, and returns its response once the head has arrived.
    ///
    /// The URI says where to (`http://host[:port]/...`). Characters above ASCII in its path and query
    /// are percent-encoded. `Host` is kept if you set it. Interim (1xx) responses are skipped,
    /// except a `101` to a request with `Upgrade`, which is final; any other `101` is an error.
    /// `Connection: close` closes the connection afterwards. `Expect: 100-continue` is passed on,
    /// and the body is sent without waiting for the answer; a final answer without a `100` before it
    /// then ends the connection, because a peer that refused the body may take it for the next
    /// request.
    ///
    /// A response with `Keep-Alive: timeout=n` has its connection closed before the peer would close
    /// it: after n seconds without a request, less a quarter of that or one second, whichever is
    /// shorter.
    ///
    /// The framing headers follow from the body, not from the headers you set. A body of known length
    /// goes out with `Content-Length`, even if you ask for `Transfer-Encoding: chunked`, and
    /// without its trailers, for which there is no place then; your own `Content-Length` has to be
    /// right. A stream of unknown length goes out in chunks, with its trailers, or with the
    /// `Content-Length` that you set, to which it is held. Once a stream has given as many bytes as
    /// were announced it is dropped, without waiting for its end. Any other combination is refused
    /// before anything is sent.
    ///
    /// Any [`http_body::Body`] of [`Bytes`] can be sent: [`Body`], `String`, `Full<Bytes>`,
    /// `Empty<Bytes>`, a stream. One whose only frame is ready at once is sent with the head in one
    /// write, and can be sent again by the retry rule of the policy; any other is sent once, with
    /// its exact size as `Content-Length` or else in chunks. A response that comes before the
    /// request is sent completely is returned; the rest is sent while its body is read, and the
    /// connection is not used again.
    ///
    /// The connection is returned to the pool when the body has been read to its end; see [`Body`].
    ///
    /// `acquire_timeout` and `response_timeout` apply to each attempt of the retry rule, and no attempt
    /// follows a time limit that has passed. A [`TotalTimeout`] among the extensions of the request is
    /// one limit over all attempts, pauses and bodies. [`RecordExchange`] asks for an
    /// [`ExchangeRecord`] among those of the response:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalTimeout};
    ///
    /// # let server = pool_common::testing::servers::NginxServer::start("location / { return 200 hello; }");
    /// # let address = server.addr();
    /// let client = http1_pool::Client::new();
    /// let request = http::Request::get(format!("http://{address}/"))
    ///     .extension(TotalTimeout::after(Duration::from_secs(5)))
    ///     .extension(RecordExchange)
    ///     .body(http1_pool::Body::empty())?;
    /// let response = client.request(request).await?;
    /// let record = response.extensions().get::<ExchangeRecord>().expect("it was asked for");
    /// assert_eq!((record.peer, record.reused, record.attempts), (Some(address), false, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Error`]. [`Error::may_have_executed`] says whether sending the request again may run it
    /// twice.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection if the request was begun (its response would
    /// otherwise be the next caller's), and gives up the place in the queue if not. Whether the
    /// peer carried the request out is then unknown.
    ///
    /// Source: `net/http` `Transport.RoundTrip`; differs in that redirects, cookies and compression
    /// are left to others, and that the caller's task does the I/O, as in fasthttp.
    #[track_caller]
    pub fn request<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
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
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let options = Options::of(&parts.extensions);
        let mut payload = Payload::new(body).await.map_err(Error::RequestBody)?;
        let (head, key) = RequestHead::new(&parts, &mut payload, self.connector())?;
        self.send(head, &key, payload, options, place).await
    }

    /// Sends a `GET` without further headers.
    ///
    /// # Errors
    /// As [`request`](Client::request).
    ///
    /// # Cancel safety
    /// As [`request`](Client::request).
    #[track_caller]
    pub fn get(&self, uri: Uri) -> impl Future<Output = Result<Response<Body>, Error>> + Send {
        let place = Location::caller();
        async move {
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.uri = uri;
            let mut payload = Payload::None;
            let (head, key) = RequestHead::new(&parts, &mut payload, self.connector())?;
            self.send(head, &key, payload, Options::default(), place).await
        }
    }

    /// The pool, to look at or to close.
    pub fn pool(&self) -> &Pool<Manager> {
        &self.pool
    }

    /// The limits peers are held to.
    pub fn config(&self) -> &Config {
        self.pool.manager().config()
    }

    /// Closes the pool: no new requests, and waits for the responses that are still being read.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn connector(&self) -> &Connector {
        &self.pool.manager().connector
    }

    /// Attempts until there is a response or the retry rule gives up. `place` is the caller's, for
    /// leak detection.
    async fn send(
        &self,
        head: RequestHead<'_>,
        key: &Key,
        mut payload: Payload,
        mut options: Options,
        place: &'static Location<'static>,
    ) -> Result<Response<Body>, Error> {
        let policy = self.pool.initial_policy();
        let mut count = Count::first(policy);
        let mut fresh = false;
        let total = &mut options.total;
        // Of the attempt that came furthest.
        let mut reached = Stage::Start;
        loop {
            let mut acquiring = match fresh {
                false => self.pool.acquire_from(key, place),
                true => self.pool.acquire_fresh_from(key, place),
            };
            // Two ways, so that without a limit no result is wrapped and moved once more.
            let mut lease = match &mut *total {
                None => (&mut acquiring).await?,
                limited => match TotalDeadline::bound(limited, &mut acquiring).await {
                    Ok(lease) => lease?,
                    Err(limit) => return Err(passed(limit, reached, key)),
                },
            };
            if let Some(times) = &mut options.times {
                **times += acquiring.times(&lease);
            }
            drop(acquiring);
            let failure = match exchange(&mut lease, head, &mut payload, total).await {
                Ok(head) => return Ok(respond(head, lease, options, count)),
                Err(failure) => failure,
            };
            reached = reached.max(lease.stage());
            if let Error::TotalTimeout { limit, .. } = failure.error {
                lease.discard();
                return Err(passed(limit, reached, key));
            }
            let attempt = Attempt {
                method: head.method,
                headers: head.headers,
                replayable: payload.is_replayable(),
                reused: lease.is_reused(),
                count,
            };
            let verdict = retry::decide(policy, attempt, &failure);
            lease.discard();
            let Verdict::Again { fresh: next_fresh, pause } = verdict else {
                return Err(failure.error);
            };
            fresh = next_fresh;
            if !pause.is_zero() {
                let pause = Box::pin(tokio::time::sleep(pause));
                if let Err(limit) = TotalDeadline::bound(total, pause).await {
                    return Err(passed(limit, reached, key));
                }
            }
            let (number, error) = (count.number(), &failure.error);
            tracing::debug!(target: "http1_pool", %key, number, %error, "sending again");
            count = count.next();
        }
    }
}

/// One attempt on one connection, until the head of its response has arrived.
async fn exchange(
    connection: &mut Connection,
    head: RequestHead<'_>,
    payload: &mut Payload,
    total: &mut Option<Box<TotalDeadline>>,
) -> Result<ResponseHead, Failure> {
    connection.begin(head, payload)?;
    poll_fn(|cx| match (connection.poll_response(cx), total.as_deref_mut()) {
        (Poll::Pending, Some(total)) => total.poll(cx).map(|limit| Err(connection.late(limit))),
        (answer, _) => answer,
    })
    .await
}

/// The total limit has passed.
#[cold]
fn passed(limit: Duration, stage: Stage, key: &Key) -> Error {
    Error::TotalTimeout { stage, limit, peer: key.clone() }
}

/// What a caller asks of one exchange, in the extensions of its request.
#[derive(Default)]
struct Options {
    total: Option<Box<TotalDeadline>>,
    /// For the record, if there shall be one.
    times: Option<Box<AcquireTimes>>,
}

impl Options {
    fn of(extensions: &Extensions) -> Self {
        if extensions.is_empty() {
            return Self::default();
        }
        let record = extensions.get::<RecordExchange>();
        Self {
            total: TotalDeadline::start(extensions.get()),
            times: record.map(|_| Box::default()),
        }
    }
}

/// The response whose head arrived on this lease, after that many attempts.
fn respond(
    head: ResponseHead,
    mut lease: Lease<Manager>,
    options: Options,
    count: Count,
) -> Response<Body> {
    if let Some(limit) = lease.idle_limit() {
        lease.set_idle_limit(limit);
    }
    let record = options.times.map(|times| {
        Box::new(ExchangeRecord::new(&lease, lease.peer_addr(), count.number(), *times))
    });
    let body = if lease.is_finished() {
        // Given back first, so that a caller that has seen the answer can use it next.
        drop(lease);
        Body::empty()
    } else {
        Body::incoming(lease, options.total)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.version_mut() = head.version;
    *response.headers_mut() = head.headers;
    if let Some(record) = record {
        response.extensions_mut().insert(*record);
    }
    response
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// A client over a pool that was built by hand. Its policy starts from [`Client::default_policy`] in
/// most cases; a retry rule that does not suit HTTP/1 is logged.
impl From<Pool<Manager>> for Client {
    fn from(pool: Pool<Manager>) -> Self {
        let retry = pool.initial_policy().retry;
        if !retry::hides_closed_connections(retry) {
            tracing::warn!(
                target: "http1_pool",
                retry = retry.word(),
                "this retry rule repeats no request whose reused connection was closed by the peer; \
                 take Client::default_policy() as the base of a policy, or set retry",
            );
        }
        Self { pool }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}
