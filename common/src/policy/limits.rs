//! The part of a policy that can be changed while a pool runs: its numbers.

use super::Policy;

/// The limits of a pool, as [`Pool::set_limits`](crate::Pool::set_limits) and
/// [`State::set_limits`](crate::state::State::set_limits) take them.
///
/// Only these fields of a [`Policy`] can change while a pool runs. The other fields decide how the pool
/// works and how long its steps may take; to change those, build another pool. Start from the current
/// limits, so that the limits you do not name stay as they are:
///
/// ```
/// # use pool_common::{Policy, policy::Limits};
/// let policy = Policy::default();
/// let limits = Limits { max_open_per_key: Some(20), ..policy.limits() };
/// assert_eq!(policy.with_limits(limits).max_open_per_key, Some(20));
/// ```
///
/// `None` means "no limit", as in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Limits {
    /// [`Policy::max_open_per_key`].
    pub max_open_per_key: Option<u32>,
    /// [`Policy::max_open`].
    pub max_open: Option<u32>,
    /// [`Policy::max_leases_per_connection`].
    pub max_leases_per_connection: Option<u32>,
    /// [`Policy::max_idle_per_key`].
    pub max_idle_per_key: Option<u32>,
    /// [`Policy::max_idle`].
    pub max_idle: Option<u32>,
    /// [`Policy::min_idle`].
    pub min_idle: u32,
    /// [`Policy::max_waiters`].
    pub max_waiters: Option<u32>,
    /// [`Policy::max_dials_per_key`].
    pub max_dials_per_key: Option<u32>,
    /// [`Policy::max_dials`].
    pub max_dials: Option<u32>,
}

impl Policy {
    /// The limits of this policy.
    pub fn limits(&self) -> Limits {
        Limits {
            max_open_per_key: self.max_open_per_key,
            max_open: self.max_open,
            max_leases_per_connection: self.max_leases_per_connection,
            max_idle_per_key: self.max_idle_per_key,
            max_idle: self.max_idle,
            min_idle: self.min_idle,
            max_waiters: self.max_waiters,
            max_dials_per_key: self.max_dials_per_key,
            max_dials: self.max_dials,
        }
    }

    /// This policy with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        let Limits {
            max_open_per_key,
            max_open,
            max_leases_per_connection,
            max_idle_per_key,
            max_idle,
            min_idle,
            max_waiters,
            max_dials_per_key,
            max_dials,
        } = limits;
        Self {
            max_open_per_key,
            max_open,
            max_leases_per_connection,
            max_idle_per_key,
            max_idle,
            min_idle,
            max_waiters,
            max_dials_per_key,
            max_dials,
            ..self
        }
    }
}
