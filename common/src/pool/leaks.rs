//! Leak detection: which leases are out, since when, and where they were taken.
//!
//! The table is separate from the pool's state and has its own lock, so that a pool without leak
//! detection pays for one test of an `Option` and nothing else. The two locks nest in one
//! order only: the pool's lock may be held while the table is asked for its deadline, and the table's
//! lock is never held over anything.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::collections::slot_map::{SlotMap, ids};
use crate::error::legible;
use crate::state::ConnectionId;

/// Leases that ended are taken out of the queue when the queue has this many more than are out.
const ENDED: usize = 64;

ids! {
    /// Names one lease while it is out.
    pub(super) struct LeaseNumber;
}

/// A lease that is out, as [`Pool::leases`](crate::Pool::leases) describes it.
///
/// As text, one line with all of it: `connection 4294967297 to "db", out for 900ms, taken at src/main.rs:12:9`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo<K> {
    /// Its connection; several leases can be of one shared connection.
    pub connection: ConnectionId,
    /// The key it was acquired for.
    pub key: K,
    /// The call of [`acquire`](crate::Pool::acquire), or of a variant of it, that took the lease.
    pub taken_at: &'static Location<'static>,
    /// How long it has been out, as fine as the pool's clock.
    pub held_for: Duration,
}

impl<K: fmt::Debug> fmt::Display for LeaseInfo<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, key, taken_at, held_for } = self;
        let held_for = legible(*held_for);
        write!(f, "connection {connection} to {key:?}, out for {held_for:?}, taken at {taken_at}")
    }
}

/// The table of leases, and when the next of them has been out for too long.
pub(super) struct Leaks {
    /// Leases held longer than this are reported.
    after: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    out: SlotMap<LeaseNumber, Entry>,
    /// Leases not reported yet, in the order they were taken; some have ended. As all are given
    /// the same time, this is also the order in which they are due.
    due: VecDeque<(Timestamp, LeaseNumber)>,
}

/// What the table knows of a lease. The key is in the pool's state.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    connection: ConnectionId,
    taken_at: &'static Location<'static>,
    since: Timestamp,
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaks").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Leaks {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, table: Mutex::default() }
    }

    /// No user code runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease begins. Returns its deadline if no earlier lease has one. Otherwise the task that watches
    /// already has an earlier deadline.
    pub(super) fn begin(
        &self,
        connection: ConnectionId,
        taken_at: &'static Location<'static>,
        now: Timestamp,
    ) -> (LeaseNumber, Option<Timestamp>) {
        let due = now.after(self.after);
        let mut table = self.lock();
        let number = table.out.insert(Entry { connection, taken_at, since: now });
        if due == Timestamp::NEVER {
            return (number, None);
        }
        let first = table.due.is_empty();
        table.due.push_back((due, number));
        if table.due.len() > 2 * table.out.len() + ENDED {
            let Table { out, due } = &mut *table;
            due.retain(|(_, number)| out.contains(*number));
        }
        (number, first.then_some(due))
    }

    /// A lease ends. Returns whether no lease is out any more.
    pub(super) fn end(&self, number: LeaseNumber) -> bool {
        let mut table = self.lock();
        table.out.remove(number);
        table.out.is_empty()
    }

    /// The leases that are out, longest held first.
    pub(super) fn all(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.lock().out.values().copied().collect();
        entries.sort_by_key(|entry| entry.since);
        entries
    }

    /// When the next lease will have been out for too long.
    pub(super) fn next_deadline(&self) -> Timestamp {
        let mut table = self.lock();
        while let Some(&(at, number)) = table.due.front() {
            if table.out.contains(number) {
                return at;
            }
            table.due.pop_front();
        }
        Timestamp::NEVER
    }

    /// The leases that are due at `now`, each once.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut table = self.lock();
        while let Some(&(at, number)) = table.due.front() {
            let entry = table.out.get(number).copied();
            if entry.is_some() && at > now {
                break;
            }
            table.due.pop_front();
            found.extend(entry);
        }
        found
    }
}

/// Adds the keys. A lease whose connection has ended in the meantime has ended too.
pub(super) fn describe<K>(
    entries: Vec<Entry>,
    now: Timestamp,
    key_of: impl Fn(ConnectionId) -> Option<K>,
) -> Vec<LeaseInfo<K>> {
    let mut leases = Vec::with_capacity(entries.len());
    for Entry { connection, taken_at, since } in entries {
        if let Some(key) = key_of(connection) {
            leases.push(LeaseInfo { connection, key, taken_at, held_for: now.since(since) });
        }
    }
    leases
}

/// Warns of a lease that is due.
pub(super) fn report(lease: &LeaseInfo<impl fmt::Debug>) {
    tracing::warn!(
        target: "pool_common",
        connection = lease.connection.as_u64(),
        key = ?lease.key,
        held_for = ?legible(lease.held_for),
        taken_at = %lease.taken_at,
        "a lease has been out for long: it may have leaked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn leases_that_ended_are_forgotten_long_before_they_are_due() {
        let leaks = Leaks::new(1_000_000 * SECOND);
        let kept = leaks.begin(ConnectionId::default(), Location::caller(), at(0)).0;
        for now in 0..10_000 {
            let number = leaks.begin(ConnectionId::default(), Location::caller(), at(now)).0;
            leaks.end(number);
            assert!(leaks.lock().due.len() <= 2 + ENDED + 2);
        }
        assert!(leaks.lock().out.contains(kept));
        assert_eq!(leaks.next_deadline(), at(1_000_000));
    }

    #[test]
    fn only_the_first_lease_of_a_queue_returns_its_deadline() {
        let leaks = Leaks::new(10 * SECOND);
        let (first, due) = leaks.begin(ConnectionId::default(), Location::caller(), at(0));
        assert_eq!(due, Some(at(10)));
        let (_, due) = leaks.begin(ConnectionId::default(), Location::caller(), at(5));
        assert_eq!(due, None);
        leaks.end(first);
        assert_eq!(leaks.take_due(at(14)).len(), 0);
        assert_eq!(leaks.next_deadline(), at(15));
        assert_eq!(leaks.take_due(at(15)).len(), 1);
        assert_eq!(leaks.take_due(at(1000)).len(), 0, "each is reported once");
        assert_eq!(leaks.next_deadline(), Timestamp::NEVER);
        let (_, due) = leaks.begin(ConnectionId::default(), Location::caller(), at(1000));
        assert_eq!(due, Some(at(1010)));
    }

    #[test]
    fn a_deadline_that_overflows_is_never_due() {
        let leaks = Leaks::new(Duration::MAX);
        let (_, due) = leaks.begin(ConnectionId::default(), Location::caller(), at(1));
        assert_eq!((due, leaks.next_deadline()), (None, Timestamp::NEVER));
        assert_eq!(leaks.lock().out.len(), 1, "but it can be asked for");
    }
}
