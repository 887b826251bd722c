//! Go's `database/sql` DB.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::state::{Refusal, WaiterId};
use pool_common::{Exclusive, Limits, Policy, Status, profile};
use tokio::time::sleep;

use super::support::{BROKEN, FRESH, Plain, SECOND, TICK, storm};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way};

fn sql() -> Policy {
    profile::database_sql().policy
}

/// SetMaxOpenConns.
fn max_open(limit: u32) -> Policy {
    Policy { max_open_per_key: Some(limit), ..sql() }
}

fn max_idle(limit: u32) -> Policy {
    Policy { max_idle_per_key: Some(limit), ..sql() }
}

/// Whoever of these was served, and what each got.
fn served(pool: &mut Plain, waiters: &[WaiterId]) -> Vec<(WaiterId, Outcome)> {
    waiters.iter().filter_map(|id| Some((*id, pool.collect(*id)?))).collect()
}

/// database-sql 1.
#[test]
fn sequential_operations_need_one_dial_and_the_last_returned_goes_first() {
    let mut pool = Plain::new(sql());
    for _ in 0..3 {
        let id = pool.lend_one(1);
        pool.release(id);
    }
    assert_eq!(pool.dials(), 1);
    let ids = pool.lend(1, 2);
    pool.return_all(&ids);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[1]));
}

/// database-sql 2.
#[test]
fn without_a_limit_n_callers_dial_in_parallel_and_none_waits() {
    let mut pool = Plain::new(sql());
    for _ in 0..50 {
        pool.acquire(1).dial();
    }
    assert_eq!((pool.by_callers.len(), pool.background.len()), (50, 0));
    assert_eq!((pool.state.stats().waited, pool.open()), (0, 50));
}

/// database-sql 3.
#[test]
fn two_stay_idle_by_default_none_with_0_and_ten_with_10() {
    for (policy, stay) in [(sql(), 2), (max_idle(0), 0), (max_idle(10), 10)] {
        let mut pool = Plain::new(policy);
        let ids = pool.lend(1, 12);
        pool.return_all(&ids);
        assert_eq!((pool.idle(), pool.closed_for(IdleLimit)), (stay, 12 - u64::from(stay)));
    }
}

/// database-sql 4.
#[tokio::test(start_paused = true)]
async fn five_times_the_limit_in_batches_stay_within_it_and_all_succeed() {
    let policy = Policy { max_idle_per_key: Some(4), ..max_open(4) };
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(policy);
    peer.set(&peer.connect, Way::Slow(Duration::from_millis(3)));
    for _batch in 0..3 {
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let _lease = pool.acquire(&1).await.expect("served");
                    sleep(Duration::from_millis(10)).await;
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("no panic");
        }
    }
    assert_eq!((peer.high_water.load(SeqCst), peer.attempts.load(SeqCst)), (4, 4));
    assert_eq!((pool.status().idle, pool.stats().leased), (4, 60));
}

/// database-sql 5. What differs: how long callers waited is not counted, only how many.
#[test]
fn a_wait_is_counted_when_it_starts_also_when_it_is_cancelled() {
    let mut pool = Plain::new(max_open(1));
    pool.lend_one(1);
    assert_eq!(pool.state.stats().waited, 0);
    let waiter = pool.acquire(1).waiter();
    assert_eq!((pool.state.stats().waited, pool.state.stats().gave_up), (1, 0));
    pool.cancel(waiter);
    assert_eq!((pool.state.stats().waited, pool.state.stats().gave_up), (1, 1));
}

/// database-sql 6.
#[test]
fn a_returned_connection_goes_to_one_waiter_and_is_never_idle_in_between() {
    let mut pool = Plain::new(max_open(1));
    let id = pool.lend_one(1);
    let waiters = pool.queue(5);
    pool.release(id);
    assert_eq!((pool.idle(), pool.state.status().leases, pool.woken.len()), (0, 1, 1));
    let served = served(&mut pool, &waiters);
    assert_eq!((served.len(), &served[0].1), (1, &Outcome::Lent(id)));
}

