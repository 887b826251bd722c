//! The state machine.

use crate::support::driver::{Driver, Outcome};
use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::{Action, Fitness, Refusal, Want};
use pool_common::{Exclusive, Policy, Shared, profile};
use std::time::Duration;
type Ex = Driver<Exclusive<u32>>;
type Sh = Driver<Shared<u32>>;

#[test]
fn fresh_below_the_limit_is_given_a_reused_one() {
    let mut d = Ex::new(Policy::default());
    let old = d.lend_one(1);
    let w = d.acquire_as(1, Want { fresh: true, again: false }).waiter();
    assert_eq!(d.background.len(), 1, "a dial is in progress for it");
    d.release(old);
    match d.collect(w) {
        Some(Outcome::Lent(id)) => assert_ne!(id, old, "fresh got a used one"),
        other => assert!(other.is_none(), "{other:?}"),
    }
}

#[test]
fn fail_fast_is_hidden_by_a_full_pool() {
    let mut d = Ex::new(Policy {
        max_open: Some(1),
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::FailFast,
        back_off_after: 1,
        back_off_base: Duration::from_secs(5),
        back_off_max: Duration::from_secs(5),
        acquire_timeout: None,
        ..Policy::default()
    });
    let dial = d.acquire(2).dial();
    d.dial_failed(dial, Some("down"));
    assert!(matches!(d.acquire(2), Outcome::Refused(Refusal::BackingOff { .. })));
    let a = d.lend_one(1);
    d.release(a); // idle, healthy
    let o = d.acquire(2);
    assert!(
        matches!(o, Outcome::Refused(Refusal::BackingOff { .. })),
        "must fail fast, not wait and close another key's idle connection"
    );
}

#[test]
fn shared_dial_in_progress_closes_other_keys_idle() {
    let mut d = Sh::new(Policy { max_open: Some(2), dial: Dial::Shared, ..Policy::default() });
    let a = d.lend_one(1);
    d.release(a);
    d.acquire(2).waiter(); // dial for key 2 in progress, pool full
    d.acquire(2).waiter();
    assert!(d.closing.is_empty(), "the dial in progress serves both: {:?}", d.closing);
}

#[test]
fn raised_capacity_does_not_wake_dials() {
    let mut d = Sh::new(Policy { max_open_per_key: Some(5), ..Policy::default() });
    let c = d.lend_one(1); // capacity 2
    assert_eq!(d.acquire(1).lent(), c);
    d.state.set_capacity(c, 0, d.now);
    d.settle();
    let w = d.acquire(1).waiter();
    assert_eq!(d.background.len(), 0);
    d.state.set_capacity(c, 2, d.now);
    d.settle(); // full again, not useless
    assert_eq!(d.background.len(), 1, "the limits allow a dial for {w:?}, and nothing starts it");
}

#[test]
fn raised_capacity_serves_some_and_forgets_the_rest() {
    let mut d =
        Sh::new(Policy { max_open_per_key: Some(5), dial: Dial::Shared, ..Policy::default() });
    d.capacity = 0;
    for _ in 0..5 {
        d.acquire(1).waiter();
    }
    let dial = d.background[0];
    d.dialed(dial);
    d.state.set_capacity(dial, 1, d.now);
    d.settle();
    assert_eq!(d.background.len(), 1, "4 wait, 4 more may be opened, none is dialed");
}

#[test]
fn lowered_capacity_was_forgotten_by_who_handed_over() {
    let mut d = Sh::new(Policy { max_open_per_key: Some(1), ..Policy::default() });
    let c = d.lend_one(1); // capacity 2
    assert_eq!(d.acquire(1).lent(), c);
    let waiter = d.acquire(1).waiter();
    d.state.set_capacity(c, 1, d.now);
    d.settle();
    d.release_or_hand_over(c);
    assert_eq!(d.state.status().leases, 1, "one lease is all that the peer allows now");
    d.release_or_hand_over(c);
    assert_eq!((d.collect(waiter), d.state.status().leases), (None, 1), "now it has its turn");
}

