//! Single decisions, each test named after the promised behaviour.

use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::policy::*;
use pool_common::state::{Fitness, Refusal, Want};
use pool_common::{Exclusive, Policy, Shared, profile};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

const SECOND: Duration = Duration::from_secs(1);
const FRESH: Want = Want { fresh: true, again: false };

/// The caller dials, nothing expires, nothing is limited or damped.
fn plain() -> Policy {
    Policy {
        dial: Dial::Caller,
        max_open_per_key: None,
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        after_failed_dial: AfterFailedDial::Tell,
        orphan_dial: OrphanDial::Kept,
        dial_ramp: None,
        ..Policy::default()
    }
}

#[test]
fn newest_first_lends_the_last_returned_and_oldest_first_the_first_returned() {
    for (order, expected) in [
        (IdleOrder::NewestFirst, [2, 1, 0]),
        (IdleOrder::OldestFirst, [0, 1, 2]),
        (IdleOrder::FirstWithRoom, [0, 1, 2]),
    ] {
        let mut pool = Plain::new(Policy { idle_order: order, ..plain() });
        let ids = pool.lend(1, 3);
        ids.iter().for_each(|id| pool.release(*id));
        for position in expected {
            assert_eq!(pool.lend_one(1), ids[position], "{order:?}");
        }
    }
}

#[test]
fn a_full_idle_list_closes_the_returned_one_or_the_longest_idle() {
    for (overflow, kept) in [(IdleOverflow::CloseReturned, 0), (IdleOverflow::CloseOldest, 1)] {
        let policy = Policy { max_idle_per_key: Some(1), idle_overflow: overflow, ..plain() };
        let mut pool = Plain::new(policy);
        let ids = pool.lend(1, 2);
        ids.iter().for_each(|id| pool.release(*id));
        assert_eq!(pool.finish_closing(), [IdleLimit]);
        assert_eq!(pool.lend_one(1), ids[kept], "{overflow:?}");
    }
}

#[test]
fn the_total_idle_limit_evicts_the_longest_idle_of_any_key() {
    let mut pool = Plain::new(Policy { max_idle: Some(2), ..plain() });
    let ids: Vec<_> = (0..3).map(|key| pool.lend_one(key)).collect();
    ids.iter().for_each(|id| pool.release(*id));
    assert_eq!(pool.closing, [(ids[0], Evicted)]);
    pool.finish_closing();
    assert_eq!(pool.lend_one(2), ids[2]);
    assert_eq!(pool.lend_one(1), ids[1]);
}

#[test]
fn the_total_open_limit_makes_room_from_idle_connections_of_other_keys() {
    let mut pool = Plain::new(Policy { max_open: Some(2), ..plain() });
    let ids: Vec<_> = (0..2).map(|key| pool.lend_one(key)).collect();
    pool.release(ids[0]);
    let waiter = pool.acquire(5).waiter();
    assert_eq!(pool.finish_closing(), [MakeRoom]);
    let dial = pool.collect(waiter).expect("granted").dial();
    pool.dialed(dial);
    // All connections are leased: the next one that comes back makes way.
    let waiter = pool.acquire(6).waiter();
    pool.release(ids[1]);
    assert_eq!(pool.finish_closing(), [MakeRoom]);
    pool.collect(waiter).expect("granted").dial();
}

#[test]
fn at_the_limit_an_acquire_fails_or_waits_and_waiters_are_bounded() {
    let mut pool =
        Plain::new(Policy { max_open_per_key: Some(1), at_limit: AtLimit::Fail, ..plain() });
    pool.lend(1, 1);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
    let mut pool =
        Plain::new(Policy { max_open_per_key: Some(1), max_waiters: Some(2), ..plain() });
    pool.lend(1, 1);
    pool.acquire(1).waiter();
    pool.acquire(1).waiter();
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::TooManyWaiters { limit: 2 }));
    assert_eq!(pool.state.stats().refused, 1);
}

