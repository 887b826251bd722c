//! The limits: what stands in the way of a dial (`max_open`, `max_open_per_key`, `max_dials` and the other
//! bounds of the policy), and what is open beyond a limit that was lowered.
//!
//! Plain functions of the policy and of what is counted. What follows, when a limit leaves room and when it
//! does not, is in [`dialing`](super::dialing) and [`places`](super::places).

use super::Status;
use super::keys::KeyEntry;
use crate::clock::Timestamp;
use crate::policy::{Dial, Policy};

/// What stands in the way of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// `max_open_per_key`.
    KeyFull,
    /// `max_open`.
    PoolFull,
    /// A pause after failures.
    Paused,
    /// The peer allows no lease on the connection there is.
    Useless,
    /// `max_dials_per_key`; or a dial for all waiters of the key is in progress.
    Dialing,
    /// `dial_ramp`.
    Ramp,
    /// `max_dials_per_second`.
    Rate,
    /// `max_dials`.
    DialsFull,
}

/// What stands in the way of a dial for a key, if anything does. `is_paused`: whether dials of the key
/// pause after failures.
pub(super) fn obstacle<K, E>(
    entry: &KeyEntry<K, E>,
    is_paused: impl FnOnce() -> bool,
    policy: &Policy,
    status: &Status,
    now: Timestamp,
) -> Option<Obstacle> {
    let (dials, pace) = (&entry.dials, &entry.pace);
    // A dial for all waiters is in progress. Overdue dials do not count.
    let others = dials.refilling() + dials.stopping() + dials.overdue();
    let is_shared_dial = dials.in_progress() > others;
    let failures = entry.backoff.failures();
    if is_reached(policy.max_open_per_key, entry.open) {
        Some(Obstacle::KeyFull)
    } else if is_paused() {
        Some(Obstacle::Paused)
    } else if entry.useless > 0 {
        Some(Obstacle::Useless)
    } else if is_reached(policy.max_dials_per_key, dials.in_progress())
        || (policy.dial == Dial::Shared && is_shared_dial)
    {
        Some(Obstacle::Dialing)
    } else if pace.ramp_holds(entry.live(), dials.in_progress(), failures, policy, now) {
        Some(Obstacle::Ramp)
    } else if pace.rate_holds(policy, now) {
        Some(Obstacle::Rate)
    } else if dials_are_full(policy, status) {
        Some(Obstacle::DialsFull)
    } else if pool_is_full(policy, status) {
        // Last, so that no connection of another key makes way for a dial that may not start.
        Some(Obstacle::PoolFull)
    } else {
        None
    }
}

fn is_reached(max: Option<u32>, taken: u32) -> bool {
    max.is_some_and(|max| taken >= max)
}

fn is_exceeded(max: Option<u32>, taken: u32) -> bool {
    max.is_some_and(|max| taken > max)
}

/// How much room a limit leaves.
fn room(max: Option<u32>, taken: u32) -> u32 {
    max.map_or(u32::MAX, |max| max.saturating_sub(taken))
}

/// Whether `max_open` is reached.
pub(super) fn pool_is_full(policy: &Policy, status: &Status) -> bool {
    is_reached(policy.max_open, status.open)
}

/// Whether `max_dials` are in progress.
pub(super) fn dials_are_full(policy: &Policy, status: &Status) -> bool {
    is_reached(policy.max_dials, status.dialing)
}

/// Whether more connections of a key are open than its limit allows, those that are closing not counted.
pub(super) fn key_is_above<K, E>(entry: &KeyEntry<K, E>, policy: &Policy) -> bool {
    is_exceeded(policy.max_open_per_key, entry.open - entry.closing)
}

/// Whether more connections are open than `max_open` allows, those that are closing not counted.
pub(super) fn pool_is_above(policy: &Policy, status: &Status) -> bool {
    is_exceeded(policy.max_open, status.open - status.closing)
}

