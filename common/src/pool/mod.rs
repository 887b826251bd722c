//! The async shell: lock, ask the state, unlock; then dial, wake, close.
//!
//! | file | what it does |
//! |---|---|
//! | `inner` | what all parts share: the pool's inside, its lock, a connection as the state keeps it, the memory behind a lease |
//! | `acquire`, `waiting`, `timeout`, `times` | the future of an acquire, its place in the queue, its deadline, where its time went |
//! | `peek` | the peek and the check before lending |
//! | `dial` | a dial by a caller or in the background, and what a connection reports later (retired, new capacity) |
//! | `lease`, `release` | what a caller holds, and its way back |
//! | `perform`, `close` | what the state asks for; closing a connection, and the pool |
//! | `maintenance`, `background`, `leaks` | the one task, the time limits of other tasks, leases that are out |

mod acquire;
mod background;
mod close;
mod dial;
mod inner;
mod leaks;
mod lease;
mod maintenance;
mod peek;
mod perform;
mod release;
mod timeout;
mod times;
mod waiting;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub use acquire::Acquiring;
pub use leaks::LeaseInfo;
pub use lease::Lease;
pub use times::AcquireTimes;

use self::inner::Inner;
use self::leaks::Leaks;
use crate::clock::Clock;
use crate::error::InvalidPolicy;
use crate::event::Observer;
use crate::manager::Manager;
use crate::metrics::{Meter, Plan};
use crate::policy::{Limits, Policy};
use crate::state::{ConnectionId, State};
use crate::stats::{Stats, Status};

/// A connection pool. Cheap to clone; every clone is the same pool.
///
/// Dropping the last clone closes the pool: idle connections at once, leased ones when they come
/// back. The pool needs a tokio runtime with time enabled from the first acquire that finds no
/// idle connection on; building it needs none.
pub struct Pool<M: Manager>(Arc<Owner<M>>);

/// Closes the pool with the last clone; leases, tasks and idle connections hold the inside only.
struct Owner<M: Manager>(Arc<Inner<M>>);

