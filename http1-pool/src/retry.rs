//! Whether a failed request is sent again: the policy's retry rule, carried out for HTTP/1.
//!
//! Under every rule, a request is never sent again after the first byte of its response, after
//! a timeout (the peer may still be working on it), or when its body cannot be produced again.
//! A request that is not idempotent is sent again only if no byte of it had been written, except
//! under [`Retry::Attempts`]: that rule repeats any request, at the risk of the user who chose it,
//! because the peer may have carried the request out before the connection died.
//!
//! Every rule counts: a request is tried at most `retry_attempts` times. The third attempt and each
//! later one go to a connection that was just dialed, so that a server whose connections all die at
//! their second request is not asked once for each idle connection.

use std::time::Duration;

use http::{HeaderMap, Method};
use pool_common::policy::{Policy, Retry};

use crate::connection::{Failure, Progress};
use crate::error::{Error, ProtocolError};

/// The facts by which a rule decides.
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
    /// Send it again after a pause, on a connection dialed for it if `fresh`.
    Again { fresh: bool, pause: Duration },
}

/// The attempt from which on a request gets a connection that was just dialed.
const FRESH_FROM: u32 = 3;

/// Whether `rule` repeats a `GET` that was sent on a reused connection which the peer had just
/// closed. Where it does not, the caller meets each unannounced close.
pub(crate) fn hides_closed_connections(rule: Retry) -> bool {
    match rule {
        Retry::ReusedAndReplayable | Retry::Idempotent | Retry::Attempts => true,
        Retry::Never | Retry::BadConnection | Retry::Unprocessed => false,
    }
}