/// How many more dials of a key the limits allow once the ramp does.
pub(super) fn room_above_ramp<K, E>(
    entry: &KeyEntry<K, E>,
    policy: &Policy,
    status: &Status,
) -> u32 {
    room(policy.max_open_per_key, entry.open).min(room(policy.max_open, status.open))
}

/// How many places in the pool's limit the waiters of a key could use at once: at least one, if there
/// are any. Less than the ramp allows at times; then the next place is asked for when a dial has ended.
///
/// `looked_at`: how many connections of the key are being looked at, each of which serves a waiter.
pub(super) fn places_lacked<K, E>(entry: &KeyEntry<K, E>, looked_at: u32, policy: &Policy) -> u32 {
    let dialing = entry.dials.in_progress();
    let damped = match policy.dial_ramp {
        Some(_) => entry.live().max(1).saturating_sub(dialing),
        None => u32::MAX,
    };
    let together = if policy.dial == Dial::Shared { 1 } else { u32::MAX };
    let most = room(policy.max_open_per_key, entry.open)
        .min(room(policy.max_dials_per_key, dialing))
        .min(damped)
        .min(together);
    let unserved = entry.queue.undialed().saturating_sub(looked_at);
    unserved.min(most.max(1))
}

/// When connections are shared: how many waiters the dials in progress will serve beside those that
/// have a dial of their own. They do not count for `max_waiters`. The capacity is that of the key's last
/// connection. Before the first connection, unless dials fail, all waiters are expected to be served.
pub(super) fn soon_served<K, E>(entry: &KeyEntry<K, E>, policy: &Policy) -> u32 {
    let dials = &entry.dials;
    // A dial that takes longer than usual is not expected to serve any caller.
    let in_time = (dials.in_progress() - dials.stopping()).saturating_sub(dials.overdue());
    // Nor is a dial that follows another one which took too long: not until a dial has succeeded.
    let fails = entry.backoff.failures() > 0 && entry.capacity.is_none();
    if in_time == 0 || fails || dials.patience.failures() > 0 {
        return 0;
    }
    let cap = policy.max_leases_per_connection.unwrap_or(u32::MAX);
    let served = entry.capacity.and_then(|served| u32::try_from(served).ok());
    let each = served.unwrap_or(u32::MAX).min(cap);
    each.saturating_mul(in_time).saturating_sub(dials.tied().len() - dials.held_up())
}

/// How many may be open beyond a limit since it was lowered; zero when not above the limit.
///
/// No connection is cut off when a limit is lowered, so `open` may be above it for a while. The allowance
/// is what was open when the limit was lowered; it shrinks with `open` and never grows.
#[derive(Debug, Default)]
pub(super) struct Allowance(u32);

impl Allowance {
    pub(super) fn get(&self) -> u32 {
        self.0
    }

    pub(super) fn is_used(&self) -> bool {
        self.0 > 0
    }

    /// A limit has changed: so many are open.
    pub(super) fn set(&mut self, open: u32, max: Option<u32>) {
        self.0 = if is_exceeded(max, open) { open } else { 0 };
    }

