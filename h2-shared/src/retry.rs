//! Which failed requests are sent again: decisions only.

use std::time::Duration;

use h2::Reason;
use pool_common::Policy;
use pool_common::policy::Retry;

use crate::error::Error;

/// What is known about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// 1 for the first.
    pub(crate) number: u32,
    /// How many attempts at this request have lost their connection, this one included.
    pub(crate) lost: u32,
    /// How it failed.
    pub(crate) error: &'a Error,
    /// Its connection had served another request before.
    pub(crate) reused: bool,
    /// The body can be sent from its beginning.
    pub(crate) replayable: bool,
    /// The method may be repeated without harm (RFC 9110, 9.2.2).
    pub(crate) idempotent: bool,
}

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Tell the caller.
    GiveUp,
    /// Send it again after a pause, on a new connection if `fresh`.
    Again { after: Duration, fresh: bool },
}

const AT_ONCE: Decision = Decision::Again { after: Duration::ZERO, fresh: false };

/// How often a request that may have run is repeated under the rule of `net/http`: a peer that ends
/// every connection at its second request must not get one request again and again.
const MOST_LOST: u32 = 1;

/// Applies the policy's rule.
///
/// Under every rule but [`Retry::Never`] a request that the peer did not process is repeated,
/// whatever its method: that is safe, and GOAWAY is how a server asks for it. What *may* have run
/// is repeated only when it is idempotent, even if the pool that the rule copies repeats more (go-redis). If a
/// peer sends ENHANCE_YOUR_CALM, the client does not repeat the request.
///
/// `random` is a number in 0..1, for the jitter.
pub(crate) fn decide(policy: &Policy, attempt: Attempt<'_>, random: f64) -> Decision {
    let calm = attempt.error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    let most = policy.retry_attempts;
    if policy.retry == Retry::Never || calm || !attempt.replayable || attempt.number >= most {
        return Decision::GiveUp;
    }
    let harmless = attempt.idempotent && matches!(attempt.error, Error::ConnectionLost { .. });
    match (policy.retry, attempt.error) {
        (_, Error::Unprocessed { reason: Some(Reason::REFUSED_STREAM), .. }) => {
            pause(policy, attempt.number - 1, random)
        }
        (Retry::BadConnection, Error::Unprocessed { .. }) => {
            Decision::Again { after: Duration::ZERO, fresh: attempt.number + 1 == most }
        }
        // The first repeat at once, as in `net/http` and gRPC.
        (_, Error::Unprocessed { .. }) if attempt.number == 1 => AT_ONCE,
        (_, Error::Unprocessed { .. }) => pause(policy, attempt.number - 2, random),
        (Retry::ReusedAndReplayable, _)
            if harmless && attempt.reused && attempt.lost <= MOST_LOST =>
        {
            AT_ONCE
        }
        (Retry::Idempotent, _) if harmless => AT_ONCE,
        (Retry::Attempts, _) if harmless => pause(policy, attempt.number - 1, random),
        _ => Decision::GiveUp,
    }
}

