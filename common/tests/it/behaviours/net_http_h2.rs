//! Go's HTTP/2 clients: net/http's (integrated) and x/net/http2's (standalone), which is the profile.

use pool_common::event::CloseCause::*;
use pool_common::policy::{Dial, OrphanDial};
use pool_common::state::{ConnectionId, Fitness};
use pool_common::{Policy, profile};

use super::support::{SECOND, Streams, TICK};
use crate::support::driver::Outcome;

fn h2(capacity: u32) -> Streams {
    with(profile::net_http_h2().policy, capacity)
}

/// Strict mode is one connection.
fn strict(capacity: u32) -> Streams {
    let policy = Policy { max_open_per_key: Some(1), ..profile::net_http_h2().policy };
    with(policy, capacity)
}

/// net/http's way: every cold request dials, the surplus is closed.
fn integrated(capacity: u32) -> Streams {
    let policy = Policy {
        dial: Dial::Racing,
        orphan_dial: OrphanDial::Dropped,
        ..profile::net_http_h2().policy
    };
    with(policy, capacity)
}

fn with(policy: Policy, capacity: u32) -> Streams {
    let mut pool = Streams::new(policy);
    pool.capacity = capacity;
    pool
}

/// GOAWAY.
fn goaway(pool: &mut Streams, id: ConnectionId) {
    pool.state.retire(id, Retired, pool.now);
    pool.settle();
}

/// net-http-h2 1.
#[test]
fn sequential_and_overlapping_requests_within_the_limit_need_one_connection() {
    let mut pool = h2(100);
    for _ in 0..3 {
        let id = pool.lend_one(1);
        pool.release(id);
    }
    let ids = pool.lend(1, 100);
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!((pool.dials(), pool.state.status().leases), (1, 100));
}

/// net-http-h2 2.
#[test]
fn the_third_of_limit_2_opens_a_second_connection_and_later_the_first_fills_up_first() {
    let mut pool = h2(2);
    let ids = pool.lend(1, 3);
    assert_eq!((ids[0], ids[0] == ids[2], pool.dials()), (ids[1], false, 2));
    pool.return_all(&[ids[2], ids[0], ids[1]]);
    assert_eq!(pool.lend(1, 3), [ids[0], ids[0], ids[2]]);
    assert_eq!(pool.dials(), 2);
}

/// net-http-h2 3.
#[test]
fn strict_limit_2_holds_two_of_four_and_an_answer_releases_the_next() {
    let mut pool = strict(2);
    let id = pool.lend(1, 2)[0];
    let held = pool.queue(2);
    pool.cancel(held[0]);
    assert_eq!(pool.state.stats().gave_up, 1, "that one only");
    assert_eq!(pool.collect(held[1]), None, "a place in the queue is no stream");
    pool.release(id);
    assert_eq!(pool.collect(held[1]), Some(Outcome::Lent(id)));
    assert_eq!(pool.dials(), 1, "never a second connection");
}

/// net-http-h2 4.
#[test]
fn strict_many_times_the_limit_completes() {
    let mut pool = strict(2);
    let mut waiting = pool.queue(20);
    pool.dialed(pool.only_dial());
    let mut served = 0;
    while served < 20 {
        let mut still = Vec::new();
        for waiter in waiting {
            match pool.look(waiter) {
                Some(Outcome::Lent(_)) => served += 1,
                Some(other) => still.push(other.waiter()),
                None => still.push(waiter),
            }
        }
        waiting = still;
        let (id, _) = *pool.leases.first().expect("somebody is served in every round");
        assert!(pool.leases.len() <= 2);
        pool.release(id);
    }
    assert_eq!(pool.dials(), 1);
}

/// net-http-h2 5. That the first SETTINGS count as 100 is h2-shared's; the counting is the pool's.
#[test]
fn a_hundred_are_granted_not_a_hundred_and_one_and_a_finished_request_frees_one() {
    let mut pool = h2(100);
    let id = pool.lend(1, 100)[0];
    let waiters = pool.queue(2);
    assert_eq!((pool.state.status().leases, pool.only_dial() == id), (100, false));
    pool.release(id);
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::Lent(id)));
    assert_eq!(pool.collect(waiters[1]), None, "exactly one");
}

