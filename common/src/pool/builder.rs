//! Building a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::leaks::Leaks;
use super::{Inner, Pool};
use crate::clock::Clock;
use crate::error::InvalidPolicy;
use crate::event::Observer;
use crate::manager::Manager;
use crate::metrics::{Meter, Plan};
use crate::policy::Policy;
use crate::state::State;

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
    pub(super) fn new(manager: M) -> Self {
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
    /// [`Pool::leases`](super::Pool::leases) lists all that are out. The lease itself goes on.
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
        Ok(Pool::from_inner(inner))
    }
}