/// database-sql 7.
#[test]
fn waiters_are_served_in_no_order_each_about_equally_often() {
    let mut pool = Plain::new(max_open(1));
    let mut id = pool.lend_one(1);
    let mut first_served = [0_u32; 5];
    for _ in 0..2_000 {
        let waiters = pool.queue(5);
        pool.release(id);
        let (winner, outcome) = served(&mut pool, &waiters).pop().expect("one is served");
        let place = waiters.iter().position(|waiter| *waiter == winner).expect("one of them");
        first_served[place] += 1;
        id = outcome.lent();
        for waiter in waiters {
            if waiter != winner {
                pool.cancel(waiter);
            }
        }
    }
    // 400 expected, with a standard deviation of 18; the seed is fixed.
    assert!(first_served.iter().all(|times| (320..=480).contains(times)), "{first_served:?}");
}

/// database-sql 8.
#[test]
fn cancelled_waiters_take_nothing_with_them() {
    let mut pool = Plain::new(max_open(3));
    let ids = pool.lend(1, 3);
    for waiter in pool.queue(7) {
        pool.cancel(waiter);
    }
    assert_eq!(pool.state.status().waiting, 0);
    let waiters = pool.queue(3);
    pool.return_all(&ids);
    assert_eq!(served(&mut pool, &waiters).len(), 3);
    assert_eq!((pool.open(), pool.dials()), (3, 3));
}

/// database-sql 9.
#[test]
fn a_cancel_that_races_a_hand_over_neither_loses_nor_doubles_the_connection() {
    let mut pool = Plain::new(max_open(1));
    let id = pool.lend_one(1);
    for round in 0..1_000 {
        let waiters = pool.queue(2);
        pool.release(id);
        if round % 2 == 0 {
            // Either may have been served; both leave without looking.
            waiters.iter().for_each(|waiter| pool.cancel(*waiter));
            assert_eq!((pool.idle(), pool.acquire(1)), (1, Outcome::Lent(id)));
        } else {
            pool.cancel(waiters[0]);
            assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(id)));
        }
        assert_eq!((pool.open(), pool.state.status().leases), (1, 1));
    }
    assert_eq!(pool.dials(), 1);
}

/// database-sql 10. In Rust: a future that is dropped before its first poll.
#[tokio::test(start_paused = true)]
async fn an_operation_that_ended_before_it_began_takes_nothing_and_dials_nothing() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(sql());
    drop(pool.acquire(&1));
    assert_eq!((peer.attempts.load(SeqCst), pool.stats().dials), (0, 0));
    drop(pool.acquire(&1).await.expect("dialed"));
    drop(pool.acquire(&1));
    assert_eq!((pool.status().idle, pool.stats().leased), (1, 1));
}

/// database-sql 11.
#[test]
fn a_failed_direct_dial_is_its_callers_and_waiters_get_dials_of_their_own() {
    let mut pool = Plain::new(max_open(1));
    let direct = pool.acquire(1).dial();
    let waiters = pool.queue(2);
    pool.dial_failed(direct, Some("refused"));
    assert_eq!(served(&mut pool, &waiters), []);
    let opened = pool.only_dial();
    assert_eq!(pool.open(), 1);
    pool.dialed(opened);
    assert_eq!(served(&mut pool, &waiters).len(), 1);
    assert_eq!(pool.dials(), 2);
}

/// database-sql 12.
#[test]
fn when_every_dial_fails_every_caller_is_told_and_none_is_left() {
    let mut pool = Plain::new(max_open(2));
    let direct = [pool.acquire(1).dial(), pool.acquire(1).dial()];
    let waiters = pool.queue(4);
    for dial in direct {
        pool.dial_failed(dial, Some("refused"));
    }
    for left in (0..4).rev() {
        pool.dial_failed(pool.only_dial(), Some("refused"));
        let told = served(&mut pool, &waiters);
        assert!(matches!(told[..], [(_, Outcome::DialFailed("refused"))]), "one each: {told:?}");
        assert_eq!(pool.state.status().waiting, left);
    }
    assert_eq!((pool.open(), pool.background.len(), pool.dials()), (0, 0, 6));
}

/// database-sql 13, 14, 33.
#[test]
fn bad_connections_make_the_opener_dial_once_per_waiter_one_at_a_time() {
    let mut pool = Plain::new(max_open(3));
    let ids = pool.lend(1, 3);
    let waiters = pool.queue(2);
    for id in ids {
        pool.release_as(id, BROKEN);
    }
    assert_eq!(pool.finish_closing(), [Broken; 3]);
    for _ in 0..2 {
        pool.dialed(pool.only_dial());
        assert_eq!(served(&mut pool, &waiters).len(), 1);
    }
    assert_eq!((pool.background.len(), pool.dials(), pool.open()), (0, 3 + 2, 2));
}