/// net-http-h2 6. Lowered below what is active.
#[test]
fn a_lowered_limit_hurts_no_running_stream() {
    let mut pool = h2(10);
    let id = pool.lend(1, 5)[0];
    pool.state.set_capacity(id, 2, pool.now);
    pool.settle();
    assert_eq!((pool.state.status().leases, pool.closing.len()), (5, 0));
    let next = pool.acquire(1).waiter();
    assert_eq!(pool.background.len(), 1, "it counts as full");
    for _ in 0..3 {
        pool.release(id);
        assert_eq!(pool.collect(next), None, "still at or above the limit");
    }
    pool.release(id);
    assert_eq!(pool.collect(next), Some(Outcome::Lent(id)));
}

/// net-http-h2 7.
#[test]
fn the_idle_timeout_counts_from_the_last_stream_and_never_closes_under_one() {
    let mut pool = h2(2);
    let id = pool.lend(1, 2)[0];
    pool.release(id);
    pool.pass(500 * SECOND);
    assert_eq!(pool.closing.len(), 0, "a stream is open");
    pool.release(id);
    pool.pass(90 * SECOND);
    assert_eq!(pool.lend_one(1), id, "within the timeout");
    pool.release(id);
    pool.pass(90 * SECOND + TICK);
    assert_eq!(pool.finish_closing(), [IdleTimeout]);
    let next = pool.lend_one(1);
    assert_eq!(pool.dials(), 2);
    // Suspended: the clock jumps, no timer fires.
    pool.release(next);
    pool.now = pool.now.after(91 * SECOND);
    assert_ne!(pool.lend_one(1), next);
    assert_eq!(pool.closing, [(next, IdleTimeout)]);
}

/// net-http-h2 8.
#[test]
fn a_connection_that_was_dialed_and_never_used_serves_the_next_request() {
    let mut pool = h2(2);
    let waiter = pool.acquire(1).waiter();
    pool.cancel(waiter);
    let id = pool.only_dial();
    pool.dialed(id);
    assert_eq!(pool.acquire(1), Outcome::Lent(id));
    assert_eq!(pool.dials(), 1);
}

/// net-http-h2 10, 22. Exhausted ids retire a connection as a GOAWAY does.
#[test]
fn goaway_closes_an_unused_connection_at_once_and_a_used_one_after_its_streams() {
    let mut pool = h2(10);
    let id = pool.lend_one(1);
    pool.release(id);
    goaway(&mut pool, id);
    assert_eq!(pool.finish_closing(), [Retired]);
    let id = pool.lend(1, 2)[0];
    goaway(&mut pool, id);
    let next = pool.lend_one(1);
    assert_ne!(next, id, "no new request on it");
    pool.release(id);
    assert_eq!((pool.state.status().draining, pool.closing.len()), (1, 0), "one is running");
    pool.release(id);
    assert_eq!(pool.closing, [(id, Retired)]);
}

/// net-http-h2 15. The pool's part: one lease reports the connection unfit.
#[test]
fn a_stream_that_gives_its_connection_up_lets_the_others_finish_on_it() {
    let mut pool = h2(10);
    let id = pool.lend(1, 3)[0];
    pool.release_as(id, Fitness::Unfit(Discarded));
    assert_ne!(pool.lend_one(1), id, "it takes no more");
    pool.release(id);
    assert_eq!(pool.closing.len(), 0, "the others finish");
    pool.release(id);
    assert_eq!(pool.closing, [(id, Discarded)]);
}

/// net-http-h2 20. What differs: a used connection takes no new streams afterwards.
#[test]
fn closing_what_is_idle_spares_connections_with_streams() {
    let mut pool = h2(1);
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    pool.state.retire_all(pool.now);
    pool.settle();
    assert_eq!(pool.closing, [(ids[0], Retired)]);
    assert_eq!(pool.state.status().leases, 1, "its stream goes on");
    pool.release(ids[1]);
    assert_eq!(pool.finish_closing(), [Retired, Retired]);
}

/// net-http-h2 21.
#[test]
fn without_keep_alive_each_connection_serves_one_request_and_is_closed() {
    let policy = Policy {
        max_leases_per_connection: Some(1),
        max_idle_per_key: Some(0),
        ..profile::net_http_h2().policy
    };
    let mut pool = with(policy, 100);
    let ids = pool.lend(1, 2);
    assert_ne!(ids[0], ids[1]);
    pool.return_all(&ids);
    assert_eq!(pool.finish_closing(), [IdleLimit; 2]);
    assert_eq!((pool.dials(), pool.open()), (2, 0));
}

