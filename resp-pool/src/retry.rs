//! When a command is sent again, and after how long.

use pool_common::{
    policy::{Policy, Retry},
    retry::{Count, Verdict, back_off},
};

use crate::{error::Error, value::ServerErrorKind};

/// What happened to one attempt.
pub(crate) struct Failure<'a> {
    pub(crate) error: &'a Error,
    /// Which attempt it was.
    pub(crate) count: Count,
    /// Whether the connection had served another request before.
    pub(crate) reused: bool,
    /// Whether the command only reads, so that running it twice does no harm.
    pub(crate) read_only: bool,
}

/// The rule of the policy. `random` is from 0 up to, but not including, 1.
pub(crate) fn next(policy: &Policy, failure: &Failure<'_>, random: f64) -> Verdict {
    let Failure { error, count, .. } = failure;
    let left = !count.is_last();
    // The last attempt has to count, so it does not meet another stale connection.
    let fresh_at_last = || Verdict::at_once(count.next().is_last());
    match policy.retry {
        Retry::Never => Verdict::GiveUp,
        Retry::Attempts if left && is_worth_an_attempt(failure) => {
            let pause = back_off(policy, count.number(), random);
            Verdict::Again { fresh: leads_astray(error), pause }
        }
        Retry::Idempotent if left && failure.read_only && is_lost(error) => Verdict::AT_ONCE,
        // net/http goes on until a fresh connection fails as well; the last attempt asks for a fresh
        // one here, so that this ends.
        Retry::ReusedAndReplayable
            if left
                && failure.reused
                && is_lost(error)
                && (failure.read_only || !error.may_have_executed()) =>
        {
            fresh_at_last()
        }
        Retry::BadConnection if left && is_lost(error) && !error.may_have_executed() => {
            fresh_at_last()
        }
        // The nearest that Redis has to REFUSED_STREAM.
        Retry::Unprocessed if left => match error {
            Error::Server(refusal)
                if refusal.kind().is_retryable() && !error.may_have_executed() =>
            {
                Verdict::at_once(leads_astray(error))
            }
            _ => Verdict::GiveUp,
        },
        _ => Verdict::GiveUp,
    }
}

/// The connection failed, in a way that another one may not.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::Stale | Error::Broken | Error::Abandoned)
}

/// go-redis: network errors, and some refusals.
///
/// Different from it on purpose: go-redis repeats a write whose reply was lost, which may then run
/// twice. Here only what reads is repeated after it may have been executed. And go-redis goes on after
/// a time limit, with the limit anew; here the attempts share the time of one.
fn is_worth_an_attempt(failure: &Failure<'_>) -> bool {
    let harmless = failure.read_only || !failure.error.may_have_executed();
    failure.error.is_retryable() && harmless && !has_used_its_time(failure.error)
}

/// The time limit of the whole call has passed, or that of the command. A dial that took too long is
/// something else: the acquire may have time left.
fn has_used_its_time(error: &Error) -> bool {
    match error {
        Error::Timeout { .. } => true,
        Error::Acquire(error) => matches!(**error, pool_common::Error::Timeout { .. }),
        _ => false,
    }
}

/// Whether the rule sends a command again that met a connection which the server had closed while it
/// was idle, where that is safe.
pub(crate) fn hides_closed_connections(retry: Retry) -> bool {
    !matches!(retry, Retry::Never | Retry::Unprocessed)
}