#[test]
fn raised_capacity_lent_what_was_past_its_time() {
    for (minutes, cause) in [(5, CloseCause::IdleTimeout), (60, CloseCause::Lifetime)] {
        let mut d = Sh::new(Policy { expiry: Expiry::AtAcquire, ..Policy::default() });
        let c = d.lend_one(1);
        d.state.set_capacity(c, 0, d.now);
        d.release(c);
        let waiter = d.acquire(1).waiter();
        d.pass(Duration::from_secs(minutes * 60));
        d.state.set_capacity(c, 2, d.now);
        d.settle();
        assert_eq!(d.collect(waiter), None, "{cause:?}");
        assert_eq!(d.closing, [(c, cause)]);
        assert_eq!(d.background.len(), 1, "{cause:?}: a dial is in progress for the waiter");
    }
}

#[test]
fn max_waiters_0_shared() {
    let p = Policy {
        max_waiters: Some(0),
        at_limit: AtLimit::Fail,
        dial: Dial::Shared,
        ..Policy::default()
    };
    p.validate().expect("valid");
    let mut d = Sh::new(p);
    let o = d.acquire(1);
    assert!(matches!(o, Outcome::Wait(_)), "{o:?}");
}

#[test]
fn one_starving_waiter_closes_everything_released() {
    let mut d = Ex::new(Policy { max_open: Some(4), ..Policy::default() });
    let held = d.lend(1, 4);
    d.acquire(2).waiter();
    for id in held {
        d.release(id);
    }
    assert_eq!(d.closing.len(), 1, "one waiter needs one place: {:?}", d.closing);
}

#[test]
fn a_key_whose_dial_was_given_up_is_never_forgotten() {
    let mut d = Ex::new(Policy {
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::Tell,
        ..Policy::default()
    });
    let dial = d.acquire(1).dial();
    d.dial_failed(dial, Some("down"));
    d.pass(Duration::from_secs(4));
    let dial = d.acquire(1).dial();
    d.pass(Duration::from_secs(2));
    d.dial_failed(dial, None);
    d.pass(Duration::from_secs(3600));
    assert_eq!(d.state.known_keys(), 0);
}

#[test]
fn cold_start_with_a_floor_and_fail() {
    let mut d = Ex::new(Policy {
        min_idle: 2,
        max_open_per_key: Some(2),
        at_limit: AtLimit::Fail,
        ..Policy::default()
    });
    let o = d.acquire(1);
    assert!(!matches!(o, Outcome::Refused(_)), "{o:?}, nothing is leased");
}

#[test]
fn floor_once_with_few_dials_at_a_time() {
    let mut d = Ex::new(Policy {
        min_idle: 3,
        floor: Floor::Once,
        max_dials_per_key: Some(1),
        ..Policy::default()
    });
    d.state.warm_up(&1, d.now);
    d.settle();
    while let Some(&id) = d.background.first() {
        d.dialed(id);
    }
    assert_eq!(d.state.status().idle, 3);
}

#[test]
fn newcomer_overtakes_waiters_of_the_opener() {
    let mut d = Ex::new(Policy { max_open_per_key: Some(3), ..profile::database_sql().policy });
    let held = d.lend(1, 3);
    for _ in 0..3 {
        d.acquire(1).waiter();
    }
    for id in held {
        d.release_as(id, Fitness::Unfit(CloseCause::Broken));
    }
    d.finish_closing();
    let o = d.acquire(1);
    assert!(matches!(o, Outcome::Wait(_)), "three waited before it: {o:?}");
}

#[test]
fn capacity_zero_by_caller() {
    let mut d = Sh::new(Policy { dial: Dial::Caller, ..Policy::default() });
    d.capacity = 0;
    let dial = d.acquire(1).dial();
    let c = d.dialed(dial).expect("first");
    d.release(c);
    let o = d.acquire(1);
    assert!(!matches!(o, Outcome::Lent(_)), "the peer allows none: {o:?}");
}

#[test]
fn useless_sticks_for_caller() {
    let mut d = Sh::new(Policy { dial: Dial::Caller, ..Policy::default() });
    d.capacity = 0;
    let dial = d.acquire(1).dial();
    let _c = d.dialed(dial).expect("first");
    let next = d.acquire(1);
    assert!(!matches!(next, Outcome::Lent(_)), "the peer allows no lease: {next:?}");
}

