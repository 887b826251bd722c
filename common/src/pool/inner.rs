//! What all clones, leases and tasks of a pool share, the lock over the part that changes, and the node of a
//! lease: where a connection is kept while it is lent or idle.
//!
//! Imports in this directory go one way, down to this file. One call goes up: what the state wants
//! done after a call is done by `follow_up` in `perform.rs`, which [`Inner::unlock`] calls.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Id};
use tokio::sync::{Notify, watch};

use super::background::{Bounded, GRACE, KnownRuntime, Stops, Work};
use super::leaks::{Leaks, LeaseNumber};
use crate::clock::{Clock, Timestamp};
use crate::error::DialError;
use crate::event::{CloseCause, Event, Observer};
use crate::lending::{Lend, Lending};
use crate::manager::Manager;
use crate::metrics::{Meter, Since, Tally};
use crate::policy::{Check, Policy};
use crate::state::{Answer, ConnectionId, State};
use crate::stats::Status;
use crate::sync::lock::Lock;
use crate::sync::wait_cell::WaitCell;
use crate::sync::{Mutex, MutexGuard};

/// The cell of a waiter.
pub(crate) type CellOf<M> = Arc<WaitCell<Granted<M>>>;

pub(crate) type StateOf<M> =
    State<<M as Manager>::Key, Held<M>, DialError<<M as Manager>::Error>, CellOf<M>>;

/// What the lock guards, with the lock held.
pub(crate) type Guard<M> = MutexGuard<'static, Core<M>>;

/// An answer on its way from the state to its caller, and an unused node for its lease if there was one.
///
/// Nothing is given back when this is dropped. So there is only code that cannot panic between the state,
/// a waiter's cell and `hold`, which makes a lease, a dial or an error of it.
#[must_use = "what was granted would be lost"]
pub(crate) struct Granted<M: Manager> {
    pub(super) answer: Answer<Held<M>, DialError<M::Error>>,
    pub(super) node: Option<Box<Node<M>>>,
}

impl<M: Manager> Granted<M> {
    #[inline]
    pub(super) fn new(answer: Answer<Held<M>, DialError<M::Error>>, core: &mut Core<M>) -> Self {
        let node = if matches!(answer, Answer::Lend(_)) { core.take_node() } else { None };
        Self { answer, node }
    }
}

pub(crate) struct Inner<M: Manager> {
    /// Itself, for tasks and notifiers.
    pub(super) me: Weak<Self>,
    pub(super) manager: M,
    /// As it was built: its limits may have changed since, and only the state reads those.
    pub(super) policy: Policy,
    /// Whether a peek or a check comes before an idle connection is lent.
    pub(super) peeks_or_checks: bool,
    /// How often idle connections are looked at between leases.
    pub(super) look_every: Option<Duration>,
    pub(super) clock: Clock,
    pub(super) lock: Lock<Core<M>>,
    /// Memory for further nodes.
    pub(super) room: NodeRoom<M>,
    /// Tells background dials to stop.
    pub(super) shutdown: watch::Sender<bool>,
    /// Told when a closed pool has become empty, or when its maintenance task ended or moved to another
    /// runtime.
    pub(super) emptied: Notify,
    /// `acquire_timeout` in nanoseconds. A tick of the clock is added, so that it is never early.
    pub(super) longest_wait: u64,
    pub(super) observer: Option<Arc<dyn Observer<M::Key>>>,
    pub(super) meter: Meter,
    /// The table of leases; with leak detection only.
    pub(super) leaks: Option<Leaks>,
    /// Whether the log has said that a caller has to wait at a limit.
    pub(super) limit_said: AtomicBool,
    pub(super) runtime: KnownRuntime,
}