#[test]
fn a_slot_about_to_be_free_is_waited_for_even_if_the_policy_is_to_fail() {
    let mut pool =
        Plain::new(Policy { max_open_per_key: Some(1), at_limit: AtLimit::Fail, ..plain() });
    let id = pool.lend_one(1);
    pool.release_as(id, Fitness::Unfit(Broken));
    let waiter = pool.acquire(1).waiter();
    pool.finish_closing();
    pool.collect(waiter).expect("room").dial();
}

#[test]
fn a_returned_connection_goes_to_the_oldest_waiter_and_never_through_the_idle_list() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(1), ..plain() });
    let id = pool.lend_one(1);
    let first = pool.acquire(1).waiter();
    let second = pool.acquire(1).waiter();
    pool.release(id);
    assert_eq!(pool.state.status().idle, 0);
    assert_eq!(pool.woken, [first]);
    assert!(pool.collect(second).is_none());
    assert_eq!(pool.collect(first).expect("granted").lent(), id);
}

#[test]
fn a_waiter_that_leaves_passes_on_its_grant() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(1), ..plain() });
    let id = pool.lend_one(1);
    let first = pool.acquire(1).waiter();
    let second = pool.acquire(1).waiter();
    pool.release(id);
    pool.cancel(first);
    assert_eq!(pool.collect(second).expect("passed on").lent(), id);
    // Permission to dial is passed on as well.
    let third = pool.acquire(1).waiter();
    let fourth = pool.acquire(1).waiter();
    pool.release_as(id, Fitness::Unfit(Broken));
    pool.finish_closing();
    pool.cancel(third);
    pool.collect(fourth).expect("passed on").dial();
}

#[test]
fn a_racing_dial_loses_to_a_connection_that_comes_back_and_is_kept() {
    let mut pool = Plain::new(Policy { dial: Dial::Racing, ..plain() });
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    let dial = pool.background[0];
    pool.release(id);
    assert_eq!(pool.collect(waiter).expect("the one that came back").lent(), id);
    pool.dialed(dial);
    assert_eq!(pool.state.status().idle, 1);
    assert_eq!(pool.lend_one(1), dial);
}

#[test]
fn a_newcomer_at_the_limit_adopts_an_orphaned_dial_even_when_the_policy_is_to_fail() {
    let mut pool = Plain::new(Policy {
        dial: Dial::Racing,
        adopt_dials: true,
        orphan_dial: OrphanDial::Kept,
        max_open_per_key: Some(1),
        at_limit: AtLimit::Fail,
        ..plain()
    });
    let leaver = pool.acquire(1).waiter();
    pool.cancel(leaver);
    let newcomer = pool.acquire(1).waiter();
    let dial = pool.background[0];
    pool.dialed(dial);
    assert_eq!(pool.collect(newcomer).expect("the dial is its own now").lent(), dial);
}

#[test]
fn a_newcomer_adopts_an_orphaned_dial_or_starts_its_own_as_the_policy_says() {
    for (adopt, dials) in [(true, 1), (false, 2)] {
        let mut pool = Plain::new(Policy { dial: Dial::Racing, adopt_dials: adopt, ..plain() });
        let waiter = pool.acquire(1).waiter();
        pool.cancel(waiter);
        pool.acquire(1).waiter();
        assert_eq!(pool.background.len(), dials);
    }
}

#[test]
fn an_orphaned_dial_is_dropped_when_the_policy_says_so() {
    let policy = Policy { dial: Dial::Racing, orphan_dial: OrphanDial::Dropped, ..plain() };
    let mut pool = Plain::new(policy);
    let waiter = pool.acquire(1).waiter();
    pool.cancel(waiter);
    pool.dialed(pool.background[0]);
    assert_eq!(pool.finish_closing(), [Orphan]);
}

#[test]
fn a_detached_dial_whose_caller_left_serves_the_next_caller_that_dials() {
    let mut pool = Plain::new(Policy { dial: Dial::Detached, ..plain() });
    let leaver = pool.acquire(1).waiter();
    let waiter = pool.acquire(1).waiter();
    let dials = pool.background.clone();
    pool.cancel(leaver);
    pool.dialed(dials[0]);
    assert_eq!(pool.collect(waiter).expect("a dial ended").lent(), dials[0]);
    pool.dialed(dials[1]);
    assert_eq!(pool.state.status().idle, 1, "its own product is idle");
}

