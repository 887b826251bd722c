//! The client: one call for a request, over the pool's shared connections.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::{fmt, mem};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use pool_common::connect::TcpConnector;
use pool_common::policy::{Dial, IdleOrder, Retry};
use pool_common::{Policy, Pool};
use tokio::time::sleep;

use crate::body::Body;
use crate::config::Config;
use crate::connection::NotSent;
use crate::error::Error;
use crate::exchange::{Exchange, Unanswered};
use crate::head::prepare;
use crate::key::Key;
use crate::manager::H2Manager;
use crate::retry::{Attempt, Decision, decide};
use crate::slot::Slot;
use crate::upload::{BodyError, Source, Upload};

/// An HTTP/2 client (h2c, prior knowledge) whose requests share connections.
///
/// Cheap to clone; every clone uses the same pool. See the [crate's page](crate) for how requests
/// find their connection.
#[derive(Clone)]
pub struct Client {
    pool: Pool<H2Manager>,
}

impl Client {
    /// A client with the [default policy](Self::default_policy) and the default [`Config`].
    pub fn new() -> Self {
        Self::with_config(Self::default_policy(), Config::default())
            .expect("the defaults are valid, and tested")
    }

    /// What suits shared connections: the oldest connection with room fills up first; one dial at a
    /// time for each origin serves all who wait for it, where `net/http` lets each dial and throws
    /// all but one away; what the peer did not process is sent again, up to 4 attempts. The rest as
    /// [`Policy::default`].
    pub fn default_policy() -> Policy {
        Policy {
            idle_order: IdleOrder::FirstWithRoom,
            dial: Dial::Shared,
            retry: Retry::Unprocessed,
            retry_attempts: 4,
            ..Policy::default()
        }
    }

    /// A client that pools as `policy` says and connects as `config` says.
    ///
    /// # Errors
    /// [`Error::InvalidPolicy`] or [`Error::InvalidConfig`].
    pub fn with_config(policy: Policy, config: Config) -> Result<Self, Error> {
        let manager = H2Manager::new(config, TcpConnector::default())?;
        Ok(Self::from_pool(Pool::builder(manager).policy(policy).build()?))
    }

    /// A client over a pool that was built elsewhere, with an observer, metrics or a connector
    /// of one's own.
    pub fn from_pool(pool: Pool<H2Manager>) -> Self {
        Self { pool }
    }

    /// The pool, for its status and statistics, and to close it.
    pub fn pool(&self) -> &Pool<H2Manager> {
        &self.pool
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
    /// What the peer did not process is sent again as the policy's
    /// [`retry`](pool_common::Policy::retry) says, with its body if no more than
    /// [`replay_limit`](Config::replay_limit) was sent of it.
    ///
    /// # Errors
    /// Each variant of [`Error`] says when it occurs and whether the request may have run.
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

    async fn carry_out<B>(
        &self,
        request: Request<B>,
        place: &'static Location<'static>,
    ) -> Result<Response<Body>, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        let key = Key::from_uri(&parts.uri)?;
        let (head, declared) = prepare(parts, &body)?;
        let limit = self.pool.manager().config().replay_limit;
        let source = (!body.is_end_stream()).then(|| Source::new(body, declared, limit));
        let idempotent = head.method().is_idempotent();
        let policy = self.pool.initial_policy();
        let mut call = Call { pool: &self.pool, key, place, head, source };
        let (mut number, mut fresh) = (1, false);
        loop {
            let repeatable = policy.retry != Retry::Never && number < policy.retry_attempts;
            let Failed { error, reused } = match call.attempt(repeatable, fresh).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let attempt = Attempt {
                number,
                error: &error,
                reused,
                replayable: call.is_replayable(),
                idempotent,
            };
            let decision = decide(policy, attempt, fastrand::f64());
            let Decision::Again { after, fresh: new } = decision else {
                return Err(error);
            };
            tracing::debug!(%error, number, "sending the request again");
            if !after.is_zero() {
                sleep(after).await;
            }
            number += 1;
            fresh = new;
        }
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
    pool: &'a Pool<H2Manager>,
    key: Key,
    /// Who asked, for leak detection.
    place: &'static Location<'static>,
    head: Request<()>,
    /// `None` when there is no body, and while an attempt has it.
    source: Option<Source<B>>,
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

    /// Sends the request once. The head is used up unless it is `repeatable`.
    async fn attempt(&mut self, repeatable: bool, fresh: bool) -> Result<Response<Body>, Failed> {
        let lease = match fresh {
            false => self.pool.acquire_from(&self.key, self.place).await,
            true => self.pool.acquire_fresh_from(&self.key, self.place).await,
        };
        let mut slot = match lease {
            Ok(lease) => Slot::new(lease),
            Err(error) => return Err(Failed { error: error.into(), reused: false }),
        };
        let reused = slot.is_reused();
        let head = match repeatable {
            true => self.head.clone(),
            false => mem::take(&mut self.head),
        };
        let no_content = head.method() == Method::HEAD;
        let sent = slot.connection().send_request(head, self.source.is_none());
        let (response, stream) = match sent {
            Ok(opened) => opened,
            Err(not_sent) => {
                if let NotSent::Gone(_) = not_sent {
                    slot.retire();
                }
                return Err(Failed { error: not_sent.into(), reused });
            }
        };
        let config = self.pool.manager().config();
        let upload = self.source.take().map(|source| Upload::new(source, stream));
        let mut exchange = Exchange::new(response, upload, config.response_timeout);
        let mut timer = pin!(None);
        let error = match poll_fn(|cx| exchange.poll(cx, timer.as_mut())).await {
            Ok(head) => return Ok(exchange.into_response(head, no_content, slot, config)),
            Err(Unanswered::Here(error)) => error,
            Err(Unanswered::Stream(error)) => {
                let closed = slot.note(&error);
                Error::from_stream(error, closed)
            }
        };
        self.source = exchange.upload.map(Upload::into_source);
        Err(Failed { error, reused })
    }
}

impl From<NotSent> for Error {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::Gone(source) => Self::Unprocessed {
                reason: source.reason().filter(|_| source.is_go_away() && source.is_remote()),
                source,
            },
            NotSent::Invalid => Self::InvalidRequest { reason: "its head is not valid in HTTP/2" },
        }
    }
}
