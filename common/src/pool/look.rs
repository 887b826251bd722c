//! The look at a connection out of the idle list, before it is lent.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::acquire::Step;
use super::slot::Held;
use crate::event::CloseCause;
use crate::lease::Lease;
use crate::manager::Manager;
use crate::policy::Check;
use crate::state::{ConnectionId, Fitness, Lent};

/// What a look says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Fine,
    Stale,
    ToBeChecked,
}

impl<M: Manager> Inner<M> {
    /// The peek, and whether a check has to follow. When the manager panics in here, the connection
    /// is lost and its slot comes back.
    #[inline(always)]
    pub(super) fn look(self: &Arc<Self>, lent: &mut Lent<Held<M>>) -> Look {
        if !(lent.was_idle && self.looks) {
            return Look::Fine;
        }
        let idle_for = Duration::from_nanos(lent.idle_nanos);
        if self.policy.peek {
            let guard = LostInPanic { inner: self, id: lent.id };
            let stale = self.manager.is_stale(lent.handle.get_mut(), idle_for);
            std::mem::forget(guard);
            if stale {
                return Look::Stale;
            }
        }
        if self.needs_check(idle_for) { Look::ToBeChecked } else { Look::Fine }
    }

    #[inline]
    pub(super) fn needs_check(&self, idle_for: Duration) -> bool {
        match self.policy.check {
            Check::Never => false,
            Check::Always => true,
            Check::IfIdleLonger => idle_for > self.policy.check_after,
        }
    }

    /// Holds a connection that did not pass, or has to be checked first.
    #[cold]
    #[inline(never)]
    pub(super) fn hold_doubtful<'a>(mut lease: Lease<M>, look: Look) -> Step<'a, M> {
        if look == Look::Stale {
            // Asked again it might say otherwise: what it found may be read away.
            lease.doubt(Some(CloseCause::PeekFailed));
            return Step::Inspect(lease);
        }
        Step::Check(lease)
    }
}

/// A connection that the manager looks at; gone for good when that panics.
struct LostInPanic<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    id: ConnectionId,
}

impl<M: Manager> Drop for LostInPanic<'_, M> {
    #[cold]
    fn drop(&mut self) {
        let lost = Fitness::Unfit(CloseCause::Lost);
        let leftover = self.inner.with(|state, now| state.release(self.id, None, lost, now));
        drop(leftover);
    }
}
