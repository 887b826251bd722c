use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// Apache Thrift's client: one connection, one call at a time.
pub fn thrift() -> Profile {
    Profile {
        name: "thrift",
        system: "Apache Thrift client, serial (0.24)",
        summary: "No pool: one open transport, one call at a time, replies matched by sequence id; \
                  the baseline of every other strategy.",
        policy: Policy {
            idle_order: IdleOrder::NewestFirst,
            max_open_per_key: Some(1),
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
            idle_timeout: None,
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
    same(Question::IdleOrder, "there is one connection"),
    same(Question::OpenLimit, "one transport for each client"),
    same(Question::IdleLimit, "none"),
    same(Question::Floor, "none"),
    differs(
        Question::AtLimit,
        "a client must not be shared; two overlapping calls corrupt the stream (THRIFT-3247)",
        "callers wait in line, at most 30 s",
    ),
    differs(Question::WaiterOrder, "none", "first come first served"),
    differs(
        Question::Dial,
        "the user opens the transport; connect timeout 0 = none",
        "the caller, within 10 s; a broken connection is replaced",
    ),
    same(Question::OrphanDial, "the caller's own"),
    same(Question::Check, "never; isOpen is only a hint"),
    same(Question::Age, "none"),
    same(Question::AfterFailedDial, "its caller is told"),
    differs(
        Question::Return,
        "after a mismatch the client stays usable and out of step",
        "a connection that is out of step is closed",
    ),
    same(Question::Retry, "none; no reconnection either"),
];