/// What the lock guards. The order of the fields is kept: the first ones are read by every lease, and
/// share a line of memory with the start of the state (decision 12).
#[repr(C, align(64))]
pub(crate) struct Core<M: Manager> {
    /// Unused nodes of shared connections, for the next leases. Each holds the pool, so a closed
    /// pool has none.
    pub(super) nodes: Vec<Box<Node<M>>>,
    /// When the maintenance task will look next.
    pub(super) armed: Timestamp,
    pub(super) state: StateOf<M>,
    /// How to stop the dials in progress that may turn out not to be needed.
    pub(super) stops: Stops,
    /// The tasks whose limits are watched.
    pub(super) bounded: Bounded,
    pub(super) idle_look: IdleLook,
    pub(super) keeper: Option<Keeper>,
    /// The runtime where the maintenance task could not run the last time.
    pub(super) failed_on: Option<Id>,
    /// tokio's clock was seen to run by itself, as in tests that pause it: deadlines by the pool's
    /// clock are not those of the callers.
    pub(super) clocks_differ: bool,
    /// The pool itself, for a lease that has given back its own hold on it with its connection. While
    /// there is any work, the subject of that work holds the pool.
    pub(super) pool: Weak<Inner<M>>,
    /// The pool, from a call that left its work to a call further up on the same thread: that call may
    /// not hold the pool itself.
    pub(super) left_by: Option<Arc<Inner<M>>>,
    /// What was reported of the state.
    pub(super) tally: Tally,
}

/// How far the looks at idle connections between leases have come.
pub(super) struct IdleLook {
    /// When the next turn is due; [`NEVER`](Timestamp::NEVER) while no connection is open.
    pub(super) due: Timestamp,
    /// Where it goes on in the table of connections.
    pub(super) place: u32,
}

/// The maintenance task, as the pool knows it.
pub(super) struct Keeper {
    /// Where it was spawned.
    pub(super) runtime: Id,
    /// Wakes the task: there is an earlier deadline, or the task is not needed any more. Also tells the
    /// task from those that came before it.
    pub(super) earlier: Arc<Notify>,
    /// When the task was started.
    pub(super) since: Timestamp,
    /// Whether the task has run: until then its runtime may have ended.
    pub(super) runs: bool,
    /// Whether the task sleeps until the deadline the pool is armed for. It does not while it works, nor
    /// when it was woken and has not looked yet.
    pub(super) asleep: bool,
}

