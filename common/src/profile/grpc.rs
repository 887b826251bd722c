use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// gRPC's channel with one address: a subchannel.
pub fn grpc() -> Profile {
    Profile {
        name: "grpc",
        system: "gRPC channel, one subchannel (grpc-go 1.85)",
        summary: "No pool: one shared connection for each address, dialed on demand, with growing \
                  pauses after failures; calls wait for it to be ready, then for a stream.",
        policy: Policy {
            idle_order: IdleOrder::FirstWithRoom,
            max_open_per_key: Some(1),
            waiter_order: WaiterOrder::AllAtOnce,
            dial: Dial::Shared,
            orphan_dial: OrphanDial::Kept,
            dial_ramp: None,
            dial_timeout: Duration::from_secs(20),
            peek: true,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::Timer,
            after_failed_dial: AfterFailedDial::BackOff,
            back_off_after: 1,
            back_off_base: Duration::from_secs(1),
            back_off_factor: 1.6,
            back_off_max: Duration::from_secs(120),
            back_off_jitter: 0.2,
            wait_out_pauses: None,
            wait_for_ready: false,
            retry: Retry::Unprocessed,
            retry_attempts: 2,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(Question::IdleOrder, "one connection; with more (A105) the oldest with room"),
    same(Question::OpenLimit, "one for each address; proposal A105 allows up to 10"),
    same(Question::IdleLimit, "none"),
    same(Question::Floor, "none: dialed by the first call"),
    differs(
        Question::AtLimit,
        "waits for a stream as long as the call's deadline allows",
        "30 s bound a call that has no deadline",
    ),
    differs(
        Question::WaiterOrder,
        "a new picker wakes all calls; a stream that ends wakes any one of the waiting calls",
        "it wakes the call that came first",
    ),
    differs(
        Question::Dial,
        "the channel, one attempt at a time, at least 20 s for each",
        "an overdue attempt that no call waits for any more makes room for the next \
         (dial_hedge=none: it does not)",
    ),
    same(Question::OrphanDial, "kept"),
    differs(
        Question::Check,
        "keep-alive pings, off by default",
        "the same, as the keep-alive of h2-shared",
    ),
    differs(
        Question::Age,
        "idle timeout 30 min without calls; no lifetime on the client",
        "the connection is closed; there is no resolver to stop",
    ),
    differs(
        Question::AfterFailedDial,
        "1 s, x 1.6, at most 120 s, +/- 20 %; calls fail fast unless they wait for ready \
         (wait_for_ready=true)",
        "no pause is longer than 120 s, jitter included; calls that wait for ready are not told the \
         first failure either",
    ),
    same(Question::Return, "nothing to reset: a dropped stream is cancelled"),
    same(Question::Retry, "transparent: never sent, or not processed by the peer, once"),
];
