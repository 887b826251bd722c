use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// silenceper/pool's channel pool, corrected, set up as its README's example.
pub fn silenceper() -> Profile {
    Profile {
        name: "silenceper",
        system: "silenceper/pool channelPool (v1.0.0)",
        summary: "The textbook design: a bounded channel of idle items, oldest first, a counter, and \
                  callers that wait in line at the limit.",
        policy: Policy {
            idle_order: IdleOrder::OldestFirst,
            max_open_per_key: Some(30),
            max_idle_per_key: Some(20),
            idle_overflow: IdleOverflow::CloseReturned,
            min_idle: 5,
            floor: Floor::Once,
            at_limit: AtLimit::Wait,
            waiter_order: WaiterOrder::Arrival,
            dial: Dial::Caller,
            dial_for_waiters: DialForWaiters::Waiter,
            orphan_dial: OrphanDial::Dropped,
            dial_ramp: None,
            dial_hedge: None,
            dial_timeout: Duration::from_secs(10),
            peek: false,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: Some(Duration::from_secs(15)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::AtAcquire,
            after_failed_dial: AfterFailedDial::Tell,
            retry: Retry::Never,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(Question::IdleOrder, "a channel: first in, first out"),
    differs(
        Question::OpenLimit,
        "MaxCap = 30 in the example; 0 is accepted and hangs",
        "a limit of 0 is refused, and a double return cannot break the count",
    ),
    same(Question::IdleLimit, "MaxIdle = 20 in the example; a return beyond it is closed"),
    differs(
        Question::Floor,
        "InitialCap = 5 in the example, made one by one by the constructor",
        "dialed in the background when a key is first used",
    ),
    differs(
        Question::AtLimit,
        "waits without a time limit",
        "30 s; a closed pool wakes its waiters; looking and queueing are one step",
    ),
    same(Question::WaiterOrder, "connReqs, first come first served"),
    differs(
        Question::Dial,
        "the caller, under the pool's lock; waiters are not told of freed room (#32)",
        "without the lock; freed room lets the first waiter dial",
    ),
    same(Question::OrphanDial, "the caller's own"),
    same(Question::Check, "Ping is optional and off in the example (check=always turns it on)"),
    same(Question::Age, "IdleTimeout = 15 s in the example, looked at when an item is taken"),
    same(Question::AfterFailedDial, "its caller is told"),
    same(Question::Return, "nothing is reset"),
    same(Question::Retry, "none"),
];