impl<M: Manager> Drop for Owner<M> {
    fn drop(&mut self) {
        self.0.start_close();
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<M: Manager> Pool<M> {
    /// A pool over `manager`, with [`Policy::default`] until told otherwise.
    pub fn builder(manager: M) -> Builder<M> {
        Builder::new(manager)
    }

    fn inner(&self) -> &Arc<Inner<M>> {
        &self.0.0
    }

    /// Takes a connection for `key`: an idle one in the policy's order, else a new one where the
    /// limits allow, else the next that comes back.
    ///
    /// The [`Lease`] gives the connection back when it is dropped.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout) after `acquire_timeout` (one deadline over queue, dial and check),
    /// [`Error::Dial`](crate::Error::Dial) when the dial it depended on failed, [`Error::Exhausted`](crate::Error::Exhausted) and
    /// [`Error::TooManyWaiters`](crate::Error::TooManyWaiters) at the limits, [`Error::BackingOff`](crate::Error::BackingOff) while dials are paused,
    /// [`Error::Closed`](crate::Error::Closed) after [`close`](Pool::close).
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue. A connection that had been assigned
    /// goes to the next waiter; a dial in the caller's own task is dropped and its place goes to
    /// the next waiter; a dial of the pool's own goes on or ends, as
    /// [`Policy::orphan_dial`] says; a connection being checked is closed. A future that is neither
    /// polled nor dropped keeps what it was assigned.
    ///
    /// # Panics
    /// When it has to dial, or to wait with its own timer, outside a tokio runtime with time enabled.
    #[inline]
    #[track_caller]
    pub fn acquire<'a>(&'a self, key: &'a M::Key) -> Acquiring<'a, M> {
        self.acquire_from(key, Location::caller())
    }

    /// As [`acquire`](Pool::acquire), but insists on a connection that was just dialed. At the
    /// limit the longest idle one makes way; while all are leased, or the only dial that is
    /// allowed at a time is for another caller, the next connection that comes back is accepted, and
    /// while dials pause an idle one (database/sql's `alwaysNewConn`).
    ///
    /// # Errors
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Pool::acquire).
    #[track_caller]
    pub fn acquire_fresh<'a>(&'a self, key: &'a M::Key) -> Acquiring<'a, M> {
        self.acquire_fresh_from(key, Location::caller())
    }

    /// As [`acquire`](Pool::acquire), for code that acquires on behalf of another: leak detection
    /// says that the lease was taken at `place`, not here.
    ///
    /// # Errors
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Pool::acquire).
    #[inline]
    pub fn acquire_from<'a>(
        &'a self,
        key: &'a M::Key,
        place: &'static Location<'static>,
    ) -> Acquiring<'a, M> {
        Acquiring::new(self.inner(), key, false, place)
    }

    /// As [`acquire_fresh`](Pool::acquire_fresh), for code that acquires on behalf of another; see
    /// [`acquire_from`](Pool::acquire_from).
    ///
    /// # Errors
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Pool::acquire).
    pub fn acquire_fresh_from<'a>(
        &'a self,
        key: &'a M::Key,
        place: &'static Location<'static>,
    ) -> Acquiring<'a, M> {
        Acquiring::new(self.inner(), key, true, place)
    }

    /// Takes the idle connection that comes first, if there is one and it needs no check; never
    /// waits, never dials.
    #[track_caller]
    pub fn try_acquire(&self, key: &M::Key) -> Option<Lease<M>> {
        let place = Location::caller();
        let mut lease = self.inner().try_acquire(key)?;
        lease.track(place);
        Some(lease)
    }

    /// Dials the floor (`min_idle`) of `key` in the background, before its first acquire. Does
    /// nothing when the policy has no floor.
    ///
    /// Inside a tokio runtime the dials begin at once. Outside of one, when no acquire has been made inside one
    /// yet, there is nothing to dial in: the dials count as failed and are tried again later.
    pub fn warm_up(&self, key: &M::Key) {
        self.inner().runtime.remember();
        self.inner().with(|state, now| state.warm_up(key, now));
    }

    /// The present state of the pool.
    pub fn status(&self) -> Status {
        self.inner().status()
    }

    /// The counts of the pool so far.
    pub fn stats(&self) -> Stats {
        self.inner().lock().state.stats()
    }

    /// The leases that are out, longest held first: of which connection, for which key, for how
    /// long, and in which line of the program they were taken. A lease that is being reset after
    /// its return is still out. Costs a walk over all of them.
    ///
    /// Empty unless [`Builder::leak_detection`] is on: only then is it known.
    pub fn leases(&self) -> Vec<LeaseInfo<M::Key>> {
        self.inner().leases()
    }

    /// The policy it follows, with the limits as they are now. Takes the pool's lock and copies;
    /// where only other fields are asked for, [`initial_policy`](Pool::initial_policy) is cheaper.
    pub fn policy(&self) -> Policy {
        self.inner().lock().state.policy().clone()
    }

    /// The policy it was built with. All but its limits still holds.
    pub fn initial_policy(&self) -> &Policy {
        &self.inner().policy
    }

    /// The limits as they are now.
    pub fn limits(&self) -> Limits {
        self.inner().lock().state.policy().limits()
    }

    /// Changes the limits while the pool runs; the whole policy is checked with them.
    ///
    /// ```
    /// # use pool_common::{InvalidPolicy, Limits, Manager, Pool};
    /// # fn grow<M: Manager>(pool: &Pool<M>) -> Result<(), InvalidPolicy> {
    /// pool.set_limits(Limits { max_open_per_key: Some(20), ..pool.limits() })
    /// # }
    /// ```
    ///
    /// Where there is more room, waiters are served and floors filled at once. Where there
    /// is less, no lease is cut off: surplus idle connections are closed at once, leased ones when
    /// they come back, dials end as they would have, and nothing is dialed until fewer are open
    /// than the limit; a shared connection beyond the limit takes no new leases from the first that
    /// comes back. See [`State::set_limits`](crate::state::State::set_limits) for each limit.
    ///
    /// `max_open` or `max_open_per_key` of 0 *pauses* the pool, as PgBouncer's `PAUSE` does: idle
    /// connections are closed, leased ones when they come back, nothing is dialed, and acquires wait
    /// until their deadline; with [`AtLimit::Fail`](crate::policy::AtLimit) they fail. Raising the
    /// limit again serves those that wait. Only a running pool can be paused: a policy with a limit of
    /// 0 is not valid.
    ///
    /// Two callers that change limits at the same time may overwrite each other's: the last one wins.
    ///
    /// # Errors
    /// [`InvalidPolicy`] when the policy with these limits makes no sense; nothing has changed then.
    pub fn set_limits(&self, limits: Limits) -> Result<(), InvalidPolicy> {
        self.inner().runtime.remember();
        self.inner().with(|state, now| state.set_limits(limits, now))
    }

    /// The protocol's side of it.
    pub fn manager(&self) -> &M {
        &self.inner().manager
    }

    /// Replaces every connection there is now. For what changes while the old still works:
    /// credentials that overlap, other settings, backends to be balanced anew. When no old one may
    /// be used again, call [`retire_all_now`](Pool::retire_all_now).
    ///
    /// Idle connections are closed at once, leased ones when they come back, and one being dialed
    /// serves the caller it was dialed for, once. A pool that keeps a floor
    /// ([`Policy::min_idle`] with [`Floor::Kept`](crate::policy::Floor)) makes before it breaks, key
    /// by key:
    ///
    /// - Up to `min_idle` idle connections stay in service and their successors are dialed. Each
    ///   successor that becomes idle closes an old one, so no caller has to wait for a dial.
    /// - An old one is lent only while no newer connection can be lent. When it comes back it
    ///   serves on, unless the floor has been remade.
    /// - While dials fail the old ones serve on, for as long as it takes; the dial is tried again
    ///   after its pause.
    /// - No limit is exceeded. Where `max_open_per_key` or `max_open` leaves no room for a
    ///   successor, an old one is closed before its successor is dialed, one at a time. A floor of
    ///   one connection at a limit of one is empty meanwhile.
    ///
    /// Returns at once; the rest happens in the background.
    pub fn retire_all(&self) {
        self.inner().with(|state, now| state.retire_all(now));
    }

    /// No connection there is now is lent again: idle ones are closed at once, leased ones when
    /// they come back, and one being dialed serves the caller it was dialed for, once. For a
    /// failover, when the old ones lead nowhere, or credentials that were revoked.
    ///
    /// A floor is empty until it has been dialed again; see [`retire_all`](Pool::retire_all) for
    /// when that matters. Also ends whatever `retire_all` has left in service.
    pub fn retire_all_now(&self) {
        self.inner().with(|state, now| state.retire_all_now(now));
    }

    /// No new lease of this connection; it ends with those that are out.
    pub fn retire(&self, connection: ConnectionId) {
        self.inner().with(|state, now| {
            state.retire(connection, crate::event::CloseCause::Retired, now);
        });
    }

    /// Closes the pool without waiting: waiters and later acquires fail with [`Error::Closed`](crate::Error::Closed),
    /// idle connections are closed, leased ones when they come back, dials are stopped.
    pub fn start_close(&self) {
        self.inner().start_close();
    }

    /// Closes the pool and waits until nothing is left: no lease, no dial, no connection.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool closed; only the waiting ends.
    pub async fn close(&self) {
        self.inner().start_close();
        self.inner().wait_until_empty().await;
    }

    /// As [`close`](Pool::close), but waits at most `limit`. Returns whether nothing is left.
    ///
    /// # Cancel safety
    /// As [`close`](Pool::close).
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn close_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.close()).await.is_ok()
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.inner().lock().state.is_closed()
    }
}

