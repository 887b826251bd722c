//! Whether a failed request is sent again: the policy's retry rule, carried out for HTTP/1.
//!
//! Under every rule, a request is never sent again after the first byte of its response, after
//! a timeout (the peer may still be working on it), or when its body cannot be produced again.
//! A request that is not idempotent is sent again only if no byte of it had been written.

use std::time::Duration;

use http::{HeaderMap, Method};
use pool_common::policy::{Policy, Retry};

use crate::connection::{Failure, Progress};
use crate::error::Error;

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// The body is still there to be sent.
    pub(crate) replayable: bool,
    /// The connection had been lent before.
    pub(crate) reused: bool,
    /// How many attempts were made, this one included.
    pub(crate) number: u32,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The failure is the answer.
    GiveUp,
    /// Send it again, on whatever connection the pool has.
    Again,
    /// Send it again, on a connection dialed for it.
    AgainFresh,
    /// Send it again after a pause.
    AgainAfter(Duration),
}

/// Applies the policy's rule to an attempt that failed.
pub(crate) fn decide(policy: &Policy, attempt: Attempt<'_>, failure: &Failure) -> Verdict {
    let Attempt { method, headers, replayable, reused, number } = attempt;
    let lost = match failure.error {
        Error::Closed { .. } | Error::Io { .. } => true,
        // Stray bytes: this request has not even started.
        Error::Protocol(_) => failure.progress == Progress::NothingWritten,
        _ => false,
    };
    if !lost || !replayable || failure.progress == Progress::Answered {
        return Verdict::GiveUp;
    }
    let unsent = failure.progress == Progress::NothingWritten;
    let attempts_left = number < policy.retry_attempts;
    let again = |yes| if yes { Verdict::Again } else { Verdict::GiveUp };
    match policy.retry {
        Retry::Never => Verdict::GiveUp,
        // Each attempt costs one stale connection, and the first fresh one ends it.
        Retry::ReusedAndReplayable => again(reused && (unsent || is_replayable(method, headers))),
        Retry::Idempotent => {
            let listed = matches!(*method, Method::GET | Method::HEAD | Method::PUT);
            again(attempts_left && listed)
        }
        Retry::Attempts if attempts_left && (unsent || method.is_idempotent()) => {
            Verdict::AgainAfter(back_off(policy, number))
        }
        Retry::BadConnection if attempts_left && reused && unsent => {
            if number + 1 == policy.retry_attempts { Verdict::AgainFresh } else { Verdict::Again }
        }
        // A peer cannot say this in HTTP/1, but not having been sent any of it is as good.
        Retry::Unprocessed => again(attempts_left && reused && unsent),
        Retry::Attempts | Retry::BadConnection => Verdict::GiveUp,
    }
}

/// Source: `net/http` `Request.isReplayable`.
fn is_replayable(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || headers.contains_key("idempotency-key")
        || headers.contains_key("x-idempotency-key")
}