#[test]
fn one_dial_serves_all_waiters_it_has_capacity_for() {
    let mut pool = Streams::new(Policy { dial: Dial::Shared, ..plain() });
    pool.capacity = 3;
    let waiters: Vec<_> = (0..5).map(|_| pool.acquire(1).waiter()).collect();
    assert_eq!(pool.background.len(), 1);
    pool.dialed(pool.background[0]);
    for waiter in &waiters[..3] {
        pool.collect(*waiter).expect("a stream").lent();
    }
    assert_eq!(pool.background.len(), 1, "one more dial, for those it had no room for");
    pool.dialed(pool.background[0]);
    for waiter in &waiters[3..] {
        pool.collect(*waiter).expect("a stream").lent();
    }
}

#[test]
fn a_failed_dial_for_all_is_told_to_the_waiters_it_started_for() {
    let mut pool = Streams::new(Policy { dial: Dial::Shared, ..plain() });
    let first = pool.acquire(1).waiter();
    let joined: Vec<_> = (0..3).map(|_| pool.acquire(1).waiter()).collect();
    pool.dial_failed(pool.background[0], Some("refused"));
    assert_eq!(pool.collect(first), Some(Outcome::DialFailed("refused")));
    assert_eq!((pool.background.len(), pool.waiters.len()), (1, 3), "a dial of their own");
    pool.dial_failed(pool.background[0], Some("still refused"));
    for waiter in joined {
        assert_eq!(pool.collect(waiter), Some(Outcome::DialFailed("still refused")));
    }
    assert!(pool.background.is_empty());
    assert_eq!(pool.state.status().open, 0);
}

#[test]
fn the_opener_dials_for_waiters_one_after_another() {
    let policy = Policy {
        max_open_per_key: Some(3),
        dial_for_waiters: DialForWaiters::Opener,
        waiter_order: WaiterOrder::Random,
        ..plain()
    };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 3);
    let waiters: Vec<_> = (0..3).map(|_| pool.acquire(1).waiter()).collect();
    for id in ids {
        pool.release_as(id, Fitness::Unfit(Broken));
    }
    pool.finish_closing();
    for _ in 0..3 {
        assert_eq!(pool.background.len(), 1, "one at a time");
        pool.dialed(pool.background[0]);
    }
    for waiter in waiters {
        pool.collect(waiter).expect("served").lent();
    }
}

#[test]
fn freed_room_starts_a_dial_for_the_first_waiter_which_a_return_can_still_beat() {
    let policy = Policy {
        max_open_per_key: Some(2),
        dial_for_waiters: DialForWaiters::Background,
        ..plain()
    };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 2);
    let waiter = pool.acquire(1).waiter();
    pool.release_as(ids[0], Fitness::Unfit(Broken));
    pool.finish_closing();
    assert_eq!(pool.background.len(), 1);
    pool.release(ids[1]);
    assert_eq!(pool.collect(waiter).expect("the return").lent(), ids[1]);
    pool.dialed(pool.background[0]);
    assert_eq!(pool.state.status().idle, 1);
}

#[test]
fn idle_connections_end_by_timer_sweep_or_only_when_asked_for() {
    for (expiry, closed_after_11_s) in [
        (Expiry::Timer, 1),
        (Expiry::Sweep, 0),
        (Expiry::AtAcquire, 0),
        (Expiry::PruneAtAcquire, 0),
    ] {
        let policy = Policy {
            idle_timeout: Some(10 * SECOND),
            expiry,
            sweep_interval: 15 * SECOND,
            ..plain()
        };
        let mut pool = Plain::new(policy);
        let ids = pool.lend(1, 2);
        pool.release(ids[0]);
        pool.pass(10 * SECOND);
        assert!(pool.closing.is_empty(), "{expiry:?}: exactly the limit is not over it");
        pool.pass(SECOND);
        assert_eq!(pool.closing.len(), closed_after_11_s, "{expiry:?}");
        pool.release(ids[1]);
        // An acquire lends the newer connection; only pruning also looks at the other end of the list.
        assert_eq!(pool.lend_one(1), ids[1]);
        let pruned = usize::from(expiry == Expiry::PruneAtAcquire);
        assert_eq!(pool.closing.len(), closed_after_11_s + pruned, "{expiry:?}");
        pool.pass(15 * SECOND);
        let swept = usize::from(expiry == Expiry::Sweep);
        assert_eq!(pool.closing.len(), closed_after_11_s + pruned + swept, "{expiry:?}");
    }
}

