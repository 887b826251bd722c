use std::time::Duration;

use super::{Choice, Profile, differs, same};
use crate::knob::Question;
use crate::policy::*;

/// Go's `database/sql` `DB`.
pub fn database_sql() -> Profile {
    Profile {
        name: "database-sql",
        system: "Go database/sql DB (Go 1.27)",
        summary: "Newest idle first. Below the limit the caller dials; at the limit callers wait in \
                  no order, and a single background opener dials for them, one dial after another.",
        policy: Policy {
            idle_order: IdleOrder::NewestFirst,
            max_open_per_key: None,
            max_idle_per_key: Some(2),
            idle_overflow: IdleOverflow::CloseReturned,
            waiter_order: WaiterOrder::Random,
            dial: Dial::Caller,
            dial_for_waiters: DialForWaiters::Opener,
            orphan_dial: OrphanDial::Kept,
            dial_ramp: None,
            dial_hedge: None,
            dial_timeout: Duration::from_secs(30),
            peek: false,
            check: Check::Never,
            after_failed_check: AfterFailedCheck::Next,
            idle_timeout: None,
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            expiry: Expiry::Sweep,
            sweep_interval: Duration::from_secs(1),
            after_failed_dial: AfterFailedDial::Tell,
            retry: Retry::BadConnection,
            retry_attempts: 3,
            ..Policy::default()
        },
        choices: CHOICES,
    }
}

const CHOICES: &[Choice] = &[
    same(
        Question::IdleOrder,
        "freeConn taken from the end since 1.18; from 1.4 to 1.17 idle_order=oldest-first",
    ),
    same(Question::OpenLimit, "SetMaxOpenConns, 0 = no limit; dials and queued dials count"),
    same(Question::IdleLimit, "SetMaxIdleConns, default 2; the newcomer is closed"),
    same(Question::Floor, "none"),
    differs(
        Question::AtLimit,
        "waits as long as the context allows",
        "30 s, so that a result set that is never closed cannot hang all others; \
         acquire_timeout=none is the original",
    ),
    same(
        Question::WaiterOrder,
        "connRequestSet, uniformly random since 1.23; in order of arrival from 1.2 to 1.7 \
         (waiter_order=arrival)",
    ),
    differs(
        Question::Dial,
        "the caller below the limit; connectionOpener for waiters, without a time limit",
        "30 s bound every dial, so one that hangs does not block the opener forever",
    ),
    same(Question::OrphanDial, "the opener's connection becomes idle if no caller waits any more"),
    differs(
        Question::Check,
        "Validator.IsValid at the return; nothing before lending but SessionResetter",
        "is_broken at the return; the session is reset at the return instead of at the next use",
    ),
    differs(
        Question::Age,
        "SetConnMaxIdleTime and SetConnMaxLifetime, 0 = none; a cleaner at most once a second",
        "both are also looked at when a connection is lent, and an expired one is no failure",
    ),
    same(Question::AfterFailedDial, "its caller, or one random waiter, is told"),
    differs(Question::Return, "no time limit for a reset or a close", "both have one"),
    same(Question::Retry, "driver.ErrBadConn: two pooled connections, then a new one"),
];
