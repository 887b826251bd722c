use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// go-redis's `ConnPool` and its retrying client.
pub fn go_redis() -> Profile {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let pool_size = u32::try_from(10 * cores).unwrap_or(u32::MAX);
    Profile {
        name: "go-redis",
        system: "go-redis ConnPool (v9.22)",
        summary: "A bounded number of turns, newest idle first; dials run detached from their \
                  callers; a floor is refilled in the background; dead connections are found by a \
                  peek, and failed commands are tried again after a jittered pause.",
        policy: Policy {
            idle_order: IdleOrder::NewestFirst,
            max_open_per_key: Some(pool_size),
            min_idle: 0,
            floor: Floor::Kept,
            at_limit: AtLimit::Wait,
            acquire_timeout: Some(Duration::from_secs(6)),
            waiter_order: WaiterOrder::Arrival,
            dial: Dial::Detached,
            orphan_dial: OrphanDial::Kept,
            dial_ramp: None,
            dial_hedge: None,
            adopt_dials: false,
            dial_timeout: Duration::from_secs(5),
            peek: true,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            max_failed_checks: Some(3),
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::AtAcquire,
            after_failed_dial: AfterFailedDial::FailFast,
            back_off_after: pool_size,
            back_off_base: Duration::from_secs(1),
            retry: Retry::Attempts,
            retry_attempts: 4,
            retry_back_off_min: Duration::from_millis(10),
            retry_back_off_max: Duration::from_secs(1),
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(Question::IdleOrder, "PoolFIFO = false; true is idle_order=oldest-first"),
    differs(
        Question::OpenLimit,
        "PoolSize = 10 for each CPU, counted in turns; MaxActiveConns = 0",
        "the limit counts connections, so refills and orphaned dials are within it too",
    ),
    same(Question::IdleLimit, "MaxIdleConns = 0: no limit; a return beyond it is closed"),
    differs(
        Question::Floor,
        "MinIdleConns = 0; refilled at construction, at every Get and removal",
        "a failed refill is tried again without waiting for the next Get or removal",
    ),
    differs(
        Question::AtLimit,
        "PoolTimeout = ReadTimeout + 1 s = 6 s for the turn",
        "the 6 s cover the dial too",
    ),
    differs(
        Question::WaiterOrder,
        "turns are roughly first come first served",
        "strictly first come first served, and a closed pool wakes its waiters",
    ),
    differs(
        Question::Dial,
        "a background task since v9.17, up to 5 attempts 100 ms apart, 5 s each",
        "one attempt; before v9.17 the caller dialed (dial=caller)",
    ),
    same(Question::OrphanDial, "serves the next caller that waits for a dial, or becomes idle"),
    same(
        Question::Check,
        "isHealthyConn: a peek at the socket; after 3 that fail in one Get it dials",
    ),
    differs(
        Question::Age,
        "ConnMaxIdleTime = 30 min, ConnMaxLifetime = 0, both looked at when a connection is taken",
        "idle time counts from the return, not from the last I/O; the reaper of v8 is expiry=sweep",
    ),
    differs(
        Question::AfterFailedDial,
        "after PoolSize failures every dial fails at once, and a probe dials every second",
        "only failures in a row count (#3062), and the probe's connection is used",
    ),
    same(
        Question::Return,
        "no reset: sessions are not shared out; unread data removes a connection",
    ),
    differs(
        Question::Retry,
        "MaxRetries = 3 after the first try, 10 ms to 1 s, jittered; writes too",
        "resp-pool repeats only commands that read or were certainly not carried out: a lost reply \
         must not run a write twice; all attempts share the time of one, so nothing is sent again \
         after a time limit",
    ),
];
