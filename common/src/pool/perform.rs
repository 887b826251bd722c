//! Doing what the state asks for, with the lock released: dial, wake, close, tell.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, TryCurrentError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument;

use super::Inner;
use super::inner::{Core, GrantOf, StateOf};
use super::lock::{Guard, Lock};
use super::maintenance::Summons;
use super::seat::Seat;
use super::slot::{Held, Node};
use super::stop::stopped;
use crate::connect::granted_until;
use crate::error::DialError;
use crate::event::{CloseCause, Event, EventKind};
use crate::lending::Lending;
use crate::manager::{Connection, DialFailure, Manager};
use crate::metrics::Report;
use crate::notifier::{Listener, Notifier};
use crate::state::{Action, ConnectionId, Lent};
use crate::sync::thread_local;

/// What was taken from the state under the lock, to be done without it.
struct Work<M: Manager> {
    actions: Vec<Action<M::Key, Held<M>>>,
    granted: Vec<Granted<M>>,
    /// Dials to stop.
    stops: Vec<Arc<Notify>>,
    events: Vec<Event<M::Key>>,
    summons: Option<Summons<M>>,
    report: Report,
}

/// What a waiter was granted, and what its lease will be made of.
struct Granted<M: Manager> {
    /// Empty when its caller came to grief before it had one.
    seat: Option<Arc<Seat<M>>>,
    grant: GrantOf<M>,
    node: Option<Box<Node<M>>>,
}

/// A waker that panics is reported and otherwise ignored: the rest of the work is not its.
#[inline]
pub(super) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!(target: "pool_common", "the waker of one who waits panicked");
    }
}

impl<M: Manager> Core<M> {
    fn take_work(&mut self, inner: &Inner<M>) -> Work<M> {
        let mut work = Work {
            actions: Vec::new(),
            granted: Vec::new(),
            stops: Vec::new(),
            events: self.state.take_events(),
            summons: None,
            report: self.tally.take(&mut self.state),
        };
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Wake(waiter) => {
                    // One that has left since, or found it by itself, is not there any more.
                    let seat = self.state.detach(waiter);
                    let grant = StateOf::<M>::take_grant(&mut self.state, waiter);
                    if let Some(grant) = grant {
                        work.granted.push(Granted { seat, grant, node: self.take_node() });
                    }
                }
                // One that has ended meanwhile is not there any more.
                Action::StopDial(id) => work.stops.extend(self.stops.get(id)),
                action => {
                    if let Action::Dial { id, .. } = action
                        && inner.stops_dials()
                    {
                        self.stops.add(id);
                    }
                    work.actions.push(action);
                }
            }
        }
        let deadline = self.state.noted_deadline();
        if deadline < self.armed {
            work.summons = self.arm(deadline, inner.remembered_runtime(), inner.clock.now());
        }
        work
    }
}

