//! Which failed requests are sent again: decisions only.

use h2::Reason;
use pool_common::Policy;
use pool_common::policy::Retry;
use pool_common::retry::{Count, Verdict, back_off};

use crate::error::Error;

/// What is known about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Which attempt it was.
    pub(crate) count: Count,
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
pub(crate) fn decide(policy: &Policy, attempt: Attempt<'_>, random: f64) -> Verdict {
    let Attempt { count, lost, error, reused, replayable, idempotent } = attempt;
    let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    if calm || !replayable || count.is_last() {
        return Verdict::GiveUp;
    }
    let pause = |nth| Verdict::Again { fresh: false, pause: back_off(policy, nth, random) };
    let harmless = idempotent && matches!(error, Error::ConnectionLost { .. });
    match (policy.retry, error) {
        (_, Error::Unprocessed { reason: Some(Reason::REFUSED_STREAM), .. }) => {
            pause(count.number())
        }
        (Retry::BadConnection, Error::Unprocessed { .. }) => {
            Verdict::at_once(count.next().is_last())
        }
        // The first repeat at once, as in `net/http` and gRPC.
        (_, Error::Unprocessed { .. }) if count.number() == 1 => Verdict::AT_ONCE,
        (_, Error::Unprocessed { .. }) => pause(count.number() - 1),
        (Retry::ReusedAndReplayable, _) if harmless && reused && lost <= MOST_LOST => {
            Verdict::AT_ONCE
        }
        (Retry::Idempotent, _) if harmless => Verdict::AT_ONCE,
        (Retry::Attempts, _) if harmless => pause(count.number()),
        _ => Verdict::GiveUp,
    }
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

    /// The first attempt at a request that was worth repeating in every way.
    fn attempt<'a>(policy: &Policy, error: &'a Error) -> Attempt<'a> {
        let count = Count::first(policy);
        Attempt { count, lost: 1, error, reused: true, replayable: true, idempotent: true }
    }

    fn policy(retry: Retry) -> Policy {
        Policy { retry, ..Policy::default() }
    }

    #[test]
    fn what_was_not_processed_is_repeated_even_if_it_is_not_idempotent() {
        for rule in Retry::ALL.iter().filter(|&&rule| rule != Retry::Never) {
            let error = unprocessed(Reason::REFUSED_STREAM);
            let policy = policy(*rule);
            let attempt = Attempt { idempotent: false, ..attempt(&policy, &error) };
            let decision = decide(&policy, attempt, 0.0);
            assert!(matches!(decision, Verdict::Again { .. }), "{rule:?}");
        }
    }

    #[test]
    fn what_may_have_run_is_never_repeated_unless_idempotent() {
        for rule in Retry::ALL {
            let error = lost();
            let policy = policy(*rule);
            let attempt = Attempt { idempotent: false, ..attempt(&policy, &error) };
            assert_eq!(decide(&policy, attempt, 0.0), Verdict::GiveUp, "{rule:?}");
        }
    }

    #[test]
    fn under_never_no_request_is_repeated() {
        let error = unprocessed(Reason::NO_ERROR);
        let policy = policy(Retry::Never);
        assert_eq!(decide(&policy, attempt(&policy, &error), 0.0), Verdict::GiveUp);
    }

    #[test]
    fn attempts_and_bodies_bound_the_repeats() {
        let error = unprocessed(Reason::NO_ERROR);
        let policy = policy(Retry::Unprocessed);
        let count = Count::nth(&policy, policy.retry_attempts);
        let last = Attempt { count, ..attempt(&policy, &error) };
        assert_eq!(decide(&policy, last, 0.0), Verdict::GiveUp);
        let sent_once = Attempt { replayable: false, ..attempt(&policy, &error) };
        assert_eq!(decide(&policy, sent_once, 0.0), Verdict::GiveUp);
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
                let policy = policy(*rule);
                let decision = decide(&policy, attempt(&policy, &error), 0.0);
                assert_eq!(decision, Verdict::GiveUp, "{rule:?}: {error}");
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
                let count = Count::nth(&policy, number);
                let attempt = Attempt { count, ..attempt(&policy, &error) };
                let Verdict::Again { pause, fresh } = decide(&policy, attempt, 0.5) else {
                    panic!("{rule:?} gives up at {number}");
                };
                assert!(!fresh, "{rule:?}");
                pauses.push(pause);
            }
            assert_eq!(pauses[0], 2 * policy.retry_back_off_min);
            assert!(pauses.is_sorted() && pauses[6] > pauses[0], "{rule:?}: {pauses:?}");
        }
    }

    #[test]
    fn a_go_away_is_followed_by_a_repeat_at_once_and_then_by_pauses() {
        let error = unprocessed(Reason::NO_ERROR);
        let policy = policy(Retry::Unprocessed);
        assert_eq!(decide(&policy, attempt(&policy, &error), 0.0), Verdict::AT_ONCE);
        let second = Attempt { count: Count::nth(&policy, 2), ..attempt(&policy, &error) };
        let expected = Verdict::Again { pause: policy.retry_back_off_min, fresh: false };
        assert_eq!(decide(&policy, second, 0.0), expected);
    }

    #[test]
    fn a_demand_for_calm_by_go_away_is_heard_by_requests_that_may_have_run() {
        let reason = Reason::ENHANCE_YOUR_CALM;
        let cause = Closed::GoAway { reason, message: "".into() };
        let error = Error::ConnectionLost { cause, source: Reason::NO_ERROR.into() };
        for rule in Retry::ALL {
            let policy = policy(*rule);
            let verdict = decide(&policy, attempt(&policy, &error), 0.0);
            assert_eq!(verdict, Verdict::GiveUp, "{rule:?}");
        }
    }

    #[test]
    fn a_lost_connection_is_forgiven_once_if_it_was_reused_under_the_rule_of_net_http() {
        let error = lost();
        let policy = policy(Retry::ReusedAndReplayable);
        assert_eq!(decide(&policy, attempt(&policy, &error), 0.0), Verdict::AT_ONCE);
        let fresh = Attempt { reused: false, ..attempt(&policy, &error) };
        assert_eq!(decide(&policy, fresh, 0.0), Verdict::GiveUp);
        let count = Count::nth(&policy, 2);
        let again = Attempt { count, lost: 2, ..attempt(&policy, &error) };
        assert_eq!(decide(&policy, again, 0.0), Verdict::GiveUp);
    }
}