/// database-sql 14. Direct dials.
#[test]
fn direct_dials_run_beside_each_other_and_the_openers() {
    let mut pool = Plain::new(max_open(3));
    let direct: Vec<_> = (0..3).map(|_| pool.acquire(1).dial()).collect();
    pool.queue(3);
    pool.dial_failed(direct[0], Some("refused"));
    pool.dial_failed(direct[1], Some("refused"));
    assert_eq!((pool.by_callers.len(), pool.background.len(), pool.open()), (1, 1, 2));
}

/// database-sql 15.
#[test]
fn what_the_opener_dialed_for_nobody_becomes_idle_if_there_is_room() {
    for (limit, idle) in [(1, 1), (0, 0)] {
        let mut pool = Plain::new(Policy { max_idle_per_key: Some(limit), ..max_open(1) });
        let id = pool.lend_one(1);
        let waiter = pool.acquire(1).waiter();
        pool.release_as(id, BROKEN);
        pool.finish_closing();
        pool.cancel(waiter);
        pool.dialed(pool.only_dial());
        assert_eq!((pool.idle(), pool.closed_for(IdleLimit)), (idle, 1 - u64::from(idle)));
    }
}

/// database-sql 16.
#[test]
fn a_caller_that_dials_is_not_served_by_a_return_which_becomes_idle() {
    let mut pool = Plain::new(sql());
    let id = pool.lend_one(1);
    let dial = pool.acquire(1).dial();
    pool.release(id);
    assert_eq!((pool.idle(), pool.woken.len()), (1, 0));
    assert_eq!(pool.dialed(dial), Some(dial), "it waits for its own");
}

/// Changes some of the limits.
fn change(pool: &mut Plain, change: impl FnOnce(&mut Limits)) {
    let mut limits = pool.state.policy().limits();
    change(&mut limits);
    pool.state.set_limits(limits, pool.now).expect("valid");
    pool.settle();
}

/// database-sql 17. Not counted as closed for the idle limit.
#[test]
fn a_limit_lowered_below_those_in_use_closes_what_returns_until_it_holds() {
    let mut pool = Plain::new(Policy { max_idle_per_key: Some(5), ..max_open(5) });
    let ids = pool.lend(1, 5);
    change(&mut pool, |limits| limits.max_open_per_key = Some(2));
    assert_eq!(pool.open(), 5);
    pool.return_all(&ids);
    assert_eq!(pool.closing, [(ids[0], OverLimit), (ids[1], OverLimit), (ids[2], OverLimit)]);
    pool.finish_closing();
    assert_eq!((pool.open(), pool.idle(), pool.closed_for(IdleLimit)), (2, 2, 0));
}

/// database-sql 18.
#[test]
fn a_lowered_limit_cuts_the_idle_at_once_and_raising_it_changes_nothing() {
    let mut pool = Plain::new(Policy { max_idle_per_key: Some(5), ..max_open(5) });
    let ids = pool.lend(1, 5);
    pool.return_all(&ids);
    change(&mut pool, |limits| limits.max_open_per_key = Some(2));
    assert_eq!(pool.finish_closing(), [OverLimit; 3]);
    assert_eq!((pool.open(), pool.idle()), (2, 2));
    change(&mut pool, |limits| limits.max_open_per_key = None);
    assert_eq!((pool.open(), pool.idle(), pool.dials()), (2, 2, 5));
}

/// database-sql 19. What differs: waiters notice at once, through the opener.
#[test]
fn when_the_limit_is_raised_the_opener_dials_for_those_who_wait() {
    let mut pool = Plain::new(max_open(1));
    pool.lend_one(1);
    let waiters = pool.queue(3);
    change(&mut pool, |limits| limits.max_open_per_key = Some(3));
    for already_served in 0..2 {
        assert_eq!(pool.state.status().waiting, 3 - already_served);
        let dial = pool.only_dial();
        pool.dialed(dial);
    }
    assert_eq!(served(&mut pool, &waiters).len(), 2);
    assert_eq!((pool.background.len(), pool.open()), (0, 3), "the limit is met again");
}