impl<M: Manager> Inner<M> {
    /// Does everything the state asks for, and everything that follows from that, one after
    /// another: what a step of it causes in turn (a task that cannot be spawned ends, its dial
    /// fails, the next is due) is left to the loop that is running, however long the chain.
    #[cold]
    pub(super) fn follow_up(self: &Arc<Self>, mut core: Guard<M>) {
        let Some(_following) = Following::start(self.lock) else {
            // That a closed pool is empty has to be told as well.
            if core.has_work() || (core.state.is_closed() && core.state.is_empty()) {
                core.left_by = Some(Arc::clone(self));
            }
            return;
        };
        loop {
            // Not the last reference: it is dropped under the lock.
            core.left_by = None;
            let work = core.take_work(self);
            drop(core);
            // First all of it is held by what gives it back when something goes wrong.
            let hold = |granted: Granted<M>| {
                let Granted { seat, grant, node } = granted;
                (seat, self.hold_grant(node, grant))
            };
            let held: Vec<_> = work.granted.into_iter().map(hold).collect();
            let mut refused = Vec::new();
            for (seat, step) in held {
                let given = match seat {
                    Some(seat) => seat.give(step),
                    None => Err(step),
                };
                match given {
                    Ok(waker) => waker.into_iter().for_each(wake),
                    Err(step) => refused.push(step),
                }
            }
            // Last: it may run the user's code, and what that does is not those others' affair.
            refused.into_iter().for_each(|step| self.pass_on(step));
            work.stops.iter().for_each(|stop| stop.notify_one());
            if let Some(summons) = work.summons {
                self.summon(summons);
            }
            self.tell(&work.events);
            self.meter.apply(work.report);
            let mut gone = Vec::new();
            for action in work.actions {
                match action {
                    Action::Dial { id, key } => self.start_dial(id, key),
                    Action::Close { id, handle, cause } => {
                        if self.say_goodbye(id, handle, cause) {
                            gone.push(id);
                        }
                    }
                    Action::Wake(_) | Action::StopDial(_) => {
                        unreachable!("both were taken under the lock")
                    }
                }
            }
            let now = self.clock.now();
            core = self.lock();
            for id in gone {
                core.state.closed(id, now);
            }
            if !core.has_work() {
                let emptied = core.state.is_closed() && core.state.is_empty();
                let left_by = core.left_by.take();
                drop(core);
                drop(left_by);
                if emptied {
                    self.tell_closing();
                }
                return;
            }
        }
    }

    /// An observer that panics is reported and otherwise ignored: the rest of the work is not its.
    fn tell(&self, events: &[Event<M::Key>]) {
        let Some(observer) = &self.observer else { return };
        for event in events {
            if catch_unwind(AssertUnwindSafe(|| observer.event(event))).is_err() {
                tracing::error!(target: "pool_common", "the pool's observer panicked");
            }
        }
    }

    /// Tells of one step of a check, which the state does not see. Without an observer this is one
    /// comparison.
    pub(super) fn tell_of_check(&self, key: &M::Key, connection: ConnectionId, kind: EventKind) {
        if self.observer.is_some() {
            self.tell(&[Event { at: self.clock.now(), key: key.clone(), connection, kind }]);
        }
    }

    /// Closes a connection; `true` when that is over, else [`closed`](crate::state::State::closed)
    /// follows from a task. A goodbye that has to wait gets `close_timeout`; outside a runtime, or
    /// when it panics, the connection is dropped.
    fn say_goodbye(self: &Arc<Self>, id: ConnectionId, held: Held<M>, cause: CloseCause) -> bool {
        let here = Handle::try_current();
        if here.as_ref().is_err_and(TryCurrentError::is_thread_local_destroyed) {
            // The thread ends, and tokio's part of it is gone: there is no runtime to be entered.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
            return true;
        }
        let runtime = here.ok().or_else(|| self.remembered_runtime());
        let _entered = runtime.as_ref().map(Handle::enter);
        let handle = held.into_handle();
        let inner = Arc::clone(self);
        let mut goodbye = Box::pin(async move { inner.manager.close(handle).await });
        let mut context = Context::from_waker(Waker::noop());
        // A subscriber that panics costs no more than a manager that does.
        let first_poll = || {
            tracing::debug!(target: "pool_common", id = id.as_u64(), %cause, "close");
            goodbye.as_mut().poll(&mut context)
        };
        let polled = catch_unwind(AssertUnwindSafe(first_poll));
        if polled.is_err() {
            let tell =
                || tracing::error!(target: "pool_common", id = id.as_u64(), "close panicked");
            let _ = catch_unwind(AssertUnwindSafe(tell));
        }
        let (Ok(Poll::Pending), Some(runtime)) = (polled, &runtime) else {
            // With the connection, if that is still in there.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(goodbye)));
            return true;
        };
        // In this order, also where the task is dropped before it began: the place comes back when the
        // connection is gone.
        let both = (goodbye, Farewell { inner: Arc::clone(self), id });
        let limit = self.policy.close_timeout;
        self.spawn_bounded(runtime, limit, async move {
            let (goodbye, _farewell) = both;
            if tokio::time::timeout(limit, goodbye).await.is_err() {
                tracing::debug!(target: "pool_common", "a goodbye took too long and was cut");
            }
        });
        false
    }