    /// A place was given up: so many are open now. Returns whether the allowance ended.
    pub(super) fn shrink(&mut self, open: u32, max: Option<u32>) -> bool {
        let was_used = self.is_used();
        if was_used {
            self.set(open, max);
        }
        was_used && !self.is_used()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::state::connection::{Connection, Connections, DialFor};
    use crate::state::dials::PoolDials;
    use crate::state::ids::KeyId;
    use crate::state::waiter::{Waiter, Waiters};

    const NOW: Timestamp = Timestamp::from_nanos(1);

    fn policy() -> Policy {
        Policy {
            max_open_per_key: Some(4),
            max_open: Some(8),
            max_dials_per_key: Some(2),
            max_dials: Some(3),
            dial_ramp: None,
            max_dials_per_second: None,
            dial: Dial::Racing,
            ..Policy::default()
        }
    }

    fn entry(open: u32, dialing: u32) -> KeyEntry<u8, ()> {
        let mut entry = KeyEntry::new(1, 0);
        entry.open = open;
        let (mut pool, mut connections) = (PoolDials::default(), Connections::<()>::new());
        for _ in 0..dialing {
            let dial = Connection::dialing(KeyId::default(), DialFor::Caller, NOW);
            let id = connections.insert(dial);
            entry.dials.start(&mut pool, &mut connections, id, &policy());
        }
        entry
    }

    fn found(entry: &KeyEntry<u8, ()>, policy: &Policy, status: Status) -> Option<Obstacle> {
        obstacle(entry, || false, policy, &status, NOW)
    }

    #[test]
    fn each_limit_is_an_obstacle_when_it_is_reached() {
        let status = |open, dialing| Status { open, dialing, ..Status::default() };
        let policy = policy();
        assert_eq!(found(&entry(3, 1), &policy, status(7, 2)), None);
        assert_eq!(found(&entry(4, 1), &policy, status(7, 2)), Some(Obstacle::KeyFull));
        assert_eq!(found(&entry(3, 2), &policy, status(7, 2)), Some(Obstacle::Dialing));
        assert_eq!(found(&entry(3, 1), &policy, status(7, 3)), Some(Obstacle::DialsFull));
        assert_eq!(found(&entry(3, 1), &policy, status(8, 2)), Some(Obstacle::PoolFull));
        let paused = obstacle(&entry(3, 1), || true, &policy, &status(8, 3), NOW);
        assert_eq!(paused, Some(Obstacle::Paused));
    }

    #[test]
    fn dial_for_all_waiters_is_an_obstacle_to_another() {
        let policy = Policy { dial: Dial::Shared, ..policy() };
        assert_eq!(found(&entry(0, 0), &policy, Status::default()), None);
        assert_eq!(found(&entry(1, 1), &policy, Status::default()), Some(Obstacle::Dialing));
    }

    #[test]
    fn ramp_and_rate_are_obstacles_before_the_limits_of_the_pool() {
        let policy = Policy { dial_ramp: Some(Duration::from_secs(1)), ..policy() };
        let mut entry = entry(1, 1);
        entry.pace.start(0, &policy, NOW);
        let full = Status { open: 8, ..Status::default() };
        assert_eq!(found(&entry, &policy, full), Some(Obstacle::Ramp));
        let policy = Policy { dial_ramp: None, max_dials_per_second: Some(1), ..policy };
        entry.pace.start(0, &policy, NOW);
        assert_eq!(found(&entry, &policy, full), Some(Obstacle::Rate));
    }

    #[test]
    fn waiters_lack_at_least_one_place_and_no_more_than_they_can_use() {
        let (policy, mut waiters) = (policy(), Waiters::<(), (), ()>::new());
        let mut lacked = |open, looked_at, policy: &Policy| {
            let mut entry = entry(open, 0);
            let none = places_lacked(&entry, looked_at, policy);
            for _ in 0..3 {
                entry.queue.join_in_order(&mut waiters, Waiter::new(KeyId::default()));
            }
            (none, places_lacked(&entry, looked_at, policy))
        };
        assert_eq!(lacked(0, 0, &policy), (0, 2), "two dials may be in progress");
        assert_eq!(lacked(3, 0, &policy), (0, 1));
        assert_eq!(lacked(4, 0, &policy), (0, 1), "the next place is asked for when there is one");
        assert_eq!(lacked(0, 2, &policy), (0, 1), "two are served by looks");
        assert_eq!(lacked(0, 3, &policy), (0, 0));
        let shared = Policy { dial: Dial::Shared, ..policy };
        assert_eq!(lacked(0, 0, &shared), (0, 1), "one dial serves all");
    }

    #[test]
    fn allowance_shrinks_with_what_is_open_and_ends_at_the_limit() {
        let mut allowance = Allowance::default();
        allowance.set(5, Some(3));
        assert!(!allowance.shrink(4, Some(3)));
        assert_eq!(allowance.get(), 4);
        assert!(allowance.shrink(3, Some(3)));
        assert!(!allowance.shrink(2, Some(3)), "it ends once");
        allowance.set(5, None);
        assert!(!allowance.is_used());
    }
}