/// database-sql 20.
#[test]
fn an_idle_limit_lowered_from_5_to_2_closes_the_three_returned_last() {
    let mut pool = Plain::new(max_idle(5));
    let ids = pool.lend(1, 5);
    pool.return_all(&ids);
    change(&mut pool, |limits| limits.max_idle_per_key = Some(2));
    let mut closed: Vec<_> = pool.closing.iter().map(|(id, _)| *id).collect();
    closed.sort_unstable();
    assert_eq!(closed, ids[2..]);
    assert_eq!(pool.finish_closing(), [IdleLimit; 3]);
}

/// database-sql 21. What differs: an expired one is no failure, the next or a new one is taken.
#[test]
fn past_its_lifetime_a_connection_is_neither_lent_nor_parked_nor_handed_over() {
    let policy = Policy { max_lifetime: Some(60 * SECOND), ..max_open(1) };
    let mut pool = Plain::new(policy);
    let id = pool.lend_one(1);
    pool.release(id);
    // The clock jumps: the cleaner has not been there.
    pool.now = pool.now.after(60 * SECOND + TICK);
    assert!(matches!(pool.acquire(1), Outcome::Wait(_)));
    assert_eq!((pool.finish_closing(), pool.closed_for(Lifetime)), (vec![Lifetime], 1));
    let opened = pool.only_dial();
    pool.dialed(opened);
    let (first, _) = pool.waiters[0];
    assert_eq!(pool.collect(first), Some(Outcome::Lent(opened)));
    let waiter = pool.acquire(1).waiter();
    pool.pass(61 * SECOND);
    pool.release(opened);
    assert_eq!((pool.idle(), pool.collect(waiter)), (0, None));
    assert_eq!((pool.finish_closing(), pool.closed_for(Lifetime)), (vec![Lifetime], 2));
    pool.dialed(pool.only_dial());
    assert!(matches!(pool.collect(waiter), Some(Outcome::Lent(_))));
}

/// database-sql 23.
#[test]
fn the_cleaner_closes_those_that_lifo_leaves_idle_and_the_busy_ones_stay() {
    let policy = Policy { idle_timeout: Some(10 * SECOND), ..max_idle(5) };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 5);
    pool.return_all(&ids);
    for _ in 0..12 {
        let busy = pool.lend(1, 2);
        assert!(busy.iter().all(|id| ids[3..].contains(id)));
        pool.return_all(&busy);
        pool.pass(SECOND);
    }
    let closed: Vec<_> = pool.closing.iter().map(|(id, _)| *id).collect();
    assert_eq!(closed, ids[..3], "in order of return");
    assert_eq!((pool.finish_closing(), pool.idle()), (vec![IdleTimeout; 3], 2));
}

/// database-sql 24. That it stops when nothing is left to expire is not shown, see coverage.md.
#[test]
fn the_cleaner_comes_at_most_once_a_second_and_starts_again_on_demand() {
    let policy = Policy { idle_timeout: Some(SECOND / 10), ..max_idle(20) };
    let mut pool = Plain::new(policy);
    for _ in 0..2 {
        let mut rounds = Vec::new();
        for id in pool.lend(1, 20) {
            pool.release(id);
            let before = pool.closing.len();
            pool.pass(SECOND / 4);
            if pool.closing.len() > before {
                rounds.push(pool.now);
            }
        }
        assert!(rounds.len() >= 4, "{rounds:?}");
        assert!(rounds.windows(2).all(|pair| pair[1].since(pair[0]) >= SECOND), "{rounds:?}");
        pool.pass(SECOND + SECOND / 10);
        assert_eq!((pool.finish_closing().len(), pool.idle()), (20, 0), "all in the end");
        pool.pass(60 * SECOND);
    }
}

/// database-sql 25. The rule is the client's; what its three attempts meet is the pool's.
#[test]
fn two_bad_idle_connections_cost_two_attempts_and_the_third_insists_on_a_new_one() {
    let mut pool = Plain::new(max_idle(5));
    let ids = pool.lend(1, 5);
    pool.return_all(&ids);
    for _ in 0..2 {
        let bad = pool.acquire(1).lent();
        pool.release_as(bad, BROKEN);
    }
    let dial = pool.acquire_as(1, FRESH).dial();
    assert_eq!(pool.dialed(dial), Some(dial));
    assert_eq!((pool.closed_for(Broken), pool.idle(), pool.dials()), (2, 3, 6));
}