    fn start_dial(self: &Arc<Self>, id: ConnectionId, key: M::Key) {
        let ticket = Ticket::new(Arc::clone(self), id);
        let Some(runtime) = self.runtime() else {
            tracing::error!(target: "pool_common", "no tokio runtime to dial in");
            return;
        };
        let inner = Arc::clone(self);
        let stop = if self.stops_dials() { self.lock().stops.get(id) } else { None };
        self.spawn_bounded(&runtime, self.policy.dial_timeout, async move {
            tokio::select! {
                biased;
                () = inner.shut_down() => drop(ticket),
                () = stopped(stop.as_deref()) => ticket.give_up(),
                result = inner.dial(id, &key, None) => drop(ticket.finish(result)),
            }
        });
    }

    /// One dial, bounded by `dial_timeout`; `deadline` is its caller's, which the connector is told
    /// of.
    pub(super) async fn dial(
        self: &Arc<Self>,
        id: ConnectionId,
        key: &M::Key,
        deadline: Option<Instant>,
    ) -> Result<Connection<M>, DialError<M::Error>> {
        let listener: Weak<dyn Listener> = self.me.clone();
        let span = tracing::debug_span!(target: "pool_common", "dial", id = id.as_u64(), ?key);
        let connect = self.manager.connect(key, Notifier::new(listener, id)).instrument(span);
        // A time beyond all time is no deadline.
        let limit = Instant::now().checked_add(self.policy.dial_timeout);
        let granted = [limit, deadline].into_iter().flatten().min();
        let connect = self.meter.time_dial(granted_until(granted, connect));
        let result = match tokio::time::timeout(self.policy.dial_timeout, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(DialError::Failed(Arc::new(error))),
            Err(_) => Err(DialError::TimedOut(self.policy.dial_timeout)),
        };
        match &result {
            Ok(_) => tracing::debug!(target: "pool_common", id = id.as_u64(), ?key, "dialed"),
            Err(error) => {
                tracing::debug!(target: "pool_common", id = id.as_u64(), ?key, %error, "no dial");
            }
        }
        result
    }
}

thread_local! {
    /// The lock of the pool whose work this thread is doing, and whether more of it was left to that meanwhile.
    static FOLLOWED: Cell<(*const (), bool)> = const { Cell::new((ptr::null(), false)) };
}

/// Marks that this thread does the work of a pool, until it is dropped.
pub(super) struct Following((*const (), bool));

impl Following {
    /// `None` when it does so already; the work is left to that, and the pool in
    /// [`left_by`](Core::left_by).
    #[inline]
    pub(super) fn start<M: Manager>(lock: Lock<M>) -> Option<Self> {
        let pool = lock.address();
        let before = FOLLOWED.get();
        let is_first = before.0 != pool;
        FOLLOWED.set((pool, !is_first));
        // Not `then_some`: one that is made in vain would be dropped.
        if is_first { Some(Self(before)) } else { None }
    }

    /// Whether work was left to it.
    #[inline]
    pub(super) fn was_left_work(&self) -> bool {
        FOLLOWED.get().1
    }
}

impl Drop for Following {
    #[inline]
    fn drop(&mut self) {
        FOLLOWED.set(self.0);
    }
}

/// A dial in progress: its place in the limits comes back whatever happens to it.
pub(super) struct Ticket<M: Manager> {
    inner: Arc<Inner<M>>,
    id: ConnectionId,
    /// Whether a caller dials, who may leave without that being the peer's fault.
    by_caller: bool,
    done: bool,
}

impl<M: Manager> Ticket<M> {
    fn new(inner: Arc<Inner<M>>, id: ConnectionId) -> Self {
        Self { inner, id, by_caller: false, done: false }
    }

