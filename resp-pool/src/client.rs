//! The client: commands over the pool, repeated as the policy says.

use std::{fmt, time::Duration};

use pool_common::{
    Policy, Pool, Stats, Status,
    policy::Retry,
    retry::{Count, Verdict},
};

use tokio::time::{Instant, timeout_at};

use crate::{
    Lease,
    builder::{BuildError, ClientBuilder},
    command::{Request, cmd},
    command_table,
    config::Config,
    connection::Connection,
    error::{Error, Stage},
    from_value::FromValue,
    key::Key,
    manager::Manager,
    pipeline::{self, Pipeline},
    retry::{self, Failure},
    value::Value,
};

/// Sends commands to one server and database over a pool of connections. Cheap to clone; every
/// clone uses the same pool.
///
/// Each command borrows a connection for itself. For what has to stay on one connection
/// (`WATCH`, subscriptions, several commands in a row) [`acquire`](Self::acquire) one.
#[derive(Clone)]
pub struct Client {
    pool: Pool<Manager>,
    key: Key,
}

impl Client {
    /// A client for a URL (see [`Config::from_url`]) with [`default_policy`](Self::default_policy).
    /// Dials nothing yet.
    ///
    /// # Errors
    /// [`BuildError::Config`] when the URL makes no sense.
    pub fn open(url: &str) -> Result<Self, BuildError> {
        Self::builder().config(Config::from_url(url)?).build()
    }