/// Promise 4: whose dial failed, and who goes on waiting, is the next to be dialed for.
#[test]
fn untie_loses_the_next_dial() {
    let mut d = Ex::new(Policy {
        dial: Dial::Racing,
        orphan_dial: OrphanDial::Kept,
        max_dials_per_key: Some(1),
        wait_for_ready: true,
        after_failed_dial: AfterFailedDial::BackOff,
        back_off_after: 1,
        dial_ramp: None,
        ..Policy::default()
    });
    let [first, second] = [1, 1].map(|key| d.acquire(key).waiter());
    let dial = d.background[0];
    d.dial_failed(dial, Some("down"));
    d.pass(Duration::from_secs(600));
    let dial = d.background[0];
    d.dialed(dial);
    assert!(d.collect(first).is_some(), "the first in line is served first");
    assert!(d.collect(second).is_none());
}

#[test]
fn untie_loses_place() {
    // detached, patient
    let mut d = Ex::new(Policy {
        dial: Dial::Detached,
        max_open_per_key: Some(2),
        wait_for_ready: true,
        back_off_after: 1,
        ..Policy::default()
    });
    let held = d.lend_one(1);
    let first = d.acquire(1).waiter();
    let second = d.acquire(1).waiter();
    let dial = d.background[0];
    d.dial_failed(dial, Some("down"));
    d.release(held);
    assert!(d.collect(first).is_some(), "second was served before first: {:?}", d.collect(second));
}

#[test]
fn keys_with_a_floor_are_never_forgotten() {
    let mut d = Ex::new(profile::silenceper().policy);
    for key in 0..100u8 {
        d.state.warm_up(&key, d.now);
        d.settle();
        while let Some(&id) = d.background.first() {
            d.dialed(id);
        }
        let mut ids = vec![];
        for _ in 0..5 {
            ids.push(d.lend_one(key));
        }
        for id in ids {
            d.release_as(id, Fitness::Unfit(CloseCause::Broken));
        }
        d.finish_closing();
    }
    assert_eq!(d.state.status().open, 0);
    assert_eq!(d.state.known_keys(), 0);
}

#[test]
fn timers_grow_with_failures() {
    let mut d = Ex::new(Policy {
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::Tell,
        back_off_max: Duration::from_secs(3600),
        ..Policy::default()
    });
    for _ in 0..1000 {
        let dial = d.acquire(1).dial();
        d.dial_failed(dial, Some("down"));
    }
    let text = format!("{:?}", d.state);
    let at = text.find("timers:").unwrap();
    let end = text[at..].find("]").unwrap();
    assert!(end < 10_000, "the heap of timers has grown to {end} bytes of text");
}

#[test]
fn a_floor_denied_room_is_never_filled() {
    let mut d = Ex::new(Policy {
        min_idle: 1,
        max_open: Some(2),
        idle_timeout: Some(Duration::from_secs(10)),
        ..Policy::default()
    });
    let a = d.lend_one(2);
    while d.state.status().dialing > 0 {
        let id = d.background[0];
        d.dialed(id);
    }
    d.state.warm_up(&1, d.now);
    d.settle();
    assert_eq!(d.state.status().open, 2);
    d.release_as(a, Fitness::Unfit(CloseCause::Broken));
    d.finish_closing();
    for _ in 0..100 {
        d.pass(Duration::from_secs(1));
        d.finish_closing();
        while let Some(&id) = d.background.first() {
            d.dialed(id);
        }
    }
    assert_eq!(d.state.status().idle, 2, "one for each key: there is room for both");
}

#[test]
fn a_second_starving_key_is_left_behind() {
    let mut d = Ex::new(Policy { max_open: Some(3), ..Policy::default() });
    let idle = d.lend(1, 2);
    let _held = d.lend_one(9);
    for id in idle {
        d.release(id);
    }
    let two = d.acquire(2).waiter();
    let three = d.acquire(3).waiter();
    let first = d.closing[0].0;
    d.closed(first); // one place: for key 2
    for dial in d.background.clone() {
        d.dialed(dial);
    }
    d.collect(two);
    d.collect(three);
    d.pass(Duration::from_secs(60)); // less than the idle timeout
    d.finish_closing();
    for dial in d.background.clone() {
        d.dialed(dial);
    }
    assert!(
        d.collect(three).is_some() || d.state.status().waiting == 0,
        "a waiter waits, and key 1 has an idle connection in its way: {:?}",
        d.state.status()
    );
}

