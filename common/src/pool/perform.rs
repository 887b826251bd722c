//! Doing what the state asks for, with the lock released: grant, wake, tell, dial, close.

use std::sync::Arc;

use tokio::sync::Notify;

use super::inner::{CellOf, Core, Granted, Guard, Held, Inner, StateOf};
use super::maintenance::Rearm;
use super::release::Following;
use crate::event::Event;
use crate::manager::Manager;
use crate::metrics::Report;
use crate::state::Action;
use crate::sync::wait_cell::wake;

/// What was taken from the state under the lock, to be done without it.
struct Work<M: Manager> {
    actions: Vec<Action<M::Key, Held<M>>>,
    /// Grants, each with the cell of its waiter. There is no cell when the waiter's caller panicked before
    /// it had one.
    granted: Vec<(Option<CellOf<M>>, Granted<M>)>,
    /// Dials to stop.
    stops: Vec<Arc<Notify>>,
    events: Vec<Event<M::Key>>,
    rearm: Option<Rearm<M>>,
    report: Report,
}

impl<M: Manager> Core<M> {
    fn take_work(&mut self, inner: &Inner<M>) -> Work<M> {
        let mut work = Work {
            actions: Vec::new(),
            granted: Vec::new(),
            stops: Vec::new(),
            events: self.state.take_events(),
            rearm: None,
            report: self.tally.take(&mut self.state),
        };
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Wake(waiter) => {
                    // A waiter that has left since, or has found its grant, is not there any more.
                    let cell = self.state.detach(waiter);
                    let grant = StateOf::<M>::take_grant(&mut self.state, waiter);
                    if let Some(answer) = grant {
                        work.granted.push((cell, Granted::new(answer, self)));
                    }
                }
                // A dial that has ended meanwhile is not there any more.
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
            work.rearm = self.arm(deadline, inner.runtime.remembered(), inner.clock.now());
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
            // First all grants are where something gives them back: wakers run any code.
            let (mut wakers, mut refused) = (Vec::new(), Vec::new());
            for (cell, granted) in work.granted {
                let given = match cell {
                    Some(cell) => cell.give(granted),
                    None => Err(granted),
                };
                match given {
                    Ok(waker) => wakers.extend(waker),
                    Err(granted) => refused.push(self.hold(granted)),
                }
            }
            wakers.into_iter().for_each(wake);
            // Last: it may run the user's code, which must not cost other waiters their wake-ups.
            refused.into_iter().for_each(|step| self.pass_on(step));
            work.stops.iter().for_each(|stop| stop.notify_one());
            if let Some(rearm) = work.rearm {
                self.rearm(rearm);
            }
            self.tell(&work.events);
            self.meter.apply(work.report);
            let mut gone = Vec::new();
            for action in work.actions {
                match action {
                    Action::Dial { id, key } => self.start_dial(id, key),
                    Action::Close { id, handle, cause } => {
                        if self.close(id, handle, cause) {
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
                    self.emptied.notify_waiters();
                }
                return;
            }
        }
    }
}