    /// A client whose policy, config and parts can be chosen.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// [`Policy::default`] with the retry rule that suits RESP:
    /// [`Retry::ReusedAndReplayable`]. A server may close an idle connection at any time, and the
    /// command that meets the close is sent again when it only reads or was not sent at all.
    ///
    /// Start from this to change single knobs; [`Policy::default`] never sends anything again.
    ///
    /// ```
    /// use resp_pool::{Client, Policy};
    /// # fn main() -> Result<(), resp_pool::BuildError> {
    /// let policy = Policy { max_open_per_key: Some(20), ..Client::default_policy() };
    /// let client = Client::builder().policy(policy).build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn default_policy() -> Policy {
        Policy { retry: Retry::ReusedAndReplayable, ..Policy::default() }
    }

    /// The same pool, another database. Connections are not shared between databases.
    #[must_use]
    pub fn with_database(&self, database: u32) -> Self {
        Self { pool: self.pool.clone(), key: self.key.with_database(database) }
    }

    /// Acquires a connection, sends one command on it and converts the reply.
    ///
    /// After a failure the command is sent again where the policy's [`Retry`] rule allows it.
    ///
    /// # Time
    /// All attempts and the pauses between them end within the time that one attempt may take:
    /// `acquire_timeout` of the policy, plus [`write_timeout`](crate::Settings::write_timeout), plus
    /// [`read_timeout`](crate::Settings::read_timeout) or the [command's own](crate::Command::timeout).
    /// With the defaults that is 30 s + 5 s + 5 s. A time limit that has passed is never followed by
    /// another attempt: a server that does not answer costs `read_timeout`, and a pool that has no
    /// connection to lend costs `acquire_timeout`. go-redis gives each attempt its times anew. Where one
    /// of the three has no limit, the call has none.
    ///
    /// # What is sent again
    /// No rule sends a command again that may have been carried out, unless it only reads (see
    /// [`Error::may_have_executed`]). Here [`Retry::Attempts`] differs from go-redis on purpose: that
    /// one repeats writes whose reply was lost as well, and an `INCR` then counts twice.
    ///
    /// # Errors
    /// [`Error::Acquire`] when there is no connection, otherwise as for [`Connection::query`]; the
    /// last failure when several attempts failed.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the command's outcome: a connection with a request in
    /// flight is discarded.
    ///
    /// That makes blocking commands safe to give up. When a `BLPOP` is dropped (in a `select!`, or by
    /// a timeout around it), its connection is closed, the server forgets that the client waits, and
    /// the next element stays in the list. With clients that keep the connection, or share it, the
    /// server still pops that element for the call that has gone. Only an element that the server had
    /// popped already, with its reply on the way, is lost; `BLMOVE` into a second list keeps that
    /// element, too.
    pub async fn query<T: FromValue>(&self, request: &(impl Request + ?Sized)) -> Result<T, Error> {
        if self.pool.initial_policy().retry == Retry::Never {
            return self.acquire().await?.query(request).await;
        }
        let value = self.carry_out(&Single(request)).await?;
        Ok(T::from_value(value).map_err(|error| error.answering(request.part(0)))?)
    }

    /// Sends several commands in one write and returns their replies in order; error replies are
    /// values. Sent again as a whole, and only when nothing of it had been sent.
    ///
    /// # Time
    /// Each reply may take [`read_timeout`](crate::Settings::read_timeout), so that a long pipeline may
    /// take longer than one command. An attempt after the first ends, whatever it waits for, when the
    /// time of [`query`](Self::query) has passed since the call began.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.carry_out(pipeline).await
    }

    /// As [`pipeline`](Self::pipeline), converted: a tuple or a list with one element for each
    /// command. The first error reply is the error of the whole.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn pipeline_as<T: FromValue>(&self, pipeline: &Pipeline) -> Result<T, Error> {
        pipeline::convert(self.pipeline(pipeline).await?)
    }

    /// Carries out commands as a transaction; see [`Connection::transaction`]. Without a `WATCH` it
    /// is never `None`, so the replies come as they are. Sent again as a whole, and only when nothing
    /// of it had been sent. Its time is that of a [`pipeline`](Self::pipeline).
    ///
    /// # Errors
    /// [`Error::Aborted`] when the server says that a watched key had changed, although none is
    /// watched. Others as for [`Connection::transaction`] and [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn transaction(&self, commands: &Pipeline) -> Result<Vec<Value>, Error> {
        self.carry_out(&Atomic(commands)).await
    }

    /// `GET`; a missing key is `None` with `T = Option<_>`.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn get<T: FromValue>(&self, key: impl AsRef<[u8]> + Sync) -> Result<T, Error> {
        self.query(&[&b"GET"[..], key.as_ref()]).await
    }

    /// `SET` without an expiry.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn set(
        &self,
        key: impl AsRef<[u8]> + Sync,
        value: impl AsRef<[u8]> + Sync,
    ) -> Result<(), Error> {
        self.query(&[&b"SET"[..], key.as_ref(), value.as_ref()]).await
    }

    /// `SET` with an expiry in whole milliseconds (`PX`), at least one.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn set_for(
        &self,
        key: impl AsRef<[u8]> + Sync,
        value: impl AsRef<[u8]> + Sync,
        time: Duration,
    ) -> Result<(), Error> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let command = cmd("SET").arg(key.as_ref()).arg(value.as_ref()).arg(("PX", millis));
        self.query(&command).await
    }

    /// `DEL`; whether the key was there.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn del(&self, key: impl AsRef<[u8]> + Sync) -> Result<bool, Error> {
        self.query(&[&b"DEL"[..], key.as_ref()]).await
    }

    /// `INCRBY`; the number after it.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn incr(&self, key: impl AsRef<[u8]> + Sync, by: i64) -> Result<i64, Error> {
        self.query(&cmd("INCRBY").arg(key.as_ref()).arg(by)).await
    }

    /// Borrows a connection. It goes back when the lease is dropped, after a reset if its session
    /// was changed; [`release`](pool_common::Lease::release) waits for that reset.
    ///
    /// # Errors
    /// [`Error::Acquire`].
    ///
    /// # Cancel safety
    /// As for [`Pool::acquire`].
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<Lease, Error>> + Send {
        let lease = self.pool.acquire(&self.key);
        async { lease.await.map_err(Error::from) }
    }

    /// Borrows a connection that was just dialed.
    ///
    /// # Errors
    /// [`Error::Acquire`].
    ///
    /// # Cancel safety
    /// As for [`Pool::acquire_fresh`].
    #[track_caller]
    pub fn acquire_fresh(&self) -> impl Future<Output = Result<Lease, Error>> + Send {
        let lease = self.pool.acquire_fresh(&self.key);
        async { lease.await.map_err(Error::from) }
    }

    /// Dials the policy's floor of idle connections (`min_idle`) before the first command.
    pub fn warm_up(&self) {
        self.pool.warm_up(&self.key);
    }

    /// The key that all connections of this client share.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The pool, to look at or to close. It holds the connections of other databases as well.
    pub fn pool(&self) -> &Pool<Manager> {
        &self.pool
    }

    /// Where connections lead, and how they behave. Not the database of
    /// [`with_database`](Self::with_database), which the [`key`](Self::key) knows.
    pub fn config(&self) -> &Config {
        self.pool.manager().config()
    }

    /// The present state of the pool.
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// The counts of the pool so far.
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }

    /// Closes the pool and waits until nothing is left. Later commands fail.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool closed; only the waiting ends.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn carry_out<J: Job>(&self, job: &J) -> Result<J::Output, Error> {
        let policy = self.pool.initial_policy();
        let started = Instant::now();
        let mut count = Count::first(policy);
        let mut fresh = false;
        // The first attempt keeps to the total by its own limits.
        let mut limit: Option<Limit> = None;
        let mut last = None;
        loop {
            let lease =
                async { if fresh { self.acquire_fresh().await } else { self.acquire().await } };
            let lease = match (limit, last) {
                // Boxed like every part of a further attempt: the future of a call stays small.
                (Some(limit), Some(last)) => match Box::pin(timeout_at(limit.at, lease)).await {
                    Ok(lease) => lease,
                    Err(_) => return Err(last),
                },
                _ => lease.await,
            };
            let (error, reused) = match lease {
                Ok(mut lease) => match within(limit, job.run(&mut lease)).await {
                    Ok(output) => return Ok(output),
                    Err(error) => (error, lease.is_reused()),
                },
                Err(error) => (error, false),
            };
            let failure = Failure { error: &error, count, reused, read_only: job.is_read_only() };
            let verdict = retry::next(policy, &failure, fastrand::f64());
            let Verdict::Again { fresh: next_fresh, pause } = verdict else {
                return Err(error);
            };
            limit = self.total_time(job).and_then(|total| Limit::new(started, total));
            if limit.is_some_and(|limit| limit.left() <= pause) {
                return Err(error);
            }
            tracing::debug!(target: "resp_pool", number = count.number(), %error, "trying again");
            if !pause.is_zero() {
                Box::pin(tokio::time::sleep(pause)).await;
            }
            count = count.next();
            fresh = next_fresh;
            last = Some(error);
        }
    }

    /// The longest time of one attempt, which is also the limit of all attempts together. `None` when
    /// any part of it has no limit.
    fn total_time(&self, job: &impl Job) -> Option<Duration> {
        let settings = &self.config().settings;
        let acquire = self.pool.initial_policy().acquire_timeout?;
        let read = job.read_timeout().unwrap_or(settings.read_timeout)?;
        acquire.checked_add(settings.write_timeout?)?.checked_add(read)
    }
}

