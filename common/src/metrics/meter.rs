//! The interface for the pool: it takes differences of counts under its lock, and times dials and leases.

use std::future::Future;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::instruments::{Instruments, Limits};
use super::names::{LIMITS, Metrics};
use crate::error::Error;
use crate::lending::Lend;
use crate::manager::Manager;
use crate::pool::{Builder, Lease};
use crate::state::State;
use crate::stats::{Stats, Status};

/// The metrics that the builder was asked for.
pub(crate) type Plan = Option<Metrics>;

impl<M: Manager> Builder<M> {
    /// Reports the pool's activity through the `metrics` crate, to the recorder that is installed
    /// when the pool is built; see [`metrics`](crate::metrics) for the names. By default a pool reports
    /// nothing, at no cost.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.reporting = Some(metrics);
        self
    }
}

/// Reports to the recorder, if the pool was built with metrics.
pub(crate) struct Meter(Option<Box<Instruments>>);

impl Meter {
    pub(crate) fn new(plan: Plan) -> Self {
        Self(plan.map(|metrics| Box::new(Instruments::new(metrics))))
    }

    /// Makes the record of the numbers of `state` that were reported last.
    pub(crate) fn tally<K, L, E, W>(&self, state: &mut State<K, L, E, W>) -> Tally
    where
        K: Clone + Eq + Hash,
        L: Lend,
        E: Clone,
    {
        state.record_ages(self.0.is_some());
        Tally { reporting: self.0.is_some(), reported: Box::default() }
    }

    /// Reports the changes. Called without the pool's lock.
    pub(crate) fn apply(&self, report: Report) {
        let (Some(instruments), Some(changes)) = (&self.0, report.0) else { return };
        let Changes { before, now, ages } = *changes;
        instruments.report_status(&before.status, &now.status);
        instruments.report_stats(&before.stats, &now.stats);
        instruments.report_limits(&before.limits, &now.limits);
        ages.into_iter().for_each(|age| instruments.ended(age));
    }

    /// An idle connection was lent, and its caller did not wait.
    #[inline]
    pub(crate) fn hit<M: Manager>(&self, lease: &mut Lease<M>) {
        if let Some(instruments) = &self.0 {
            instruments.granted(lease, Duration::ZERO);
        }
    }

    /// The time for a later call of [`waited`](Self::waited).
    pub(crate) fn now(&self) -> Since {
        Since(self.0.as_ref().map(|instruments| instruments.nanos()))
    }

    /// An acquire that found no idle connection has been polled.
    #[inline]
    pub(crate) fn waited<M: Manager>(
        &self,
        result: &mut Poll<Result<Lease<M>, Error<M::Error>>>,
        since: &Since,
    ) {
        if let (Some(instruments), Poll::Ready(result)) = (&self.0, result) {
            instruments.ended_waiting(result, since);
        }
    }

    /// Times a dial.
    pub(crate) async fn time_dial<T, E>(
        &self,
        connect: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(instruments) = &self.0 else { return connect.await };
        let started = Instant::now();
        let result = connect.await;
        if result.is_ok() {
            instruments.created(started.elapsed());
        }
        result
    }

    /// A lease ends.
    #[inline]
    pub(crate) fn used(&self, since: Since) {
        if let (Some(since), Some(instruments)) = (since.0, &self.0) {
            instruments.returned(since);
        }
    }
}

/// Out of line, so that the code of a pool that does not report stays short.
impl Instruments {
    #[cold]
    fn granted<M: Manager>(&self, lease: &mut Lease<M>, waited: Duration) {
        self.acquired(waited);
        lease.slot.node_mut().since = Since(Some(self.nanos()));
    }

    #[cold]
    fn ended_waiting<M: Manager>(
        &self,
        result: &mut Result<Lease<M>, Error<M::Error>>,
        since: &Since,
    ) {
        match result {
            Ok(lease) => self.granted(lease, since.0.map_or(Duration::ZERO, |at| self.since(at))),
            Err(Error::Timeout { .. }) => self.timed_out(),
            Err(_) => {}
        }
    }

    #[cold]
    fn returned(&self, since: NonZeroU64) {
        self.used(self.since(since));
    }

    fn since(&self, earlier: NonZeroU64) -> Duration {
        Duration::from_nanos(self.nanos().get().saturating_sub(earlier.get()))
    }

    /// Nanoseconds since the handles were registered, plus one.
    fn nanos(&self) -> NonZeroU64 {
        let nanos = u64::try_from(self.registered_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        NonZeroU64::MIN.saturating_add(nanos)
    }
}

/// The time at which a caller began to wait or got its lease, in nanoseconds. `None` while the pool
/// itself looks at the connection, or without metrics.
#[derive(Debug, Default)]
pub(crate) struct Since(Option<NonZeroU64>);

/// The numbers that were reported last. Guarded by the pool's lock.
#[derive(Default)]
pub(crate) struct Tally {
    reporting: bool,
    reported: Box<Numbers>,
}

/// The numbers that are compared.
#[derive(Clone, Default)]
struct Numbers {
    status: Status,
    stats: Stats,
    limits: Limits,
}

/// The changes to report once the lock is released.
pub(crate) struct Report(Option<Box<Changes>>);

struct Changes {
    before: Numbers,
    now: Numbers,
    ages: Vec<Duration>,
}

impl Tally {
    pub(crate) fn of_no_pool() -> Self {
        Self::default()
    }

    /// Whether there is something new to report.
    #[inline]
    pub(crate) fn lags<K, L, E, W>(&self, state: &State<K, L, E, W>) -> bool
    where
        K: Clone + Eq + Hash,
        L: Lend,
        E: Clone,
    {
        self.reporting && self.differs(state)
    }

    fn differs<K, L, E, W>(&self, state: &State<K, L, E, W>) -> bool
    where
        K: Clone + Eq + Hash,
        L: Lend,
        E: Clone,
    {
        self.reported.status != state.status()
            || self.reported.stats != state.stats()
            || self.reported.limits != limits(state)
    }

    /// The changes since the last call.
    pub(crate) fn take<K, L, E, W>(&mut self, state: &mut State<K, L, E, W>) -> Report
    where
        K: Clone + Eq + Hash,
        L: Lend,
        E: Clone,
    {
        if !self.lags(state) {
            return Report(None);
        }
        let ages = state.take_ages();
        let now = Numbers { status: state.status(), stats: state.stats(), limits: limits(state) };
        let before = std::mem::replace(&mut *self.reported, now.clone());
        Report(Some(Box::new(Changes { before, now, ages })))
    }
}

fn limits<K, L, E, W>(state: &State<K, L, E, W>) -> Limits
where
    K: Clone + Eq + Hash,
    L: Lend,
    E: Clone,
{
    if state.is_closed() {
        return [None; LIMITS.len()];
    }
    std::array::from_fn(|at| (LIMITS[at].read)(state.policy()))
}
