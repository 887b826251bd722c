//! The policy, worked out once, for the fast path of the state.

use std::time::Duration;

use super::{AfterFailedDial, AtLimit, DialForWaiters, Expiry, IdleOrder, Policy, WaiterOrder};
use crate::clock::Timestamp;

/// What the fast path of the state asks of a policy, as numbers and flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Precomputed {
    pub(crate) idle_timeout: u64,
    pub(crate) max_idle_per_key: u32,
    pub(crate) max_open_per_key: u32,
    /// Whether every caller queues at the limit, and is served in the order of arrival.
    pub(crate) queues_at_limit: bool,
    pub(crate) newest_first: bool,
    /// Whether the connection that is lent next is drawn at random.
    pub(crate) random: bool,
    /// Whether every lease takes the slow path, with or without a listener.
    pub(crate) at_length: bool,
    /// Whether idle connections are closed by a timer of their key.
    pub(crate) timed_idle: bool,
    /// Whether idle connections are closed by sweeps.
    pub(crate) swept_idle: bool,
    pub(crate) global_idle: bool,
    pub(crate) prune: bool,
    pub(crate) timed_lifetimes: bool,
    /// Whether there is a limit over all keys, so that an idle connection of one can be in the way
    /// of another.
    pub(crate) crowded: bool,
    /// Whether a limit over all keys, on connections or dials, can keep a key from dialing.
    pub(crate) contested: bool,
    /// Whether there is a floor to keep.
    pub(crate) floor: bool,
    /// Whether the idle timeout leaves the floor alone.
    pub(crate) spares_floor: bool,
    /// Whether it matters when a key was asked for last: for its floor, or for probes.
    pub(crate) notes_demand: bool,
}

impl Precomputed {
    /// When a connection that is idle from `now` on has been so for too long.
    #[inline]
    pub(crate) fn idle_end(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_nanos(now.as_nanos().saturating_add(self.idle_timeout).saturating_add(1))
    }

    pub(crate) fn new(policy: &Policy) -> Self {
        let nanos = |d: Option<Duration>| {
            d.map_or(u64::MAX, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
        };
        let timed = matches!(policy.expiry, Expiry::Timer | Expiry::Sweep);
        let swept_idle = policy.expiry == Expiry::Sweep && policy.idle_timeout.is_some();
        let crowded = policy.max_idle.is_some() || policy.max_open.is_some();
        let prune = policy.expiry == Expiry::PruneAtAcquire
            && (policy.idle_timeout.is_some() || policy.max_lifetime.is_some());
        let floor = policy.min_idle > 0;
        Self {
            idle_timeout: nanos(policy.idle_timeout),
            max_idle_per_key: policy.max_idle_per_key.unwrap_or(u32::MAX),
            max_open_per_key: policy.max_open_per_key.unwrap_or(u32::MAX),
            queues_at_limit: policy.at_limit == AtLimit::Wait
                && policy.max_waiters.is_none()
                && policy.waiter_order != WaiterOrder::Random,
            newest_first: policy.idle_order == IdleOrder::NewestFirst,
            random: policy.idle_order == IdleOrder::Random,
            at_length: policy.max_uses.is_some() || policy.idle_order == IdleOrder::Random,
            timed_idle: policy.expiry == Expiry::Timer && policy.idle_timeout.is_some(),
            swept_idle,
            global_idle: crowded || swept_idle,
            prune,
            timed_lifetimes: timed && policy.max_lifetime.is_some(),
            crowded,
            contested: policy.max_open.is_some()
                || policy.max_dials.is_some()
                || policy.dial_for_waiters == DialForWaiters::Opener,
            floor,
            spares_floor: floor && policy.idle_timeout_spares_floor,
            notes_demand: floor || policy.after_failed_dial == AfterFailedDial::FailFast,
        }
    }
}