#[test]
fn lifetimes_are_spread_by_the_jitter_and_end_leased_ones_on_return() {
    let policy = Policy {
        max_lifetime: Some(100 * SECOND),
        lifetime_jitter: 20 * SECOND,
        expiry: Expiry::Timer,
        ..plain()
    };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 100);
    ids[1..].iter().for_each(|id| pool.release(*id));
    pool.pass(79 * SECOND);
    assert_eq!(pool.closing.len(), 0);
    let mut waves = Vec::new();
    for _ in 0..4 {
        pool.pass(10 * SECOND + SECOND / 2);
        waves.push(pool.finish_closing().len());
    }
    assert_eq!(waves.iter().sum::<usize>(), 99);
    assert!(waves.iter().all(|wave| *wave > 5), "not all at once: {waves:?}");
    pool.release(ids[0]);
    assert_eq!(pool.finish_closing(), [Lifetime]);
}

#[test]
fn the_floor_is_dialed_at_first_use_refilled_and_kept_within_the_limit() {
    let policy = Policy { min_idle: 2, max_open_per_key: Some(4), ..plain() };
    let mut pool = Plain::new(policy);
    let id = pool.acquire(1).dial();
    assert_eq!(pool.background.len(), 0, "the caller's own dial shows whether the peer is there");
    pool.dialed(id);
    assert_eq!(pool.background.len(), 2, "the floor");
    for dial in pool.background.clone() {
        pool.dialed(dial);
    }
    assert_eq!(pool.state.status().idle, 2);
    pool.lend(1, 1);
    assert_eq!(pool.background.len(), 1, "refilled");
    pool.dial_failed(pool.background[0], Some("refused"));
    assert_eq!(pool.background.len(), 0, "not at once again");
    pool.pass(SECOND);
    assert_eq!(pool.background.len(), 1, "but without waiting for traffic");
    pool.dialed(pool.background[0]);
    pool.lend(1, 1);
    assert_eq!(pool.background.len(), 0, "the limit is the limit");
}

#[test]
fn a_floor_once_is_not_refilled() {
    let mut pool = Plain::new(Policy { min_idle: 2, floor: Floor::Once, ..plain() });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    assert_eq!(pool.background.len(), 1, "the first alone");
    pool.dialed(pool.background[0]);
    pool.dialed(pool.background[0]);
    assert_eq!((pool.state.stats().dials, pool.background.len()), (2, 0));
    pool.lend(1, 2);
    assert_eq!(pool.background.len(), 0);
}

#[test]
fn pauses_after_failed_dials_grow_and_end_with_a_success() {
    let policy = Policy {
        after_failed_dial: AfterFailedDial::BackOff,
        back_off_after: 1,
        back_off_base: SECOND,
        back_off_factor: 2.0,
        back_off_max: 5 * SECOND,
        back_off_jitter: 0.0,
        wait_out_pauses: None,
        ..plain()
    };
    let mut pool = Plain::new(policy);
    for pause in [1, 2, 4, 5, 5] {
        let dial = pool.acquire(1).dial();
        pool.dial_failed(dial, Some("refused"));
        let refused = pool.acquire(1);
        let until = pool.now.after(pause * SECOND);
        assert_eq!(refused, Outcome::Refused(Refusal::BackingOff { until, last: "refused" }));
        pool.pass(pause * SECOND);
    }
    let dial = pool.acquire(1).dial();
    let id = pool.dialed(dial).expect("the caller's");
    pool.release_as(id, Fitness::Unfit(Broken));
    pool.finish_closing();
    pool.acquire(1).dial();
}