/// Doubles with each step between the policy's bounds; half of it is jitter.
fn pause(policy: &Policy, step: u32, random: f64) -> Decision {
    let growth = 1_u32.checked_shl(step).unwrap_or(u32::MAX);
    let base = policy.retry_back_off_min.saturating_mul(growth);
    let base = base.min(policy.retry_back_off_max);
    Decision::Again { after: base.mul_f64(0.5 + random / 2.0), fresh: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Closed;

    fn unprocessed(reason: Reason) -> Error {
        Error::Unprocessed { reason: Some(reason), closed: None, source: reason.into() }
    }

    fn lost() -> Error {
        Error::ConnectionLost { cause: Closed::Peer, source: Reason::NO_ERROR.into() }
    }

    fn attempt(error: &Error) -> Attempt<'_> {
        Attempt { number: 1, lost: 1, error, reused: true, replayable: true, idempotent: true }
    }

    fn policy(retry: Retry) -> Policy {
        Policy { retry, ..Policy::default() }
    }

    #[test]
    fn what_was_not_processed_is_repeated_even_if_it_is_not_idempotent() {
        for rule in Retry::ALL.iter().filter(|&&rule| rule != Retry::Never) {
            let error = unprocessed(Reason::REFUSED_STREAM);
            let attempt = Attempt { idempotent: false, ..attempt(&error) };
            let decision = decide(&policy(*rule), attempt, 0.0);
            assert!(matches!(decision, Decision::Again { .. }), "{rule:?}");
        }
    }

    #[test]
    fn what_may_have_run_is_never_repeated_unless_idempotent() {
        for rule in Retry::ALL {
            let error = lost();
            let attempt = Attempt { idempotent: false, ..attempt(&error) };
            assert_eq!(decide(&policy(*rule), attempt, 0.0), Decision::GiveUp, "{rule:?}");
        }
    }

    #[test]
    fn under_never_no_request_is_repeated() {
        let error = unprocessed(Reason::NO_ERROR);
        assert_eq!(decide(&policy(Retry::Never), attempt(&error), 0.0), Decision::GiveUp);
    }

    #[test]
    fn attempts_and_bodies_bound_the_repeats() {
        let error = unprocessed(Reason::NO_ERROR);
        let policy = policy(Retry::Unprocessed);
        let last = Attempt { number: policy.retry_attempts, ..attempt(&error) };
        assert_eq!(decide(&policy, last, 0.0), Decision::GiveUp);
        let sent_once = Attempt { replayable: false, ..attempt(&error) };
        assert_eq!(decide(&policy, sent_once, 0.0), Decision::GiveUp);
    }

    #[test]
    fn a_peer_that_sends_enhance_your_calm_gets_no_repeats() {
        let named = |reason| {
            let cause = Closed::GoAway { reason: Reason::ENHANCE_YOUR_CALM, message: "".into() };
            Error::Unprocessed { reason, closed: Some(cause), source: Reason::NO_ERROR.into() }
        };
        for rule in Retry::ALL {
            // The fault is the stream's, or it is known only from the GOAWAY of the connection.
            for error in
                [unprocessed(Reason::ENHANCE_YOUR_CALM), named(None), named(Some(Reason::NO_ERROR))]
            {
                let decision = decide(&policy(*rule), attempt(&error), 0.0);
                assert_eq!(decision, Decision::GiveUp, "{rule:?}: {error}");
            }
        }
    }

    #[test]
    fn a_refused_stream_waits_longer_each_time_and_insists_on_no_new_connection() {
        let error = unprocessed(Reason::REFUSED_STREAM);
        for rule in Retry::ALL.iter().filter(|&&rule| rule != Retry::Never) {
            let policy = Policy { retry_attempts: 8, ..policy(*rule) };
            let mut pauses = Vec::new();
            for number in 1..8 {
                let attempt = Attempt { number, ..attempt(&error) };
                let Decision::Again { after, fresh } = decide(&policy, attempt, 1.0) else {
                    panic!("{rule:?} gives up at {number}");
                };
                assert!(!fresh, "{rule:?}");
                pauses.push(after);
            }
            assert_eq!(pauses[0], policy.retry_back_off_min);
            assert!(pauses.is_sorted() && pauses[6] > pauses[0], "{rule:?}: {pauses:?}");
        }
    }

    #[test]
    fn a_go_away_is_followed_by_a_repeat_at_once_and_then_by_pauses() {
        let error = unprocessed(Reason::NO_ERROR);
        let policy = policy(Retry::Unprocessed);
        assert_eq!(decide(&policy, attempt(&error), 0.0), AT_ONCE);
        let second = Attempt { number: 2, ..attempt(&error) };
        let expected = Decision::Again { after: policy.retry_back_off_min, fresh: false };
        assert_eq!(decide(&policy, second, 1.0), expected);
    }

    #[test]
    fn a_demand_for_calm_by_go_away_is_heard_by_requests_that_may_have_run() {
        let reason = Reason::ENHANCE_YOUR_CALM;
        let cause = Closed::GoAway { reason, message: "".into() };
        let error = Error::ConnectionLost { cause, source: Reason::NO_ERROR.into() };
        for rule in Retry::ALL {
            assert_eq!(decide(&policy(*rule), attempt(&error), 0.0), Decision::GiveUp, "{rule:?}");
        }
    }

    #[test]
    fn a_lost_connection_is_forgiven_once_if_it_was_reused_under_the_rule_of_net_http() {
        let error = lost();
        let policy = policy(Retry::ReusedAndReplayable);
        assert_eq!(decide(&policy, attempt(&error), 0.0), AT_ONCE);
        let fresh = Attempt { reused: false, ..attempt(&error) };
        assert_eq!(decide(&policy, fresh, 0.0), Decision::GiveUp);
        let again = Attempt { number: 2, lost: 2, ..attempt(&error) };
        assert_eq!(decide(&policy, again, 0.0), Decision::GiveUp);
    }
}