impl<M: Manager> Inner<M> {
    pub(super) fn new(
        manager: M,
        mut state: StateOf<M>,
        clock: Clock,
        observer: Option<Arc<dyn Observer<M::Key>>>,
        meter: Meter,
        leaks: Option<Leaks>,
    ) -> Arc<Self> {
        let tally = meter.tally(&mut state);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            // A policy that never peeks does not look at idle connections either.
            look_every: manager.idle_look_interval().filter(|_| state.policy().peek),
            manager,
            policy: state.policy().clone(),
            peeks_or_checks: state.policy().peek || state.policy().check != Check::Never,
            longest_wait: longest_wait(state.policy().acquire_timeout, clock.resolution()),
            clock,
            lock: Lock::new(Core::new(Weak::clone(me), state, tally)),
            room: NodeRoom::new(),
            shutdown: watch::Sender::new(false),
            emptied: Notify::new(),
            observer,
            meter,
            leaks,
            limit_said: AtomicBool::new(false),
            runtime: KnownRuntime::default(),
        })
    }

    /// Under this lock the only user code is the `Hash`, `Eq`, `Clone` and `Drop` of keys, and the `Drop`
    /// of the last dial error; none of them should panic.
    #[inline]
    pub(super) fn lock(&self) -> Guard<M> {
        self.lock.lock()
    }

    pub(super) fn status(&self) -> Status {
        self.lock().state.status()
    }

    /// Locks, tells the state something, unlocks, and does what the state asks for.
    #[inline]
    pub(super) fn with<R>(
        self: &Arc<Self>,
        tell: impl FnOnce(&mut StateOf<M>, Timestamp) -> R,
    ) -> R {
        let now = self.clock.now();
        let mut core = self.lock();
        let result = tell(&mut core.state, now);
        self.unlock(core);
        result
    }

    /// Unlocks, and does what the state asks for.
    #[inline]
    pub(super) fn unlock(self: &Arc<Self>, core: Guard<M>) {
        if core.is_settled() {
            drop(core);
        } else {
            self.follow_up(core);
        }
    }

    /// Spawns work that ends by itself within `limit`, and has it dropped when it does not, on a runtime
    /// that stands still.
    pub(super) fn spawn_bounded(
        self: &Arc<Self>,
        runtime: &Handle,
        limit: Duration,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let work = Work::spawn(runtime, work);
        // A limit that overflows `Instant` never ends. Work that has ended needs no watch.
        let end = Instant::now().checked_add(limit.saturating_add(GRACE));
        let (Some(end), Some(work)) = (end, work) else { return };
        let now = self.clock.now();
        let mut core = self.lock();
        // Even in a closed pool: a caller that waits for its end depends on this work.
        core.bounded.add(end, &work);
        core.state.note_deadline(now.after(limit.saturating_add(GRACE)));
        let is_closed = core.state.is_closed();
        self.unlock(core);
        if is_closed {
            // From now on those callers depend on the task that watches this limit.
            self.emptied.notify_waiters();
        }
    }

    /// An observer that panics is reported and otherwise ignored: the rest of the work goes on.
    pub(super) fn tell(&self, events: &[Event<M::Key>]) {
        let Some(observer) = &self.observer else { return };
        for event in events {
            if catch_unwind(AssertUnwindSafe(|| observer.event(event))).is_err() {
                tracing::error!(target: "pool_common", "the pool's observer panicked");
            }
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Ends when the pool is closed. Holds no lock of the channel when it has ended: what follows
    /// runs the user's code.
    pub(super) async fn shut_down(&self) {
        let _ = self.shutdown.subscribe().wait_for(|stop| *stop).await;
    }
}

fn longest_wait(acquire_timeout: Option<Duration>, resolution: Duration) -> u64 {
    let limit = acquire_timeout.map(|limit| limit.saturating_add(resolution).as_nanos());
    limit.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(u64::MAX)
}

impl<M: Manager> Core<M> {
    fn new(pool: Weak<Inner<M>>, state: StateOf<M>, tally: Tally) -> Self {
        Self {
            pool,
            state,
            stops: Stops::default(),
            bounded: Bounded::default(),
            idle_look: IdleLook { due: Timestamp::NEVER, place: 0 },
            armed: Timestamp::NEVER,
            keeper: None,
            failed_on: None,
            clocks_differ: false,
            nodes: Vec::new(),
            left_by: None,
            tally,
        }
    }

    /// Whether there is nothing to follow up: no work, no event, no earlier deadline.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        !self.has_work() && !self.state.is_closed()
    }

    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.state.has_work()
            || self.state.noted_deadline() < self.armed
            || self.tally.lags(&self.state)
    }

    /// An unused node for a lease of a shared connection, if there is one.
    #[inline]
    pub(super) fn take_node(&mut self) -> Option<Box<Node<M>>> {
        if M::Lending::SHARED { self.nodes.pop() } else { None }
    }

    /// How to wake the maintenance task, without the lock: the pool is closed, or gone, and the task may
    /// end.
    pub(super) fn end_of_watch(&self) -> Option<Arc<Notify>> {
        self.keeper.as_ref().map(|keeper| Arc::clone(&keeper.earlier))
    }
}

/// What an unused lock guards: the inside of no pool.
impl<M: Manager> Default for Core<M> {
    fn default() -> Self {
        let state =
            State::with_attachments(Policy::default(), 0).expect("the default policy is valid");
        Self::new(Weak::new(), state, Tally::of_no_pool())
    }
}

impl<M: Manager> Drop for Inner<M> {
    fn drop(&mut self) {
        let core = self.lock.retire();
        if let Some(keeper) = core.end_of_watch() {
            keeper.notify_one();
        }
    }
}

/// How many nodes are made at a time at most: some 8 KiB.
const MOST_AT_A_TIME: usize = 64;

/// A lease without its connection, on the heap, so that a lease is one pointer wherever it is moved. The
/// node of an exclusive connection is made once, and waits in the state with it; nodes of shared
/// connections wait in [`Core`] while they are unused. What is not the connection fills one line of memory.
///
/// A node starts a line, and lies beside those that were made before and after it: see [`NodeRoom`].
#[repr(align(64))]
pub(crate) struct Node<M: Manager> {
    /// Kept between leases, so that no lease has to count it.
    pub(super) inner: Arc<Inner<M>>,
    /// Empty while the node is unused, which that of an exclusive connection never is.
    pub(super) handle: Option<M::Lending>,
    pub(crate) id: ConnectionId,
    pub(crate) idle_nanos: u64,
    pub(crate) reused: bool,
    /// Set when the connection must not be lent again.
    pub(super) verdict: Option<CloseCause>,
    pub(crate) since: Since,
    /// The lease in the table of leases; with leak detection only.
    pub(super) tracked: Option<LeaseNumber>,
}