#[test]
fn dials_that_fail_together_are_one_failure() {
    let mut pool = Plain::new(Policy {
        after_failed_dial: AfterFailedDial::BackOff,
        back_off_after: 1,
        back_off_base: SECOND,
        back_off_factor: 2.0,
        back_off_max: 60 * SECOND,
        back_off_jitter: 0.0,
        wait_out_pauses: None,
        ..plain()
    });
    for pause in [1, 2] {
        let dials = [(); 3].map(|()| pool.acquire(1).dial());
        for dial in dials {
            pool.dial_failed(dial, Some("refused"));
        }
        let until = pool.now.after(pause * SECOND);
        let refusal = Refusal::BackingOff { until, last: "refused" };
        assert_eq!(pool.acquire(1), Outcome::Refused(refusal));
        pool.pass(pause * SECOND);
    }
}

#[test]
fn callers_that_wait_for_ready_wait_through_the_pause() {
    let policy = Policy { wait_for_ready: true, ..profile::grpc().policy };
    let mut pool = Streams::new(policy);
    let waiter = pool.acquire(1).waiter();
    pool.dial_failed(pool.background[0], Some("refused"));
    assert!(pool.collect(waiter).is_none(), "it goes on waiting");
    assert!(pool.background.is_empty());
    pool.pass(SECOND);
    assert_eq!(pool.background.len(), 1, "dialed again when the pause is over");
    pool.dialed(pool.background[0]);
    pool.collect(waiter).expect("served").lent();
}

#[test]
fn after_too_many_failures_it_fails_fast_and_probes_by_itself() {
    let policy = Policy {
        after_failed_dial: AfterFailedDial::FailFast,
        back_off_after: 2,
        back_off_base: SECOND,
        ..plain()
    };
    let mut pool = Plain::new(policy);
    for _ in 0..2 {
        let dial = pool.acquire(1).dial();
        pool.dial_failed(dial, Some("refused"));
    }
    assert!(matches!(pool.acquire(1), Outcome::Refused(Refusal::BackingOff { .. })));
    for _ in 0..5 {
        pool.pass(SECOND);
        assert_eq!(pool.background.len(), 1, "a probe a second");
        pool.dial_failed(pool.background[0], Some("refused"));
    }
    pool.pass(SECOND);
    pool.dialed(pool.background[0]);
    assert_eq!(pool.state.status().idle, 1, "the probe's connection is used");
    pool.lend(1, 2);
}

#[test]
fn a_shared_connection_fills_up_before_the_next_is_opened() {
    let mut pool = Streams::new(Policy { idle_order: IdleOrder::FirstWithRoom, ..plain() });
    let a = pool.lend_one(1);
    assert_eq!(pool.lend_one(1), a);
    let b = pool.lend_one(1);
    assert_ne!(b, a);
    pool.release(a);
    assert_eq!(pool.lend_one(1), a, "the first with room");
    assert_eq!(pool.lend_one(1), b);
}

#[test]
fn capacity_follows_the_peer_even_below_the_leases_in_use() {
    let mut pool = Streams::new(Policy { max_open_per_key: Some(1), ..plain() });
    pool.capacity = 3;
    let id = pool.lend(1, 3)[0];
    pool.state.set_capacity(id, 1, pool.now);
    pool.settle();
    let waiter = pool.acquire(1).waiter();
    pool.release(id);
    pool.release(id);
    assert!(pool.collect(waiter).is_none(), "one is still out, and one is allowed");
    pool.release(id);
    assert_eq!(pool.collect(waiter).expect("room").lent(), id);
    pool.state.set_capacity(id, 5, pool.now);
    pool.settle();
    assert_eq!(pool.lend(1, 4), [id; 4]);
}

#[test]
fn a_peer_that_allows_no_stream_is_not_dialed_again_and_again() {
    let mut pool = Streams::new(Policy { dial: Dial::Shared, ..plain() });
    pool.capacity = 0;
    let waiter = pool.acquire(1).waiter();
    let id = pool.background[0];
    pool.dialed(id);
    assert!(pool.background.is_empty());
    assert!(pool.collect(waiter).is_none());
    pool.state.set_capacity(id, 1, pool.now);
    pool.settle();
    assert_eq!(pool.collect(waiter).expect("allowed now").lent(), id);
}

