use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// redigo's `Pool`, set up as its documentation's example.
pub fn redigo() -> Profile {
    Profile {
        name: "redigo",
        system: "redigo Pool (v1.9.3)",
        summary: "A stack of idle connections without any background work: pruning, testing and \
                  dialing happen in the caller's time. A returned session is brought back to neutral.",
        policy: Policy {
            idle_order: IdleOrder::NewestFirst,
            max_open_per_key: None,
            max_idle_per_key: Some(3),
            idle_overflow: IdleOverflow::CloseOldest,
            at_limit: AtLimit::Fail,
            waiter_order: WaiterOrder::Arrival,
            dial: Dial::Caller,
            dial_for_waiters: DialForWaiters::Waiter,
            orphan_dial: OrphanDial::Dropped,
            dial_ramp: None,
            dial_hedge: None,
            dial_timeout: Duration::from_secs(30),
            peek: false,
            check: Check::IfIdleLonger,
            check_after: Duration::from_secs(60),
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: Some(Duration::from_secs(240)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::PruneAtAcquire,
            after_failed_dial: AfterFailedDial::Tell,
            retry: Retry::Never,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(Question::IdleOrder, "the idle list's front: the one returned last; no other order"),
    same(Question::OpenLimit, "MaxActive = 0: no limit"),
    differs(
        Question::IdleLimit,
        "MaxIdle, 0 = keep none; beyond it the longest idle is closed",
        "3, as in its documentation's example: the zero value closes every connection after use",
    ),
    same(Question::Floor, "none"),
    differs(
        Question::AtLimit,
        "Wait = false: PoolExhausted; Wait = true waits for the context only (at_limit=wait)",
        "30 s bound a wait; acquire_timeout=none is the original",
    ),
    same(Question::WaiterOrder, "the token channel's queue: first come first served in practice"),
    same(Question::Dial, "DialContext in the caller; connect timeout 30 s"),
    same(Question::OrphanDial, "the caller's own, so it ends with the caller"),
    differs(
        Question::Check,
        "TestOnBorrow, given the time of the return; the example pings after a minute of idling",
        "the test has a time limit, and is skipped for a connection past its lifetime",
    ),
    same(
        Question::Age,
        "IdleTimeout = 240 s in the example, pruned at every Get; \
         MaxConnLifetime = 0",
    ),
    same(Question::AfterFailedDial, "its caller is told; no back-off"),
    differs(
        Question::Return,
        "activeConn.Close: DISCARD, UNWATCH, UNSUBSCRIBE, then a sentinel ECHO; no time limit",
        "the reset has a time limit",
    ),
    same(Question::Retry, "none"),
];