/// The time limit of a call, all attempts and pauses together.
#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    total: Duration,
}

impl Limit {
    /// `None` when the limit is beyond the clock's range.
    fn new(started: Instant, total: Duration) -> Option<Self> {
        Some(Self { at: started.checked_add(total)?, total })
    }

    fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Awaits `run`, one attempt of a call, until `limit`; a first attempt has none.
async fn within<T>(
    limit: Option<Limit>,
    run: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    let Some(Limit { at, total }) = limit else { return run.await };
    // Dropping the call leaves the connection unfit to be lent again.
    let timeout = Error::Timeout { stage: Stage::Read, sent: true, after: total };
    Box::pin(timeout_at(at, run)).await.unwrap_or(Err(timeout))
}

/// A client over a pool that was built by hand, for the server and database of its manager's
/// [`Config`]. Its policy starts from [`Client::default_policy`] in most cases; a retry rule that does
/// not suit RESP is logged.
impl From<Pool<Manager>> for Client {
    fn from(pool: Pool<Manager>) -> Self {
        let rule = pool.initial_policy().retry;
        if !retry::hides_closed_connections(rule) {
            tracing::warn!(
                target: "resp_pool",
                retry = rule.word(),
                "this retry rule repeats no command whose reused connection was closed by the server; \
                 take Client::default_policy() as the base of a policy, or set retry",
            );
        }
        let key = pool.manager().config().to_key();
        Self { pool, key }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("key", &self.key).field("pool", &self.pool).finish()
    }
}

/// Something that is carried out on one connection and may be carried out again.
trait Job: Sync {
    type Output;

    fn run(
        &self,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;

    fn is_read_only(&self) -> bool {
        false
    }

    /// As [`Request::read_timeout`].
    fn read_timeout(&self) -> Option<Option<Duration>> {
        None
    }
}

struct Single<'a, R: ?Sized>(&'a R);

impl<R: Request + ?Sized> Job for Single<'_, R> {
    type Output = Value;

    async fn run(&self, connection: &mut Connection) -> Result<Value, Error> {
        connection.query(self.0).await
    }

    fn is_read_only(&self) -> bool {
        self.0.part(0).is_some_and(command_table::is_read_only)
    }

    fn read_timeout(&self) -> Option<Option<Duration>> {
        self.0.read_timeout()
    }
}

impl Job for Pipeline {
    type Output = Vec<Value>;

    async fn run(&self, connection: &mut Connection) -> Result<Vec<Value>, Error> {
        connection.pipeline(self).await
    }
}

struct Atomic<'a>(&'a Pipeline);

impl Job for Atomic<'_> {
    type Output = Vec<Value>;

    async fn run(&self, connection: &mut Connection) -> Result<Vec<Value>, Error> {
        let replies = connection.transaction(self.0).await?;
        replies.ok_or(Error::Aborted)
    }
}