#[test]
fn an_uncollected_connection_whose_peer_allows_no_stream_by_now_serves_no_waiter() {
    let mut pool = Streams::new(Policy { max_open_per_key: Some(1), ..plain() });
    pool.capacity = 1;
    let id = pool.lend_one(1);
    pool.release(id);
    let lent = pool.state.acquire_idle(&1, pool.now).expect("it is idle");
    let waiter = pool.acquire(1).waiter();
    pool.state.set_capacity(id, 0, pool.now);
    drop(pool.state.take_back(lent, pool.now));
    pool.settle();
    assert_eq!(pool.collect(waiter), None);
    pool.state.set_capacity(id, 1, pool.now);
    pool.settle();
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
}

#[test]
fn a_retired_shared_connection_lets_its_leases_end_while_a_successor_is_dialed() {
    let mut pool = Streams::new(Policy { max_open_per_key: Some(1), ..plain() });
    let id = pool.lend_one(1);
    pool.state.retire(id, Retired, pool.now);
    pool.settle();
    let status = pool.state.status();
    assert_eq!((status.open, status.draining), (0, 1));
    let next = pool.lend_one(1);
    assert_ne!(next, id);
    pool.release(id);
    assert_eq!(pool.finish_closing(), [Retired]);
    assert_eq!(pool.state.status().draining, 0);
}

#[test]
fn retire_all_ends_idle_ones_now_and_leased_ones_on_return() {
    let mut pool = Plain::new(plain());
    let ids = pool.lend(1, 3);
    pool.release(ids[0]);
    pool.state.retire_all(pool.now);
    pool.settle();
    assert_eq!(pool.closing, [(ids[0], Retired)]);
    pool.release(ids[1]);
    assert_eq!(pool.closing.len(), 2);
    let fresh = pool.lend_one(1);
    pool.release(fresh);
    assert_eq!(pool.lend_one(1), fresh, "a new one is not concerned");
}

#[test]
fn a_fresh_one_is_dialed_even_if_others_are_idle_and_makes_room_at_the_limit() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(2), ..plain() });
    let first = pool.lend_one(1);
    pool.release(first);
    let dial = pool.acquire_as(1, FRESH).dial();
    pool.dialed(dial);
    let waiter = pool.acquire_as(1, FRESH).waiter();
    assert_eq!(pool.closing, [(first, MakeRoom)]);
    pool.finish_closing();
    pool.collect(waiter).expect("room").dial();
}

#[test]
fn unused_keys_are_forgotten() {
    let mut pool = Plain::new(plain());
    for key in 0..200 {
        let id = pool.lend_one(key);
        pool.release_as(id, Fitness::Unfit(Broken));
        pool.finish_closing();
        let dial = pool.acquire(key).dial();
        pool.dial_failed(dial, Some("refused"));
    }
    // Failures are remembered for as long as the longest pause.
    pool.pass(Policy::default().back_off_max);
    assert_eq!(pool.state.known_keys(), 0);
}

#[test]
fn the_longest_durations_there_are_mean_never() {
    let policy = Policy {
        idle_timeout: Some(Duration::MAX),
        max_lifetime: Some(Duration::MAX),
        lifetime_jitter: Duration::MAX,
        sweep_interval: Duration::MAX,
        after_failed_dial: AfterFailedDial::BackOff,
        back_off_after: 1,
        back_off_base: Duration::MAX,
        back_off_max: Duration::MAX,
        ..plain()
    };
    for expiry in Expiry::ALL {
        let mut pool = Plain::new(Policy { expiry: *expiry, ..policy.clone() });
        let id = pool.lend_one(1);
        pool.release(id);
        pool.pass(1000 * SECOND);
        assert_eq!(pool.lend_one(1), id);
        for _ in 0..3 {
            let dial = pool.acquire(2).dial();
            pool.dial_failed(dial, Some("refused"));
            assert!(matches!(pool.acquire(2), Outcome::Refused(Refusal::BackingOff { .. })));
            pool.pass(1000 * SECOND);
            if matches!(pool.acquire(2), Outcome::Refused(_)) {
                break;
            }
        }
    }
}