    pub(super) fn for_caller(inner: Arc<Inner<M>>, id: ConnectionId) -> Self {
        Self { inner, id, by_caller: true, done: false }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Whether the peer answered and turned this client away. May panic; the ticket is still open then.
    fn is_denied(&self, error: &DialError<M::Error>) -> bool {
        match error {
            DialError::Failed(error) => {
                self.inner.manager.dial_failure(error) == DialFailure::Denied
            }
            DialError::TimedOut(_)
            | DialError::GivenUp(_)
            | DialError::Abandoned
            | DialError::Broken => false,
        }
    }

    /// The time of the caller that dialed is up, `dialing` after the dial began. That says something of
    /// the peer only where dials are usually faster.
    pub(super) fn run_out(self, dialing: Duration) {
        let is_overdue = self.inner.with(|state, now| state.is_overdue(self.id, now));
        if is_overdue {
            drop(self.finish(Err(DialError::GivenUp(dialing))));
        } else {
            self.give_up();
        }
    }

    /// The dial is not needed any more, which is nobody's failure.
    fn give_up(mut self) {
        self.done = true;
        self.forget_stop();
        self.inner.with(|state, now| state.dial_failed(self.id, None, now));
    }

    fn forget_stop(&self) {
        if !self.by_caller && self.inner.stops_dials() {
            self.inner.lock().stops.remove(self.id);
        }
    }

    /// Reports the result. Returns the connection when the caller dialed and the pool is open.
    pub(super) fn finish(
        mut self,
        result: Result<Connection<M>, DialError<M::Error>>,
    ) -> Result<Option<Lent<Held<M>>>, DialError<M::Error>> {
        let dialed = result.map(|connection| {
            // May panic; the ticket is still open then.
            let capacity = self.inner.manager.capacity(&connection);
            (Held::new(&self.inner, M::Lending::new(connection)), capacity)
        });
        // So may this.
        let denied = dialed.as_ref().is_err_and(|error| self.is_denied(error));
        self.done = true;
        self.forget_stop();
        let (held, capacity) = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return Err(self.fail(error, denied)),
        };
        let now = self.inner.clock.now();
        let mut core = self.inner.lock();
        // The connection said that it is gone before its dial was over: the dial failed.
        if core.state.is_gone(self.id) {
            core.state.dial_failed(self.id, Some(DialError::Broken), now);
            self.inner.unlock(core);
            // Dropped without the lock.
            drop(held);
            return Err(DialError::Broken);
        }
        let lent = core.state.dialed(self.id, held, capacity, now);
        if let Some(every) = self.inner.look_every {
            core.begin_looks(every, now);
        }
        self.inner.unlock(core);
        Ok(lent)
    }

    fn fail(&self, error: DialError<M::Error>, denied: bool) -> DialError<M::Error> {
        let told = error.clone();
        self.inner.with(|state, now| match denied {
            true => state.dial_denied(self.id, told, now),
            false => state.dial_failed(self.id, Some(told), now),
        });
        error
    }
}

impl<M: Manager> Drop for Ticket<M> {
    fn drop(&mut self) {
        if !self.done {
            self.forget_stop();
            let panicked = std::thread::panicking();
            self.inner.with(|state, now| match (panicked, self.by_caller) {
                (true, _) => state.dial_failed(self.id, Some(DialError::Abandoned), now),
                (false, true) => state.dial_failed(self.id, None, now),
                // Its task was dropped, with its runtime or by `bounded`, or could not be spawned.
                (false, false) => state.dial_lost(self.id, now),
            });
        }
    }
}

/// A goodbye in progress: the place in the limits comes back when it ends, however it ends.
struct Farewell<M: Manager> {
    inner: Arc<Inner<M>>,
    id: ConnectionId,
}

impl<M: Manager> Drop for Farewell<M> {
    fn drop(&mut self) {
        self.inner.with(|state, now| state.closed(self.id, now));
    }
}