#[test]
fn the_goodbye_of_a_cancelled_grant_is_not_alone() {
    let mut d = Sh::new(Policy { max_open_per_key: Some(1), ..Policy::default() });
    d.capacity = 1;
    let a = d.lend_one(1);
    let w = d.acquire(1).waiter();
    d.release(a); // goes to the waiter
    d.state.close(d.now);
    d.settle();
    let leftover = d.state.cancel(w, d.now);
    let Some(Action::Close { handle, .. }) = d.state.poll_action() else { panic!("no goodbye") };
    let handles = std::sync::Arc::strong_count(&handle.into_arc());
    assert_eq!(handles, 1, "close() returns while the leaver still holds a handle");
    drop(leftover);
}

#[test]
fn a_try_lent_one_that_had_to_be_checked_behind_one_past_its_time() {
    let mut d = Ex::new(Policy {
        check: Check::IfIdleLonger,
        check_after: Duration::from_secs(10),
        idle_timeout: None,
        max_lifetime: Some(Duration::from_secs(100)),
        lifetime_jitter: Duration::ZERO,
        expiry: Expiry::AtAcquire,
        dial: Dial::Caller,
        dial_ramp: None,
        ..Policy::default()
    });
    let older = d.lend_one(1);
    d.pass(Duration::from_secs(60));
    let younger = d.lend_one(1);
    d.pass(Duration::from_secs(20));
    d.release(younger);
    d.pass(Duration::from_secs(19));
    d.release(older); // first in line, and a second from the end of its lifetime
    d.pass(Duration::from_secs(2));
    assert_eq!(d.try_acquire(1), None, "the younger one has been idle for 21 s");
}

#[test]
fn newcomer_took_the_dial_that_others_waited_for() {
    for orphan_dial in [OrphanDial::Kept, OrphanDial::Dropped, OrphanDial::Stopped] {
        let mut d = Ex::new(Policy { max_open_per_key: Some(1), orphan_dial, ..Policy::default() });
        let first = d.acquire(1).waiter();
        let second = d.acquire(1).waiter();
        d.cancel(first); // its dial goes on without a waiter
        let third = d.acquire(1).waiter();
        d.dialed(d.background[0]);
        assert!(d.collect(third).is_none(), "{orphan_dial:?}: the third was served first");
        assert!(matches!(d.collect(second), Some(Outcome::Lent(_))), "{orphan_dial:?}");
    }
}

#[test]
fn keys_that_starved_in_vain_were_never_forgotten() {
    let mut d = Ex::new(Policy { max_open: Some(1), ..Policy::default() });
    let held = d.lend_one(0);
    for _ in 0..10 {
        for key in 1..=200 {
            let waiter = d.acquire(key).waiter();
            d.cancel(waiter);
        }
    }
    assert_eq!(d.state.known_keys(), 1, "nobody waits for the others");
    let waiter = d.acquire(7).waiter();
    d.release_as(held, Fitness::Unfit(CloseCause::Broken));
    d.finish_closing();
    d.dialed(d.background[0]);
    assert!(matches!(d.collect(waiter), Some(Outcome::Lent(_))), "one that starves is served");
}

#[test]
fn timers_grow_with_those_that_are_replaced() {
    let mut d = Ex::new(Policy {
        idle_timeout: Some(Duration::from_secs(3600)),
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    });
    for _ in 0..1000 {
        let first = d.lend_one(1);
        let (second, third) = (d.acquire(1).waiter(), d.acquire(1).waiter());
        // The ramp holds the third one back: a timer well before the end of what is idle.
        d.dialed(d.background[0]);
        let second = d.collect(second).expect("a dial").lent();
        d.release(first);
        let third = d.collect(third).expect("the first one's").lent();
        while let Some(&dial) = d.background.first() {
            d.dial_failed(dial, None);
        }
        d.release(third);
        d.release_as(second, Fitness::Unfit(CloseCause::Broken));
        d.finish_closing();
        d.pass(Duration::from_millis(200));
    }
    let text = format!("{:?}", d.state);
    let at = text.find("timers:").unwrap();
    let end = text[at..].find("]").unwrap();
    assert!(end < 10_000, "the heap of timers has grown to {end} bytes of text");
}

