//! What threads that take turns change lies in few lines of memory: each that moved to a line of its
//! own would be one more to be brought from core to core at every turn.

use std::mem::offset_of;
use std::sync::Arc;

use super::State;
use super::connection::Connection;
use super::keys::KeyEntry;
use super::wait_queue::Waiter;
use crate::collections::slot_map::{HEAD, slot_size};
use crate::lending::Exclusive;

const LINE: usize = 64;

/// As large as what the pool keeps of a connection, whatever the size of that.
type Lending = Exclusive<Box<u64>>;

#[test]
fn what_leases_and_waits_change_of_the_state_is_one_line() {
    type Whole = State<String, Lending, (), Arc<()>>;
    assert_eq!(align_of::<Whole>(), LINE);
    let first = offset_of!(Whole, deadlines.in_order);
    assert_eq!(first % LINE, 0);
    // The map of waiters begins with what changes when one comes or goes.
    assert_eq!(offset_of!(Whole, waiters) + 2 * size_of::<u32>(), first + LINE);
    assert!((first..first + LINE).contains(&offset_of!(Whole, status)));
    assert!((first..first + LINE).contains(&offset_of!(Whole, counts)));
}

#[test]
fn a_waiter_is_one_line() {
    assert_eq!(slot_size::<Waiter<Lending, (), Arc<()>>>(), LINE);
}

#[test]
fn what_leases_and_waits_change_of_a_key_is_one_line() {
    type Key = KeyEntry<String, ()>;
    assert_eq!(HEAD + offset_of!(Key, open) + size_of::<u32>(), LINE);
}

#[test]
fn what_leases_change_of_a_connection_is_one_line() {
    // An exclusive connection has a capacity of one, which nothing looks at.
    assert!(HEAD + offset_of!(Connection<Lending>, idle_limit) + size_of::<u64>() <= LINE);
}

/// With many connections idle, each lease brings its own into the processor's cache.
#[test]
fn a_connection_is_two_lines() {
    assert_eq!(slot_size::<Connection<Lending>>(), 2 * LINE);
    // A handle as wide as a reference to a trait object.
    assert_eq!(slot_size::<Connection<Exclusive<Box<dyn Send>>>>(), 2 * LINE);
}

/// The map sees whether a place has an entry beside the key, which each look for that key compares.
#[test]
fn a_look_at_a_key_touches_two_lines() {
    type Key = KeyEntry<u32, ()>;
    let niche = HEAD + offset_of!(Key, capacity) + size_of::<u64>();
    assert!(niche <= 2 * LINE, "{niche}");
    assert!(HEAD + offset_of!(Key, key) + size_of::<u32>() <= 2 * LINE);
    // The niche that the compiler takes is the largest, and of equals the first.
    assert_eq!(size_of::<Option<Key>>(), size_of::<Key>());
}
