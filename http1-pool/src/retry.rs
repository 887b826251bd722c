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
use pool_common::retry::{Count, Fate, Verdict, back_off};

use crate::connection::Failure;
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
    /// Which attempt it was.
    pub(crate) count: Count,
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
    let Attempt { method, headers, replayable, reused, count } = attempt;
    let lost = match failure.error {
        Error::Closed { .. } | Error::Io { .. } => true,
        // Stray bytes: this request has not even started.
        Error::Protocol { ref source, .. } => *source == ProtocolError::Unsolicited,
        _ => false,
    };
    if !lost || !replayable || failure.fate == Fate::Answered {
        return Verdict::GiveUp;
    }
    let unsent = failure.fate == Fate::NotSent;
    let allowed = match policy.retry {
        Retry::Never => false,
        Retry::ReusedAndReplayable => reused && (unsent || is_replayable(method, headers)),
        Retry::Idempotent => matches!(*method, Method::GET | Method::HEAD | Method::PUT),
        Retry::Attempts => true,
        // A peer cannot say in HTTP/1 that it did not process a request (`Unprocessed`), but it has
        // not if nothing of the request was written.
        Retry::BadConnection | Retry::Unprocessed => reused && unsent,
    };
    if !allowed || count.is_last() {
        return Verdict::GiveUp;
    }
    let next = count.next();
    Verdict::Again {
        // The last attempt has to count, so it does not meet another stale connection.
        fresh: next.is_last() || next.number() >= FRESH_FROM,
        pause: match policy.retry {
            Retry::Attempts => back_off(policy, count.number(), fastrand::f64()),
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

    fn closed(fate: Fate) -> Failure {
        Failure { error: Error::Closed { stage: Stage::Response, peer: peer() }, fate }
    }

    const AGAIN: Verdict = Verdict::AT_ONCE;
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
        let count = Count::nth(policy, number);
        let attempt = Attempt { method, headers, replayable: true, reused, count };
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
            let answered = closed(Fate::Answered);
            assert_eq!(ask(&policy, Method::GET, true, 1, &answered), Verdict::GiveUp);
            let (stage, limit) = (Stage::Response, Duration::ZERO);
            let timeout = Error::Timeout { stage, limit, peer: peer() };
            for error in [timeout, Error::RequestBody("x".into())] {
                let failure = Failure { error, fate: Fate::NotSent };
                assert_eq!(ask(&policy, Method::GET, true, 1, &failure), Verdict::GiveUp);
            }
            let not_http =
                ProtocolError::NotHttp1 { looks_like: OtherProtocol::Ssh, start: b"SSH-".to_vec() };
            // A server that speaks first does so before anything was written.
            for (source, fate) in
                [(ProtocolError::BareLineFeed, Fate::Answered), (not_http, Fate::NotSent)]
            {
                let garbage = Failure { error: Error::Protocol { source, peer: peer() }, fate };
                assert_eq!(ask(&policy, Method::GET, true, 1, &garbage), Verdict::GiveUp);
            }
        }
    }

    #[test]
    fn a_post_of_which_a_byte_was_written_is_repeated_by_attempts_only() {
        let failure = closed(Fate::Unknown);
        for retry in ALL {
            let verdict = ask(&policy(retry, 5), Method::POST, true, 1, &failure);
            // The only rule that accepts that a request may run twice.
            assert_eq!(verdict != Verdict::GiveUp, retry == Retry::Attempts, "{retry:?}");
        }
    }

    #[test]
    fn a_request_whose_body_is_used_up_is_not_repeated() {
        let headers = HeaderMap::new();
        for retry in ALL {
            let policy = policy(retry, 5);
            let attempt = Attempt {
                method: &Method::GET,
                headers: &headers,
                replayable: false,
                reused: true,
                count: Count::first(&policy),
            };
            let failure = closed(Fate::NotSent);
            assert_eq!(decide(&policy, attempt, &failure), Verdict::GiveUp);
        }
    }

    #[test]
    fn net_http_retries_on_reused_connections() {
        let policy = policy(Retry::ReusedAndReplayable, 3);
        let unanswered = closed(Fate::Unknown);
        let unsent = closed(Fate::NotSent);
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
                count: Count::first(&policy),
            };
            assert_eq!(decide(&policy, attempt, &unanswered), AGAIN);
        }
    }

    #[test]
    fn every_rule_counts_its_attempts_and_the_third_gets_a_fresh_connection() {
        for retry in ALL.into_iter().filter(|&retry| retry != Retry::Never) {
            let failure = closed(Fate::NotSent);
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
            let sent = closed(Fate::Unknown);
            let repeated = ask(&policy(retry, 3), Method::GET, true, 1, &sent) != Verdict::GiveUp;
            assert_eq!(hides_closed_connections(retry), repeated, "{retry:?}");
        }
    }

    #[test]
    fn fasthttp_retries_three_methods_and_counts() {
        let policy = policy(Retry::Idempotent, 3);
        let failure = closed(Fate::Unknown);
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            assert_eq!(ask(&policy, method.clone(), false, 2, &failure), FRESH);
            assert_eq!(ask(&policy, method, false, 3, &failure), Verdict::GiveUp);
        }
        let unsent = closed(Fate::NotSent);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), Verdict::GiveUp);
    }

    #[test]
    fn database_sql_ends_with_a_fresh_connection() {
        let policy = policy(Retry::BadConnection, 3);
        let unsent = closed(Fate::NotSent);
        assert_eq!(ask(&policy, Method::POST, true, 1, &unsent), AGAIN);
        assert_eq!(ask(&policy, Method::POST, true, 2, &unsent), FRESH);
        assert_eq!(ask(&policy, Method::POST, false, 3, &unsent), Verdict::GiveUp);
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        let policy = policy(Retry::Attempts, u32::MAX);
        for number in [1, 2, 5, 31, 32, 33, u32::MAX - 1] {
            let verdict = ask(&policy, Method::PUT, false, number, &closed(Fate::Unknown));
            let Verdict::Again { pause, .. } = verdict else {
                panic!("{verdict:?}");
            };
            assert!(pause >= policy.retry_back_off_min && pause <= policy.retry_back_off_max);
        }
    }
}