#[test]
fn a_floor_that_was_denied_overtakes_those_who_wait() {
    let policy = Policy { min_idle: 1, max_idle: Some(1), dial_hedge: None, ..Policy::default() };
    let mut d = Ex::new(policy);
    d.state.warm_up(&1, d.now);
    d.state.warm_up(&2, d.now);
    d.settle();
    let floor = d.background[0];
    // No place for the floor of this one; the ramp holds the second caller back.
    d.acquire(2).waiter();
    d.acquire(2).waiter();
    assert_eq!(d.background.len(), 2, "a floor and a caller");
    d.now = d.now.after(Duration::from_secs(1)); // the ramp's timer is late
    d.dial_failed(floor, Some("down"));
    let status = d.state.status();
    assert_eq!((status.dialing, status.waiting), (2, 2), "each caller of key 2 has a dial");
}

#[test]
fn a_paused_key_was_made_room_for() {
    let mut d = Ex::new(Policy {
        max_open: Some(3),
        dial_ramp: None,
        back_off_after: 1,
        back_off_base: Duration::from_secs(5),
        back_off_max: Duration::from_secs(5),
        wait_for_ready: true,
        ..Policy::default()
    });
    d.acquire(1).waiter();
    d.acquire(1).waiter();
    let dials = d.background.clone();
    d.dial_failed(dials[0], Some("down")); // no dial for key 1 for five seconds
    let leased = d.lend(3, 2);
    d.acquire(2).waiter();
    d.dial_failed(dials[1], Some("down")); // its place goes to key 2
    assert_eq!(d.state.status().dialing, 1);
    d.release(leased[0]);
    assert!(d.closing.is_empty(), "closed for a dial that may not start: {:?}", d.closing);
}

#[test]
fn those_who_hoped_for_the_last_connection_waited_through_the_pause() {
    let mut d = Ex::new(Policy {
        max_open_per_key: Some(2),
        dial_ramp: None,
        back_off_after: 1,
        back_off_base: Duration::from_secs(5),
        back_off_max: Duration::from_secs(5),
        ..Policy::default()
    });
    let last = d.lend_one(1);
    let first = d.acquire(1).waiter();
    let second = d.acquire(1).waiter();
    d.dial_failed(d.background[0], Some("down"));
    assert!(d.collect(first).is_none(), "a connection may come back");
    assert!(d.collect(second).is_none(), "a connection may come back");
    d.release_as(last, Fitness::Unfit(CloseCause::Broken));
    d.finish_closing();
    let newcomer = d.acquire(1);
    assert!(matches!(newcomer, Outcome::Refused(Refusal::BackingOff { .. })), "{newcomer:?}");
    let told = d.collect(second);
    assert!(matches!(told, Some(Outcome::Refused(Refusal::BackingOff { .. }))), "{told:?}");
}

#[test]
fn who_waited_for_the_opener_had_idle_connections_closed() {
    let mut d = Ex::new(Policy {
        max_open: Some(5),
        max_open_per_key: Some(1),
        ..profile::database_sql().policy
    });
    let [one, two, three] = [1, 2, 3].map(|key| d.lend_one(key));
    let waiters = [1, 2].map(|key| d.acquire(key).waiter());
    for broken in [one, two] {
        d.release_as(broken, Fitness::Unfit(CloseCause::Broken));
    }
    d.finish_closing();
    assert_eq!(d.background.len(), 1, "the opener dials for key 1; key 2 has its turn next");
    d.release(three);
    assert!(d.closing.is_empty(), "nothing is in anybody's way: {:?}", d.closing);
    for waiter in waiters {
        d.dialed(d.background[0]);
        assert!(matches!(d.collect(waiter), Some(Outcome::Lent(_))));
    }
}