/// The other idle connections most likely lead to the same server.
fn leads_astray(error: &Error) -> bool {
    matches!(
        error,
        Error::Server(error)
            if matches!(error.kind(), ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Stage, value::ServerError};
    use std::{io, time::Duration};

    fn policy(retry: Retry) -> Policy {
        Policy { retry, retry_attempts: 4, ..Policy::default() }
    }

    fn lost(sent: bool) -> Error {
        Error::Io { stage: Stage::Read, sent, source: io::ErrorKind::UnexpectedEof.into() }
    }

    fn server(line: &str) -> Error {
        Error::Server(ServerError::from_line(line.as_bytes()).answering(Some(b"SET")))
    }

    fn slow() -> Error {
        Error::Timeout { stage: Stage::Read, sent: true, after: Duration::from_secs(1) }
    }

    fn failure(error: &Error) -> Failure<'_> {
        Failure { error, count: nth(1), reused: true, read_only: false }
    }

    /// The attempt of this number, of the four that there are with every rule but one.
    fn nth(number: u32) -> Count {
        Count::nth(&policy(Retry::Attempts), number)
    }

    fn goes_on(retry: Retry, failure: &Failure<'_>) -> bool {
        next(&policy(retry), failure, 0.5) != Verdict::GiveUp
    }

    #[test]
    fn attempts_repeat_a_write_only_if_it_was_certainly_not_executed() {
        let retry = Retry::Attempts;
        let of_script =
            Error::Server(ServerError::from_line(b"TRYAGAIN later").answering(Some(b"EVAL")));
        for error in [lost(true), of_script] {
            assert!(!goes_on(retry, &failure(&error)), "{error:?}");
            let reading = Failure { read_only: true, ..failure(&error) };
            assert!(goes_on(retry, &reading), "{error:?}");
            assert!(!goes_on(retry, &Failure { count: nth(4), ..reading }), "{error:?}");
        }
    }

    #[test]
    fn an_error_code_of_a_script_does_not_prove_that_nothing_ran() {
        let retry = Retry::Unprocessed;
        let line = &b"TRYAGAIN later"[..];
        for (name, proof) in [("GET", true), ("INCR", true), ("EVAL", false), ("X.Y", false)] {
            let reply = ServerError::from_line(line).answering(Some(name.as_bytes()));
            let error = Error::Server(reply);
            assert_eq!(error.may_have_executed(), !proof, "{name}");
            assert_eq!(goes_on(retry, &failure(&error)), proof, "{name}");
        }
        assert!(Error::Server(ServerError::from_line(line)).may_have_executed());
    }

    #[test]
    fn attempts_otherwise_follow_go_redis_item_by_item() {
        let retry = Retry::Attempts;
        for error in [
            lost(false),
            Error::Stale,
            server("LOADING x"),
            server("READONLY x"),
            server("MASTERDOWN x"),
            server("CLUSTERDOWN x"),
            server("TRYAGAIN x"),
            server("NOREPLICAS x"),
            server("ERR max number of clients reached"),
            Error::Acquire(Box::new(pool_common::Error::Dial {
                source: pool_common::DialError::TimedOut(Duration::ZERO),
            })),
        ] {
            assert!(goes_on(retry, &failure(&error)), "{error:?}");
            let exhausted = Failure { count: nth(4), ..failure(&error) };
            assert!(!goes_on(retry, &exhausted), "{error:?}");
        }
        for error in [server("ERR x"), server("WRONGTYPE x"), server("MOVED 1 x")] {
            assert!(!goes_on(retry, &failure(&error)), "{error:?}");
        }
    }

    #[test]
    fn no_rule_repeats_after_the_time_limit() {
        let unsent =
            Error::Timeout { stage: Stage::Write, sent: false, after: Duration::from_secs(1) };
        for error in [slow(), unsent] {
            for &retry in Retry::ALL {
                let reading = Failure { read_only: true, ..failure(&error) };
                assert!(!goes_on(retry, &reading), "{retry:?} {error:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_closed_pool_is_not_asked_again() {
        let client = crate::Client::open("redis://127.0.0.1:1").expect("a client");
        client.close().await;
        let error = client.get::<String>("k").await.expect_err("closed");
        assert!(matches!(&error, Error::Acquire(error) if error.is_closed()), "{error:?}");
        assert!(!goes_on(Retry::Attempts, &failure(&error)));
    }

    #[test]
    fn a_wrong_server_is_left_for_a_fresh_connection() {
        for retry in [Retry::Attempts, Retry::Unprocessed] {
            for (line, expected) in
                [("READONLY x", true), ("MASTERDOWN x", true), ("LOADING x", false)]
            {
                let error = server(line);
                let next = next(&policy(retry), &failure(&error), 0.0);
                let Verdict::Again { fresh, .. } = next else { panic!("{retry:?} {line}") };
                assert_eq!(fresh, expected, "{retry:?} {line}");
            }
        }
    }

    #[test]
    fn under_never_no_command_is_repeated() {
        assert!(!goes_on(Retry::Never, &failure(&lost(false))));
    }

    #[test]
    fn idempotent_repeats_reads_on_lost_connections() {
        let error = lost(true);
        assert!(!goes_on(Retry::Idempotent, &failure(&error)));
        assert!(goes_on(Retry::Idempotent, &Failure { read_only: true, ..failure(&error) }));
        let error = slow();
        assert!(!goes_on(Retry::Idempotent, &Failure { read_only: true, ..failure(&error) }));
    }

    #[test]
    fn a_lost_reused_connection_is_replaced_and_a_lost_fresh_one_is_not() {
        let retry = Retry::ReusedAndReplayable;
        let (sent, unsent) = (lost(true), lost(false));
        assert!(!goes_on(retry, &failure(&sent)));
        assert!(goes_on(retry, &failure(&unsent)));
        assert!(goes_on(retry, &Failure { read_only: true, ..failure(&sent) }));
        assert!(!goes_on(retry, &Failure { reused: false, ..failure(&unsent) }));
        let before_last = Failure { count: nth(3), ..failure(&unsent) };
        assert_eq!(next(&policy(retry), &before_last, 0.0), Verdict::at_once(true));
        assert!(!goes_on(retry, &Failure { count: nth(4), ..before_last }));
        let once = Policy { retry_attempts: 1, ..policy(retry) };
        let first = Failure { count: Count::first(&once), ..failure(&unsent) };
        assert_eq!(next(&once, &first, 0.0), Verdict::GiveUp);
    }

    #[test]
    fn a_bad_connection_was_not_written_to_and_the_last_try_is_fresh() {
        let retry = Retry::BadConnection;
        assert!(!goes_on(retry, &failure(&lost(true))));
        let error = lost(false);
        let fresh = |number| match next(
            &policy(retry),
            &Failure { count: nth(number), ..failure(&error) },
            0.0,
        ) {
            Verdict::Again { fresh, .. } => Some(fresh),
            Verdict::GiveUp => None,
        };
        assert_eq!([1, 2, 3, 4].map(fresh), [Some(false), Some(false), Some(true), None]);
    }
}