impl<M: Manager> Node<M> {
    #[cold]
    pub(super) fn new(inner: &Arc<Inner<M>>, handle: Option<M::Lending>) -> Box<Self> {
        let node = Self {
            inner: Arc::clone(inner),
            handle,
            id: ConnectionId::default(),
            idle_nanos: 0,
            reused: false,
            verdict: None,
            since: Since::default(),
            tracked: None,
        };
        Box::write(inner.room.take(), node)
    }
}

/// Memory for the next nodes of a pool, some at a time: as many as there were so far, up to
/// [`MOST_AT_A_TIME`].
///
/// Dials allocate as well. Nodes made one at a time lie in whatever holes those leave, in an order that the
/// processor cannot foresee. With 100,000 idle connections, lent oldest first, a lease and its release then
/// take 2.1 times as long as with one, and 1.25 times so, where most nodes lie at one distance
/// (`cargo bench -p poolbench --bench performance -- flat`).
pub(crate) struct NodeRoom<M: Manager>(Mutex<Rooms<M>>);

struct Rooms<M: Manager> {
    /// The next one last.
    unused: Vec<Box<MaybeUninit<Node<M>>>>,
    /// How many were made so far.
    made: usize,
}

impl<M: Manager> NodeRoom<M> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Rooms { unused: Vec::new(), made: 0 }))
    }

    fn take(&self) -> Box<MaybeUninit<Node<M>>> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.unused.is_empty() {
            let more = rooms.made.clamp(1, MOST_AT_A_TIME);
            rooms.made = rooms.made.saturating_add(more);
            rooms.unused.extend((0..more).map(|_| Box::new_uninit()));
            rooms.unused.reverse();
        }
        rooms.unused.pop().expect("at least one was made")
    }
}

/// A connection that is not lent, as the state keeps it.
pub(crate) enum Held<M: Manager> {
    /// An exclusive connection, in the node of all its leases: lending it moves a pointer.
    Node(Box<Node<M>>),
    /// A handle of a shared connection.
    Handle(<M::Lending as Lending>::Handle),
}

impl<M: Manager> Lend for Held<M> {
    const SHARED: bool = M::Lending::SHARED;

    #[inline]
    fn another(&self) -> Option<Self> {
        match self {
            Self::Node(_) => None,
            Self::Handle(handle) => handle.another().map(Self::Handle),
        }
    }
}

impl<M: Manager> Held<M> {
    /// A connection that was just dialed.
    pub(super) fn new(inner: &Arc<Inner<M>>, handle: M::Lending) -> Self {
        match handle.into_handle() {
            Ok(handle) => Self::Handle(handle),
            Err(connection) => Self::Node(Node::new(inner, Some(connection))),
        }
    }

    pub(super) fn into_handle(self) -> M::Lending {
        match self {
            Self::Node(mut node) => node.handle.take().expect("it is in its node while idle"),
            Self::Handle(handle) => M::Lending::from_handle(handle),
        }
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::lending::{Exclusive, Shared};
    use crate::notifier::Notifier;

    struct Large<L>(std::marker::PhantomData<fn() -> L>);

    impl<L: Lending<Connection = [u64; 100]>> Manager for Large<L> {
        type Key = ();
        type Lending = L;
        type Error = Infallible;

        async fn connect(&self, (): &(), _: Notifier) -> Result<[u64; 100], Infallible> {
            Ok([0; 100])
        }
    }

    #[test]
    fn what_the_state_keeps_of_a_connection_is_small_however_large_that_is() {
        assert_eq!(size_of::<Option<Held<Large<Exclusive<[u64; 100]>>>>>(), 8);
        assert_eq!(size_of::<Option<Held<Large<Shared<[u64; 100]>>>>>(), 16);
    }
}
