//! Looking at an idle connection: the peek and the check before it is lent, and the looks at idle
//! connections between leases. The peek itself, a read of the socket, is in `connect::socket`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::inner::{Core, Held, Inner};
use super::lease::Lease;
use super::release::Slot;
use super::timeout::TimeLimit;
use crate::clock::Timestamp;
use crate::error::{Error, Stage};
use crate::event::{CloseCause, Event, EventKind};
use crate::manager::Manager;
use crate::policy::{AfterFailedCheck, Check};
use crate::state::{ConnectionId, Lent};

/// Stands for a check timeout that overflows `Instant`: about 30 years, as in tokio's own timers.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// How many connections are looked at in one turn at most. Each is out of the pool for its look alone.
const LOOKS: usize = 64;

/// Over how many places of the table of connections a turn goes at most, those that are not idle
/// included.
const PLACES: u32 = 256;

/// The pause between two turns of one round over all connections: at most 1,280 looks a second, however
/// many connections are idle.
const NEXT_TURN: Duration = Duration::from_millis(50);

/// What the pool knows of a connection that it is about to lend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// It may go out as it is.
    Fine,
    /// It was idle, and has not been looked at yet.
    Unknown,
    /// The peek found it stale. It is discarded when the lease ends.
    Stale,
    /// The peek passed, and a check has to follow.
    ToBeChecked,
}

impl<M: Manager> Inner<M> {
    /// The peek at a connection that was just lent, and whether a check has to follow.
    #[inline]
    pub(super) fn peek(&self, lease: &mut Lease<M>, was_idle: bool) -> Condition {
        if !(was_idle && self.peeks_or_checks) {
            Condition::Fine
        } else if self.policy.peek && lease.is_stale() {
            // A second peek might find nothing: what the first one found may have been read away.
            lease.doubt(Some(CloseCause::PeekFailed));
            Condition::Stale
        } else if self.needs_check(lease.idle_for()) {
            Condition::ToBeChecked
        } else {
            Condition::Fine
        }
    }

    #[inline]
    fn needs_check(&self, idle_for: Duration) -> bool {
        match self.policy.check {
            Check::Never => false,
            Check::Always => true,
            Check::IfIdleLonger => idle_for > self.policy.check_after,
        }
    }

    /// Checks a connection. `None` when it did not pass, or not within `check_timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time of the acquire is up first.
    pub(super) async fn check(
        self: &Arc<Self>,
        key: &M::Key,
        mut lease: Lease<M>,
        acquire: &TimeLimit,
    ) -> Result<Option<Lease<M>>, Error<M::Error>> {
        // Until the check has passed, dropping the lease discards the connection.
        lease.doubt(Some(CloseCause::Lost));
        let began = self.clock.now();
        let now = Instant::now();
        let limit = now.checked_add(self.policy.check_timeout).unwrap_or(now + FAR);
        let limit = acquire.deadline.map_or(limit, |deadline| deadline.min(limit));
        let (connection, idle_for) = (lease.connection_id(), lease.idle_for());
        self.tell_of_check(key, connection, EventKind::Checking);
        let checked = timeout_at(limit, self.manager.check(lease.handle_mut(), idle_for)).await;
        match checked {
            Ok(Ok(())) => {
                lease.doubt(None);
                self.tell_of_check(key, connection, EventKind::Checked);
                Ok(Some(lease))
            }
            Ok(Err(error)) => {
                tracing::debug!(target: "pool_common", ?key, %error, "check failed");
                self.check_failed(lease, began);
                Ok(None)
            }
            Err(_) if acquire.is_over() => {
                // A peer that lets callers run into their deadlines has failed, too. But a caller that
                // had waited for most of its time has not given the peer a chance.
                let had = acquire.elapsed();
                if self.with(|state, _| state.has_had_its_chance(connection, now.elapsed(), had)) {
                    self.check_failed(lease, began);
                } else {
                    lease.discard_for(CloseCause::Lost);
                }
                Err(self.timed_out(key, Stage::Check, acquire.elapsed()))
            }
            Err(_) => {
                self.check_failed(lease, began);
                Ok(None)
            }
        }
    }

    /// The other connections are marked first, so that no caller is lent one of them in between.
    fn check_failed(self: &Arc<Self>, lease: Lease<M>, began: Timestamp) {
        if self.distrusts() {
            self.with(|state, now| state.distrust(lease.connection_id(), began, now));
        }
        lease.discard_for(CloseCause::CheckFailed);
    }

    pub(super) fn distrusts(&self) -> bool {
        self.policy.after_failed_check == AfterFailedCheck::Distrust
    }

    /// Reports one step of a check, which the state does not see. Without an observer this is one
    /// comparison.
    fn tell_of_check(&self, key: &M::Key, connection: ConnectionId, kind: EventKind) {
        if self.observer.is_some() {
            self.tell(&[Event { at: self.clock.now(), key: key.clone(), connection, kind }]);
        }
    }

    /// One turn of looks, from the maintenance task: looks at connections that have been idle since before
    /// the last round, and notes when the next turn is due. The manager is asked without the lock, about
    /// one connection after another.
    pub(super) fn look_at_idle(self: &Arc<Self>, every: Duration) {
        let now = self.clock.now();
        // No underflow near the start of a clock.
        let idle_since = Timestamp::ZERO.after(now.since(Timestamp::ZERO.after(every)));
        let mut core = self.lock();
        let all = core.state.connection_places();
        let mut place = if core.idle_look.place < all { core.idle_look.place } else { 0 };
        // Not beyond the end: there the round is complete, and the next one has its own time.
        let mut places = PLACES.min(all - place);
        let mut looks = 0;
        while looks < LOOKS
            && let Some(lent) = core.state.take_for_look(&mut place, &mut places, idle_since, now)
        {
            self.unlock(core);
            looks += 1;
            look_at(lent);
            core = self.lock();
        }
        // Behind the last place follows the first.
        let is_complete = place == 0;
        core.idle_look.place = place;
        core.idle_look.due = if core.state.status().open == 0 || core.state.is_closed() {
            Timestamp::NEVER
        } else {
            now.after(if is_complete { every } else { NEXT_TURN })
        };
        self.unlock(core);
    }
}

impl<M: Manager> Core<M> {
    /// A connection was dialed: looks between leases begin, if the manager wants them.
    pub(super) fn begin_looks(&mut self, every: Duration, now: Timestamp) {
        if self.idle_look.due == Timestamp::NEVER && !self.state.is_closed() {
            self.idle_look.due = now.after(every);
            self.state.note_deadline(self.idle_look.due);
        }
    }
}

/// Asks the manager about one connection, and gives it back. Without the lock: when the manager
/// panics, the slot takes the lock to discard the connection.
fn look_at<M: Manager>(lent: Lent<Held<M>>) {
    let mut slot = Slot::new(lent, || unreachable!("an exclusive connection is in its node"));
    if let Ok(gone) = catch_unwind(AssertUnwindSafe(|| slot.is_broken())) {
        slot.put_back(gone);
    }
}