/// Builds a [`Pool`]. Only the manager is required.
#[must_use = "a builder does nothing before `build`"]
pub struct Builder<M: Manager> {
    manager: M,
    policy: Policy,
    clock: Clock,
    seed: Option<u64>,
    observer: Option<Arc<dyn Observer<M::Key>>>,
    /// What is reported; set by `metrics`, where there is that feature.
    pub(crate) reporting: Plan,
    leaks_after: Option<Duration>,
}

impl<M: Manager> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<M: Manager> Builder<M> {
    fn new(manager: M) -> Self {
        Self {
            manager,
            policy: Policy::default(),
            clock: Clock::default(),
            seed: None,
            observer: None,
            reporting: Plan::default(),
            leaks_after: None,
        }
    }

    /// The strategy: a [`profile`](crate::profile)'s policy, or your own. Default
    /// [`Policy::default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Changes single fields of the policy: of the default, or of what [`policy`](Self::policy) set
    /// before.
    pub fn change_policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// The manager, for builders of clients that wrap this one and change it until the pool is built.
    pub fn manager_mut(&mut self) -> &mut M {
        &mut self.manager
    }

    /// Where the pool reads the time. Default [`Clock::coarse`]. With a paused tokio clock use
    /// [`Clock::tokio`]: otherwise expiry, and the `acquire_timeout` of waiters, follow that clock only
    /// roughly.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Decides everything random in the pool: jitter, and the order of waiters where it is random.
    /// Default: a different one for each pool.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Reports everything that happens to a connection to `observer`. Default none, which costs nothing.
    /// An observer that holds the pool keeps it open.
    pub fn observer(mut self, observer: impl Observer<M::Key>) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Looks for leaks: a lease that is held longer than `after` is reported once, by a
    /// `tracing` event of level `WARN` and target `pool_common` that says the connection, its key,
    /// how long it has been out and in which line it was taken; and
    /// [`Pool::leases`] lists all that are out. The lease itself goes on.
    ///
    /// Every acquire and release then costs a second, short lock; more when it is contended.
    /// Reports come from the pool's maintenance task, so they need a runtime.
    /// With [`Duration::MAX`] nothing is reported, but `leases` can be asked.
    ///
    /// Default off, which costs nothing that can be measured.
    pub fn leak_detection(mut self, after: Duration) -> Self {
        self.leaks_after = Some(after);
        self
    }

    /// The pool. Dials nothing yet.
    ///
    /// # Errors
    /// [`InvalidPolicy`] when the policy makes no sense.
    pub fn build(self) -> Result<Pool<M>, InvalidPolicy> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let mut state = State::with_attachments(self.policy, seed)?;
        state.listen(self.observer.is_some());
        let meter = Meter::new(self.reporting);
        let leaks = self.leaks_after.map(Leaks::new);
        let inner = Inner::new(self.manager, state, self.clock, self.observer, meter, leaks);
        // The limits are reported from the start.
        inner.with(|_, _| ());
        Ok(Pool(Arc::new(Owner(inner))))
    }
}
