//! Many keys at once, and none afterwards; keys that panic.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause;
use pool_common::policy::Dial;
use pool_common::state::{Action, Answer, Fitness, State, Want};
use pool_common::{Exclusive, Lending, Policy};

type Pool<K> = State<K, Exclusive<u32>, ()>;

fn settle<K: Clone + Eq + Hash>(pool: &mut Pool<K>, now: Timestamp) {
    while let Some(action) = pool.poll_action() {
        if let Action::Close { id, .. } = action {
            pool.closed(id, now);
        }
    }
}

fn use_key<K: Clone + Eq + Hash>(pool: &mut Pool<K>, key: &K, now: Timestamp) {
    let lent = match pool.acquire(key, Want::default(), now) {
        Answer::Lend(lent) => lent,
        Answer::Dial(id) => pool.dialed(id, Exclusive::new(0), 1, now).expect("for the caller"),
        _ => panic!("nothing is in the way"),
    };
    let _ = pool.release(lent.id, Some(lent.handle), Fitness::Fit, now);
    settle(pool, now);
}

#[test]
fn the_timers_of_a_spike_of_keys_all_go_off() {
    let policy = Policy { dial: Dial::Caller, ..Policy::default() };
    let mut pool = Pool::<u32>::new(policy, 1).expect("valid");
    let mut now = Timestamp::from_nanos(1);
    for key in 0..20_000 {
        use_key(&mut pool, &key, now);
    }
    assert_eq!(pool.known_keys(), 20_000);
    now = now.after(Duration::from_secs(91));
    let mut rounds = 0;
    while pool.known_keys() > 0 {
        assert!(pool.next_deadline() <= now, "the rest is due at once");
        let before = pool.known_keys();
        pool.handle_timeout(now);
        settle(&mut pool, now);
        assert!(before - pool.known_keys() <= 1024, "a bounded part at a time");
        rounds += 1;
    }
    assert!(rounds > 1);
    // The remaining memory is given back soon, and then nothing is due.
    for _ in 0..100 {
        now = now.after(Duration::from_secs(1));
        pool.handle_timeout(now);
    }
    assert_eq!(pool.next_deadline(), Timestamp::NEVER);
    use_key(&mut pool, &1, now);
    pool.check_invariants().expect("all is well");
}

#[test]
fn idle_connections_of_one_key_that_are_too_old_are_closed_in_bounded_parts() {
    let policy = Policy {
        dial: Dial::Caller,
        max_open_per_key: None,
        max_idle_per_key: None,
        ..Policy::default()
    };
    let mut pool = Pool::<u32>::new(policy, 1).expect("valid");
    let mut now = Timestamp::from_nanos(1);
    let leases: Vec<_> = (0..3000)
        .map(|_| match pool.acquire(&1, Want::default(), now) {
            Answer::Dial(id) => pool.dialed(id, Exclusive::new(0), 1, now).expect("for the caller"),
            _ => panic!("nothing is in the way"),
        })
        .collect();
    for lent in leases {
        assert!(pool.release(lent.id, Some(lent.handle), Fitness::Fit, now).is_none());
    }
    now = now.after(Duration::from_secs(91));
    let mut rounds = 0;
    while pool.status().idle > 0 {
        let before = pool.status().idle;
        now = now.max(pool.next_deadline());
        pool.handle_timeout(now);
        settle(&mut pool, now);
        assert!(before - pool.status().idle <= 1024, "a bounded part at a time");
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    assert!(now < Timestamp::from_nanos(1).after(Duration::from_millis(91_001)), "at once");
    pool.check_invariants().expect("all is well");
}

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A key whose hash panics when it is told to.
#[derive(Clone, PartialEq, Eq)]
struct Fragile(u32);

impl Hash for Fragile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(!PANICS.get(), "the key was told to panic");
        self.0.hash(state);
    }
}

fn with_panics(work: impl FnOnce()) {
    PANICS.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    PANICS.set(false);
    assert!(outcome.is_err(), "a hash was asked for");
}

/// The ends of leases, waiters and timers run after the caller's code, or in tasks whose panic is not seen.
#[test]
fn no_end_of_an_entry_computes_the_hash_of_a_key() {
    let policy = Policy {
        dial: Dial::Caller,
        max_open: Some(1),
        acquire_timeout: Some(Duration::from_secs(1)),
        ..Policy::default()
    };
    let mut pool = Pool::<Fragile>::new(policy, 1).expect("valid");
    let now = Timestamp::from_nanos(1);
    let Answer::Dial(id) = pool.acquire(&Fragile(1), Want::default(), now) else {
        panic!("nothing is in the way");
    };
    let lent = pool.dialed(id, Exclusive::new(0), 1, now).expect("for the caller");
    let deadline = now.after(Duration::from_secs(1));
    let answer = pool.acquire_until(&Fragile(2), Want::default(), deadline, now);
    let Answer::Wait(waiter) = answer else { panic!("all there may be is leased") };
    PANICS.set(true);
    // A waiter of a key that has nothing else, and the last connection of one.
    pool.handle_timeout(deadline);
    assert!(matches!(pool.take_grant(waiter), Some(Answer::TimedOut)));
    assert_eq!(pool.known_keys(), 1);
    let unfit = Fitness::Unfit(CloseCause::Broken);
    let _ = pool.release(lent.id, Some(lent.handle), unfit, deadline);
    settle(&mut pool, deadline);
    assert_eq!(pool.known_keys(), 0);
    PANICS.set(false);
    pool.check_invariants().expect("all is well");
    use_key(&mut pool, &Fragile(1), deadline);
}

#[test]
fn a_key_whose_hash_panics_when_it_is_new_leaves_nothing_behind() {
    let mut pool = Pool::<Fragile>::new(Policy::default(), 1).expect("valid");
    let now = Timestamp::from_nanos(1);
    with_panics(|| {
        let _ = pool.acquire(&Fragile(1), Want::default(), now);
    });
    assert_eq!(pool.known_keys(), 0);
    pool.check_invariants().expect("nothing is known");
}
