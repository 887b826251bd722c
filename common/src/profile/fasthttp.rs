use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// fasthttp's `HostClient`.
pub fn fasthttp() -> Profile {
    Profile {
        name: "fasthttp",
        system: "fasthttp HostClient (v1.73)",
        summary: "A bounded array of idle connections, oldest first; the caller dials and does its \
                  I/O itself; at the limit it fails at once. Dead connections are found by failing, \
                  and idempotent requests try again.",
        policy: Policy {
            idle_order: IdleOrder::OldestFirst,
            max_open_per_key: Some(512),
            at_limit: AtLimit::Fail,
            waiter_order: WaiterOrder::Arrival,
            dial: Dial::Caller,
            dial_for_waiters: DialForWaiters::Background,
            orphan_dial: OrphanDial::Kept,
            dial_ramp: None,
            dial_hedge: None,
            dial_timeout: Duration::from_secs(3),
            peek: false,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: Some(Duration::from_secs(10)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::Timer,
            after_failed_dial: AfterFailedDial::Tell,
            retry: Retry::Idempotent,
            retry_attempts: 5,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(
        Question::IdleOrder,
        "ConnPoolStrategy: FIFO since 2022; before, and as the option LIFO, newest first \
         (idle_order=newest-first)",
    ),
    same(Question::OpenLimit, "MaxConns = 512 for each host, dialing included"),
    same(Question::IdleLimit, "none apart from MaxConns"),
    same(Question::Floor, "none"),
    differs(
        Question::AtLimit,
        "MaxConnWaitTimeout = 0: NoFreeConns at once; else waits that long (at_limit=wait)",
        "looking and queueing are one step here, so no wake-up is lost (#2391)",
    ),
    same(Question::WaiterOrder, "wantConnQueue, first come first served"),
    differs(
        Question::Dial,
        "the caller; when a connection closes while callers wait, a background dial for the first",
        "that waiter can still be served by a connection that comes back before its dial ends",
    ),
    same(Question::OrphanDial, "a background dial whose waiter left becomes idle"),
    same(Question::Check, "never; a dead connection is found by the request that fails on it"),
    differs(
        Question::Age,
        "MaxIdleConnDuration = 10 s by a cleaner that sleeps until the oldest expires; \
         MaxConnDuration = 0",
        "an expired connection is never lent, not even before the cleaner wakes",
    ),
    same(Question::AfterFailedDial, "its caller is told; no back-off (#1448)"),
    same(Question::Return, "nothing to reset"),
    same(Question::Retry, "GET, HEAD and PUT, MaxIdemponentCallAttempts = 5, no delay"),
];