/// Applies the policy's rule to an attempt that failed.
pub(crate) fn decide(policy: &Policy, attempt: Attempt<'_>, failure: &Failure) -> Verdict {
    let Attempt { method, headers, replayable, reused, number } = attempt;
    let lost = match failure.error {
        Error::Closed { .. } | Error::Io { .. } => true,
        // Stray bytes: this request has not even started.
        Error::Protocol { ref source, .. } => *source == ProtocolError::Unsolicited,
        _ => false,
    };
    if !lost || !replayable || failure.progress == Progress::Answered {
        return Verdict::GiveUp;
    }
    let unsent = failure.progress == Progress::NothingWritten;
    let allowed = match policy.retry {
        Retry::Never => false,
        Retry::ReusedAndReplayable => reused && (unsent || is_replayable(method, headers)),
        Retry::Idempotent => matches!(*method, Method::GET | Method::HEAD | Method::PUT),
        Retry::Attempts => true,
        // A peer cannot say in HTTP/1 that it did not process a request (`Unprocessed`), but it has
        // not if nothing of the request was written.
        Retry::BadConnection | Retry::Unprocessed => reused && unsent,
    };
    if !allowed || number >= policy.retry_attempts {
        return Verdict::GiveUp;
    }
    Verdict::Again {
        // The last attempt has to count, so it does not meet another stale connection.
        fresh: number + 1 >= policy.retry_attempts.min(FRESH_FROM),
        pause: match policy.retry {
            Retry::Attempts => back_off(policy, number),
            _ => Duration::ZERO,
        },
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
    use crate::error::Stage;
    use crate::foreign::OtherProtocol;
    use crate::key::Key;

    fn policy(retry: Retry, retry_attempts: u32) -> Policy {
        Policy { retry, retry_attempts, ..Policy::default() }
    }

    fn peer() -> Key {
        Key::from_uri(&http::Uri::from_static("http://a/")).unwrap()
    }

    fn closed(progress: Progress) -> Failure {
        Failure { error: Error::Closed { stage: Stage::Response, peer: peer() }, progress }
    }

    const AGAIN: Verdict = Verdict::Again { fresh: false, pause: Duration::ZERO };
    const FRESH: Verdict = Verdict::Again { fresh: true, pause: Duration::ZERO };

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
        for retry in ALL {
            let policy = policy(retry, 5);
            let answered = closed(Progress::Answered);
            assert_eq!(ask(&policy, Method::GET, true, 1, &answered), Verdict::GiveUp);
            let (stage, limit) = (Stage::Response, Duration::ZERO);
            let timeout = Error::Timeout { stage, limit, peer: peer() };
            for error in [timeout, Error::RequestBody("x".into())] {
                let failure = Failure { error, progress: Progress::NothingWritten };
                assert_eq!(ask(&policy, Method::GET, true, 1, &failure), Verdict::GiveUp);
            }
            let not_http =
                ProtocolError::NotHttp1 { looks_like: OtherProtocol::Ssh, start: b"SSH-".to_vec() };
            // A server that speaks first does so before anything was written.
            for (source, progress) in [
                (ProtocolError::BareLineFeed, Progress::Answered),
                (not_http, Progress::NothingWritten),
            ] {
                let garbage = Failure { error: Error::Protocol { source, peer: peer() }, progress };
                assert_eq!(ask(&policy, Method::GET, true, 1, &garbage), Verdict::GiveUp);
            }
        }
    }

    #[test]
    fn a_post_of_which_a_byte_was_written_is_repeated_by_attempts_only() {
        let failure = closed(Progress::Unanswered);
        for retry in ALL {
            let verdict = ask(&policy(retry, 5), Method::POST, true, 1, &failure);
            // The only rule that accepts that a request may run twice.
            assert_eq!(verdict != Verdict::GiveUp, retry == Retry::Attempts, "{retry:?}");
        }
    }

    #[test]
    fn a_request_whose_body_is_used_up_is_not_repeated() {
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
    fn net_http_retries_on_reused_connections() {
        let policy = policy(Retry::ReusedAndReplayable, 3);
        let unanswered = closed(Progress::Unanswered);
        let unsent = closed(Progress::NothingWritten);
        assert_eq!(ask(&policy, Method::GET, true, 1, &unanswered), AGAIN);
        assert_eq!(ask(&policy, Method::GET, false, 1, &unanswered), Verdict::GiveUp);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), AGAIN);
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
            assert_eq!(decide(&policy, attempt, &unanswered), AGAIN);
        }
    }

    #[test]
    fn every_rule_counts_its_attempts_and_the_third_gets_a_fresh_connection() {
        for retry in ALL.into_iter().filter(|&retry| retry != Retry::Never) {
            let failure = closed(Progress::NothingWritten);
            for (attempts, number, fresh) in [
                (1, 1, None),
                (2, 1, Some(true)),
                (2, 2, None),
                (3, 1, Some(false)),
                (3, 2, Some(true)),
                (3, 3, None),
                (5, 1, Some(false)),
                (5, 2, Some(true)),
                (5, 4, Some(true)),
                (5, 5, None),
                (u32::MAX, u32::MAX, None),
            ] {
                let got = match ask(&policy(retry, attempts), Method::GET, true, number, &failure) {
                    Verdict::Again { fresh, .. } => Some(fresh),
                    Verdict::GiveUp => None,
                };
                assert_eq!(got, fresh, "{retry:?}, attempt {number} of {attempts}");
            }
        }
    }

    #[test]
    fn rules_that_do_not_suit_http_1_are_known() {
        for retry in ALL {
            let sent = closed(Progress::Unanswered);
            let repeated = ask(&policy(retry, 3), Method::GET, true, 1, &sent) != Verdict::GiveUp;
            assert_eq!(hides_closed_connections(retry), repeated, "{retry:?}");
        }
    }

    #[test]
    fn fasthttp_retries_three_methods_and_counts() {
        let policy = policy(Retry::Idempotent, 3);
        let failure = closed(Progress::Unanswered);
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            assert_eq!(ask(&policy, method.clone(), false, 2, &failure), FRESH);
            assert_eq!(ask(&policy, method, false, 3, &failure), Verdict::GiveUp);
        }
        let unsent = closed(Progress::NothingWritten);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), Verdict::GiveUp);
    }

    #[test]
    fn database_sql_ends_with_a_fresh_connection() {
        let policy = policy(Retry::BadConnection, 3);
        let unsent = closed(Progress::NothingWritten);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), AGAIN);
        assert_eq!(ask(&policy, Method::POST, true, 2, &unsent), FRESH);
        assert_eq!(ask(&policy, Method::POST, false, 3, &unsent), Verdict::GiveUp);
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        let policy = policy(Retry::Attempts, u32::MAX);
        for number in [1, 2, 5, 31, 32, 33, u32::MAX - 1] {
            let verdict = ask(&policy, Method::PUT, false, number, &closed(Progress::Unanswered));
            let Verdict::Again { pause, .. } = verdict else {
                panic!("{verdict:?}");
            };
            assert!(pause >= policy.retry_back_off_min && pause <= policy.retry_back_off_max);
        }
    }
}