/// database-sql 26. The pool's part.
#[test]
fn after_an_error_that_is_not_bad_the_connection_stays_pooled() {
    let mut pool = Plain::new(sql());
    let id = pool.lend_one(1);
    pool.release(id);
    assert_eq!((pool.idle(), pool.acquire(1)), (1, Outcome::Lent(id)));
}

/// database-sql 27.
#[tokio::test(start_paused = true)]
async fn a_connection_found_invalid_at_its_return_is_closed_and_a_waiter_gets_a_fresh_one() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(max_open(1));
    let lease = pool.acquire(&1).await.expect("dialed");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(|lease| (lease.number, lease.is_reused())) }
    });
    fake::until("it waits", || pool.status().waiting == 1).await;
    lease.broken.store(true, SeqCst);
    drop(lease);
    assert_eq!(waiter.await.expect("no panic").expect("served"), (1, false));
    assert_eq!((peer.attempts.load(SeqCst), pool.stats().closed(Broken)), (2, 1));
}

/// database-sql 29.
#[test]
fn always_new_at_the_limit_accepts_a_returned_connection() {
    let mut pool = Plain::new(max_open(1));
    let id = pool.lend_one(1);
    let waiter = pool.acquire_as(1, FRESH).waiter();
    pool.release(id);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    assert_eq!(pool.dials(), 1);
}

/// database-sql 30. A lease is a dedicated connection.
#[tokio::test(start_paused = true)]
async fn a_dedicated_connection_that_panics_is_discarded() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(max_open(1));
    let lease = pool.acquire(&1).await.expect("dialed");
    let task = tokio::spawn(async move {
        assert_eq!(lease.number, 0, "the same physical connection each time");
        panic!("inside raw access");
    });
    assert!(task.await.expect_err("it panicked").is_panic());
    assert_eq!((pool.status().open, pool.stats().closed(Lost), peer.open()), (0, 1, 0));
}

/// database-sql 31.
#[test]
fn limit_1_a_result_set_holds_its_connection_until_it_is_closed() {
    let mut pool = Plain::new(max_open(1));
    let id = pool.lend_one(1);
    let second = pool.acquire(1).waiter();
    pool.pass(20 * SECOND);
    assert_eq!(pool.collect(second), None);
    pool.release(id);
    assert_eq!(pool.collect(second), Some(Outcome::Lent(id)));
}

/// database-sql 34.
#[test]
fn close_fails_waiters_at_once_and_closes_idle_now_and_used_ones_at_their_return() {
    let mut pool = Plain::new(max_open(2));
    let ids = pool.lend(1, 2);
    let waiter = pool.acquire(1).waiter();
    let other = pool.lend_one(2);
    pool.release(other);
    for _ in 0..2 {
        pool.state.close(pool.now);
        pool.settle();
    }
    assert_eq!(pool.collect(waiter), Some(Outcome::Refused(Refusal::Closed)));
    assert_eq!(pool.closing, [(other, PoolClosed)]);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Closed));
    pool.return_all(&ids);
    assert_eq!(pool.finish_closing(), [PoolClosed; 3]);
    assert_eq!(pool.state.status(), Status::default());
}

/// database-sql 35.
#[test]
fn dials_in_progress_count_as_open_and_in_use() {
    let mut pool = Plain::new(sql());
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    pool.acquire_as(1, FRESH).dial();
    let status = pool.state.status();
    assert_eq!((status.open, status.idle, status.open - status.idle), (3, 1, 2));
    assert_eq!((status.leased, status.dialing), (1, 1));
}

/// database-sql 36.
#[test]
fn a_storm_ends_with_as_many_open_as_idle() {
    for seed in 0..20 {
        let pool = storm(max_open(4), seed);
        let status = pool.state.status();
        assert_eq!(status, Status { open: status.idle, idle: status.idle, ..Status::default() });
        assert!(pool.state.stats().peak_open <= 4 && pool.state.stats().closed(Broken) > 10);
    }
}
