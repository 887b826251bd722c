use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// Go's HTTP/2 client: connections stay in the list and many streams share them.
pub fn net_http_h2() -> Profile {
    Profile {
        name: "net-http-h2",
        system: "Go net/http and x/net/http2, HTTP/2 (Go 1.27)",
        summary: "Takes a stream of the oldest connection that has room; when all are full, dials \
                  one more for all waiters.",
        policy: Policy {
            idle_order: IdleOrder::FirstWithRoom,
            max_open_per_key: None,
            waiter_order: WaiterOrder::AllAtOnce,
            dial: Dial::Shared,
            orphan_dial: OrphanDial::Kept,
            dial_ramp: None,
            dial_timeout: Duration::from_secs(30),
            peek: true,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: Some(Duration::from_secs(90)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::Timer,
            after_failed_dial: AfterFailedDial::Tell,
            retry: Retry::Unprocessed,
            retry_attempts: 8,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(Question::IdleOrder, "clientConnPool scans conns[addr] from the oldest, first fit"),
    differs(
        Question::OpenLimit,
        "MaxConnsPerHost does not cap HTTP/2 (#34941)",
        "a limit that is set is kept; at it, requests wait (StrictMaxConcurrentRequests)",
    ),
    differs(
        Question::IdleLimit,
        "MaxIdleConns and MaxIdleConnsPerHost limit tokens, not connections",
        "a limit that is set counts connections",
    ),
    same(Question::Floor, "none"),
    differs(
        Question::AtLimit,
        "opens another connection; waits only in strict mode",
        "the same without a limit; strict mode is max_open_per_key=1. 30 s bound the acquire",
    ),
    same(
        Question::WaiterOrder,
        "a token is handed to all waiters of the key at once; in strict \
         mode the gate makes waiting for a stream first come first served",
    ),
    differs(
        Question::Dial,
        "x/net: joined dials, one at a time; net/http: every cold request dials, surplus is closed",
        "one dial for all, which spares N - 1 handshakes (#13397); dial=racing is net/http's way; \
         an overdue dial is hedged (dial_hedge=none: it holds up all callers)",
    ),
    same(Question::OrphanDial, "kept"),
    differs(
        Question::Check,
        "a PING after SendPingTimeout of silence, off by default",
        "the same, as the keep-alive of h2-shared; the pool itself does not check",
    ),
    same(Question::Age, "IdleConnTimeout = 90 s since the last stream ended; no lifetime"),
    differs(
        Question::AfterFailedDial,
        "all callers that joined the dial are told",
        "a caller that joined later gets one more dial first; beside a connection that works \
         callers wait for its streams, and further dials pause",
    ),
    same(Question::Return, "nothing to reset: a dropped stream is cancelled"),
    differs(
        Question::Retry,
        "unusable connection, GOAWAY above the last id, REFUSED_STREAM; 8 attempts at 0, 1, 2, 4 s",
        "at most 8 attempts; h2-shared chooses the delays",
    ),
];
