use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// Go's `net/http` `Transport` for HTTP/1, as the shared default client configures it.
pub fn net_http() -> Profile {
    Profile {
        name: "net-http",
        system: "Go net/http Transport, HTTP/1 (Go 1.27)",
        summary: "Takes the newest idle connection of its key; else waits for one to come back and \
                  dials at the same time, and takes whichever is first. The loser is kept.",
        policy: Policy {
            idle_order: IdleOrder::NewestFirst,
            max_open_per_key: None,
            max_idle_per_key: Some(2),
            max_idle: Some(100),
            idle_overflow: IdleOverflow::CloseReturned,
            waiter_order: WaiterOrder::Arrival,
            dial: Dial::Racing,
            orphan_dial: OrphanDial::Kept,
            dial_ramp: None,
            dial_hedge: None,
            adopt_dials: false,
            dial_timeout: Duration::from_secs(30),
            peek: true,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: Some(Duration::from_secs(90)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::Timer,
            after_failed_dial: AfterFailedDial::Tell,
            retry: Retry::ReusedAndReplayable,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(Question::IdleOrder, "Transport.queueForIdleConn takes from the end of idleConn[key]"),
    same(Question::OpenLimit, "Transport.MaxConnsPerHost, 0 = no limit; counts dialing too"),
    same(
        Question::IdleLimit,
        "MaxIdleConnsPerHost, 0 = 2: the newcomer is closed. DefaultTransport.MaxIdleConns = 100: \
         the longest idle of any key is closed",
    ),
    same(Question::Floor, "none"),
    differs(
        Question::AtLimit,
        "waits as long as the request's context allows",
        "30 s, because a body that is never closed would hang all other callers forever (#16953); \
         acquire_timeout=none is the original",
    ),
    same(Question::WaiterOrder, "wantConnQueue, first come first served"),
    same(Question::Dial, "Transport.dialConnFor in a separate goroutine; dialer timeout 30 s"),
    same(
        Question::OrphanDial,
        "kept since 1.23; a new caller starts another dial (#60111), adopt_dials=true avoids that",
    ),
    differs(
        Question::Check,
        "persistConn.readLoop watches every idle connection",
        "the pool looks when it lends a connection, and at least twice a second while it is idle: \
         no task per connection, and a system call only after idling",
    ),
    same(Question::Age, "DefaultTransport.IdleConnTimeout = 90 s, a timer for each; no lifetime"),
    differs(
        Question::AfterFailedDial,
        "only the waiter that dialed is told",
        "over HTTP/2, beside a connection that works, callers wait for its streams instead",
    ),
    same(Question::Return, "no reset; an early closed body is drained for 50 ms and 256 KiB"),
    differs(
        Question::Retry,
        "persistConn.shouldRetryRequest: reused and replayable, no count",
        "at most 3 attempts, the third on a fresh connection: a server whose connections die at their \
         second request would get one GET once for each idle connection",
    ),
];