/// net-http-h2 25, 26.
#[test]
fn integrated_n_cold_requests_dial_n_times_and_all_but_one_socket_are_closed() {
    for n in [2, 10] {
        let mut pool = integrated(100);
        let waiters = pool.queue(n);
        assert_eq!(pool.background.len(), n);
        let dials = pool.background.clone();
        let first = dials[n / 2];
        pool.dialed(first);
        for waiter in waiters {
            assert_eq!(pool.collect(waiter), Some(Outcome::Lent(first)), "all on one connection");
        }
        for dial in dials.into_iter().filter(|dial| *dial != first) {
            pool.dialed(dial);
            assert_eq!(pool.closing.pop(), Some((dial, Orphan)));
            pool.state.closed(dial, pool.now);
        }
        assert_eq!((pool.open(), pool.closed_for(Orphan)), (1, n as u64 - 1));
    }
}

/// net-http-h2 27.
#[test]
fn limit_1_and_many_streams_one_dial_serves_ten_cold_requests() {
    let mut pool = strict(100);
    let waiters = pool.queue(10);
    let id = pool.only_dial();
    pool.dialed(id);
    for waiter in waiters {
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    }
    assert_eq!(pool.dials(), 1);
}

/// net-http-h2 28.
#[test]
fn limit_1_and_few_streams_three_hundred_requests_succeed() {
    let mut pool = strict(2);
    pool.queue(300);
    pool.wind_down();
    let stats = pool.state.stats();
    assert_eq!((stats.leased, stats.dials, stats.peak_open), (300, 1, 1));
    assert_eq!((pool.open(), pool.idle()), (1, 1));
}

/// net-http-h2 30.
#[test]
fn limit_1_a_dead_connection_gives_one_slot_back_and_the_next_request_dials_once() {
    let mut pool = strict(100);
    let id = pool.lend_one(1);
    pool.release(id);
    pool.state.retire(id, Gone, pool.now);
    pool.settle();
    assert_eq!(pool.finish_closing(), [Gone]);
    assert_eq!(pool.open(), 0);
    pool.lend(1, 5);
    assert_eq!((pool.dials(), pool.open()), (2, 1));
}

/// net-http-h2 31.
#[test]
fn a_connection_that_breaks_before_its_preface_is_an_error_and_nothing_is_kept() {
    let mut pool = h2(100);
    let waiter = pool.acquire(1).waiter();
    pool.dial_failed(pool.only_dial(), Some("broken in the handshake"));
    assert_eq!(pool.collect(waiter), Some(Outcome::DialFailed("broken in the handshake")));
    assert!(pool.state.is_empty());
    pool.lend_one(1);
    assert_eq!(pool.dials(), 2);
}

/// net-http-h2 33.
#[test]
fn standalone_cold_requests_dial_one_at_a_time_as_many_connections_as_they_fill() {
    let mut pool = h2(3);
    let mut waiting = pool.queue(10);
    while !waiting.is_empty() {
        pool.dialed(pool.only_dial());
        let mut still = Vec::new();
        for waiter in waiting {
            if let Some(Outcome::Wait(again)) = pool.look(waiter) {
                still.push(again);
            }
        }
        waiting = still;
    }
    assert_eq!((pool.dials(), pool.state.status().leases), (4, 10));
}

/// net-http-h2 34. What differs: the dial is the pool's, so nothing has to be dialed again.
#[test]
fn standalone_when_the_starter_of_a_dial_leaves_those_who_joined_succeed() {
    let mut pool = h2(100);
    let waiters = pool.queue(2);
    pool.cancel(waiters[0]);
    let id = pool.only_dial();
    pool.dialed(id);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(id)));
    assert_eq!(pool.dials(), 1);
}

/// net-http-h2 35. What differs: callers that joined a dial which fails are dialed for once more
/// before they are told.
#[test]
fn standalone_a_shared_dial_that_fails_is_tried_once_more_for_later_callers() {
    let mut pool = h2(100);
    let waiters = pool.queue(5);
    pool.dial_failed(pool.only_dial(), Some("refused"));
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::DialFailed("refused")));
    pool.dial_failed(pool.only_dial(), Some("refused"));
    for waiter in &waiters[1..] {
        assert_eq!(pool.collect(*waiter), Some(Outcome::DialFailed("refused")));
    }
    assert_eq!((pool.dials(), pool.background.len(), pool.open()), (2, 0, 0));
}
