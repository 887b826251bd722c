//! The look at a connection out of the idle list, before it is lent.

use std::time::Duration;

use super::Inner;
use super::acquire::Step;
use crate::event::CloseCause;
use crate::lease::Lease;
use crate::manager::Manager;
use crate::policy::Check;

/// The result of a look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Fine,
    Stale,
    ToBeChecked,
}

impl<M: Manager> Inner<M> {
    /// The peek, and whether a check has to follow.
    #[inline(always)]
    pub(super) fn look(&self, lease: &mut Lease<M>, was_idle: bool) -> Look {
        if !(was_idle && self.looks) {
            Look::Fine
        } else if self.policy.peek && lease.is_stale() {
            Look::Stale
        } else if self.needs_check(lease.idle_for()) {
            Look::ToBeChecked
        } else {
            Look::Fine
        }
    }

    #[inline]
    pub(super) fn needs_check(&self, idle_for: Duration) -> bool {
        match self.policy.check {
            Check::Never => false,
            Check::Always => true,
            Check::IfIdleLonger => idle_for > self.policy.check_after,
        }
    }
}

impl<M: Manager> Step<'_, M> {
    /// What follows a look.
    #[inline(never)]
    pub(super) fn looked_at(mut lease: Lease<M>, look: Look) -> Self {
        match look {
            Look::Fine => Self::Ready(lease),
            Look::ToBeChecked => Self::Check(lease),
            Look::Stale => {
                // Asked again it might say otherwise: what it found may be read away.
                lease.doubt(Some(CloseCause::PeekFailed));
                Self::Stale(lease)
            }
        }
    }
}