/// Doubles from `retry_back_off_min` to `retry_back_off_max`, and takes a random part of that.
fn back_off(policy: &Policy, number: u32) -> Duration {
    let factor = 1_u32.checked_shl(number - 1).unwrap_or(u32::MAX);
    let ceiling = policy.retry_back_off_min.saturating_mul(factor).min(policy.retry_back_off_max);
    policy.retry_back_off_min.min(ceiling)
        + ceiling.saturating_sub(policy.retry_back_off_min).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ProtocolError, Stage};

    fn policy(retry: Retry, retry_attempts: u32) -> Policy {
        Policy { retry, retry_attempts, ..Policy::default() }
    }

    fn closed(progress: Progress) -> Failure {
        Failure { error: Error::Closed { stage: Stage::Response }, progress }
    }

    fn ask(
        policy: &Policy,
        method: Method,
        reused: bool,
        number: u32,
        failure: &Failure,
    ) -> Verdict {
        let headers = HeaderMap::new();
        let (method, headers) = (&method, &headers);
        let attempt = Attempt { method, headers, replayable: true, reused, number };
        decide(policy, attempt, failure)
    }

    const ALL: [Retry; 6] = [
        Retry::Never,
        Retry::ReusedAndReplayable,
        Retry::Idempotent,
        Retry::Attempts,
        Retry::BadConnection,
        Retry::Unprocessed,
    ];

    #[test]
    fn nothing_is_sent_twice_after_its_answer_began_or_its_time_was_up() {
        let timeout = Error::Timeout { stage: Stage::Response, limit: Duration::ZERO };
        for retry in ALL {
            let policy = policy(retry, 5);
            let answered = closed(Progress::Answered);
            assert_eq!(ask(&policy, Method::GET, true, 1, &answered), Verdict::GiveUp);
            for error in [timeout_like(&timeout), Error::RequestBody("x".into())] {
                let failure = Failure { error, progress: Progress::NothingWritten };
                assert_eq!(ask(&policy, Method::GET, true, 1, &failure), Verdict::GiveUp);
            }
            let garbage =
                Failure { error: ProtocolError::BareLineFeed.into(), progress: Progress::Answered };
            assert_eq!(ask(&policy, Method::GET, true, 1, &garbage), Verdict::GiveUp);
        }
    }

    fn timeout_like(error: &Error) -> Error {
        match error {
            Error::Timeout { stage, limit } => Error::Timeout { stage: *stage, limit: *limit },
            _ => unreachable!("made above"),
        }
    }

    #[test]
    fn a_post_is_never_sent_twice_once_a_byte_was_written() {
        for retry in ALL {
            let failure = closed(Progress::Unanswered);
            let verdict = ask(&policy(retry, 5), Method::POST, true, 1, &failure);
            assert_eq!(verdict, Verdict::GiveUp, "{retry:?}");
        }
    }

    #[test]
    fn a_spent_body_ends_it() {
        let headers = HeaderMap::new();
        let attempt = Attempt {
            method: &Method::GET,
            headers: &headers,
            replayable: false,
            reused: true,
            number: 1,
        };
        for retry in ALL {
            let failure = closed(Progress::NothingWritten);
            assert_eq!(decide(&policy(retry, 5), attempt, &failure), Verdict::GiveUp);
        }
    }

    #[test]
    fn net_http_retries_on_reused_connections_without_counting() {
        let policy = policy(Retry::ReusedAndReplayable, 1);
        let unanswered = closed(Progress::Unanswered);
        let unsent = closed(Progress::NothingWritten);
        assert_eq!(ask(&policy, Method::GET, true, 9, &unanswered), Verdict::Again);
        assert_eq!(ask(&policy, Method::GET, false, 1, &unanswered), Verdict::GiveUp);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), Verdict::Again);
        assert_eq!(ask(&policy, Method::POST, false, 1, &unsent), Verdict::GiveUp);
        assert_eq!(ask(&policy, Method::DELETE, true, 1, &unanswered), Verdict::GiveUp);
        for name in ["idempotency-key", "x-idempotency-key"] {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(""));
            let attempt = Attempt {
                method: &Method::POST,
                headers: &headers,
                replayable: true,
                reused: true,
                number: 1,
            };
            assert_eq!(decide(&policy, attempt, &unanswered), Verdict::Again);
        }
    }

    #[test]
    fn fasthttp_retries_three_methods_and_counts() {
        let policy = policy(Retry::Idempotent, 3);
        let failure = closed(Progress::Unanswered);
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            assert_eq!(ask(&policy, method.clone(), false, 2, &failure), Verdict::Again);
            assert_eq!(ask(&policy, method, false, 3, &failure), Verdict::GiveUp);
        }
        let unsent = closed(Progress::NothingWritten);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), Verdict::GiveUp);
    }

    #[test]
    fn database_sql_ends_with_a_fresh_connection() {
        let policy = policy(Retry::BadConnection, 3);
        let unsent = closed(Progress::NothingWritten);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), Verdict::Again);
        assert_eq!(ask(&policy, Method::POST, true, 2, &unsent), Verdict::AgainFresh);
        assert_eq!(ask(&policy, Method::POST, false, 3, &unsent), Verdict::GiveUp);
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        let policy = policy(Retry::Attempts, u32::MAX);
        for number in [1, 2, 5, 31, 32, 33, u32::MAX - 1] {
            let verdict = ask(&policy, Method::PUT, false, number, &closed(Progress::Unanswered));
            let Verdict::AgainAfter(pause) = verdict else {
                panic!("{verdict:?}");
            };
            assert!(pause >= policy.retry_back_off_min && pause <= policy.retry_back_off_max);
        }
    }
}
