//! Pauses after failed dials: how long they are, which callers wait through them, and which are told.

use std::hash::Hash;
use std::time::Duration;

use super::acquire::Obstacle;
use super::connection::DialFor;
use super::floor::PATIENCE;
use super::{Connection, Grant, KeyId, Refusal, State};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, Dial};

/// The resolution of a coarse clock, at most.
const TICK: Duration = Duration::from_millis(10);

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// `dial` has failed: pauses further dials where the policy asks for that, and tells the callers
    /// that the dial started for.
    ///
    /// A caller that came later could have had another dial, and gets it now. A caller that a
    /// lease of its key or a second dial may still serve goes on waiting.
    pub(super) fn note_failure(
        &mut self,
        dial: &Connection<L>,
        dial_for: DialFor,
        error: E,
        now: Timestamp,
    ) {
        let key = dial.key;
        self.forget_spent(key);
        let entry = &mut self.keys[key];
        // Dials that were under way when the pause began are of the same round.
        let new_round = entry.paused_until <= now;
        if new_round {
            entry.failures = entry.failures.saturating_add(1);
        }
        entry.last_error = Some(error.clone());
        let failures = entry.failures;
        let pauses = self.policy.after_failed_dial != AfterFailedDial::Tell
            && failures >= self.policy.back_off_after;
        // Beside connections that work a dial is a wish for more: callers wait for their leases, and
        // the next dial waits, too, or refusals would be answered with dials without a pause.
        let beside = self.has_useful(key)
            && (L::SHARED || self.policy.after_failed_dial == AfterFailedDial::BackOff);
        if (pauses || beside) && new_round {
            let first = if pauses { self.policy.back_off_after } else { 1 };
            let until = now.after(self.pause(failures - first));
            self.keys[key].paused_until = until;
            self.set_timer(until, key);
        }
        if !pauses && !beside {
            self.put_off_hedge(key, dial_for, now);
        }
        // For one longest pause beyond the end of this one, so that the next goes on growing.
        let remember = self.keys[key].paused_until.max(now).after(self.policy.back_off_max);
        self.keys[key].remember_until = remember;
        self.set_timer(remember, key);

        let patient = beside
            || (self.policy.wait_for_ready
                && self.policy.after_failed_dial == AfterFailedDial::BackOff);
        // A dial that took all of `dial_timeout` ends the wait of its caller, hedged or not.
        // Both ends of the dial were read from a clock that may be coarse.
        let took = now.since(dial.opened_at).saturating_add(TICK);
        let had_its_time = took >= self.policy.dial_timeout;
        let is_hedged = dial.is_overdue() && !had_its_time && !self.keys[key].young.is_empty();
        match dial_for {
            DialFor::Waiter(Some(owner)) if patient => self.untie(owner, now),
            DialFor::Waiter(Some(owner)) if is_hedged && !self.keys[key].orphans.is_empty() => {
                self.untie(owner, now);
            }
            DialFor::Waiter(Some(owner)) => {
                self.waiters[owner].set_dial(None);
                self.leave_dependents(owner);
                self.grant(owner, Grant::DialFailed(error));
            }
            DialFor::Key => self.tell_joined(dial, error, patient),
            DialFor::Waiter(None) if self.policy.dial == Dial::Shared => {
                self.tell_joined(dial, error, patient || is_hedged);
            }
            DialFor::Opener => {
                if let Some(waiter) = self.keys[key].returns.next(&self.waiters, &mut self.rng) {
                    self.grant(waiter, Grant::DialFailed(error));
                }
            }
            _ => {}
        }
        self.refuse_hopeless(key, Some(dial.serial), now);
    }

    /// A dial for all waiters has failed: those that waited when it started are told.
    fn tell_joined(&mut self, dial: &Connection<L>, error: E, patient: bool) {
        while !patient
            && let Some(waiter) = self.keys[dial.key].undialed.front(&self.waiters)
            && self.waiters[waiter].waited_for(dial.serial)
        {
            self.grant(waiter, Grant::DialFailed(error.clone()));
        }
    }

    /// Whether a connection of the key is live that serves callers.
    pub(super) fn has_useful(&self, key: KeyId) -> bool {
        let entry = &self.keys[key];
        entry.open - entry.dialing - entry.closing > entry.useless
    }

    /// Callers that wait for room would wait for a pause, with nothing that could come back. Those
    /// that have waited for a dial which `failed` (its serial number) are refused; the others only when
    /// the pause is too long to be waited for.
    pub(super) fn refuse_hopeless(&mut self, key: KeyId, failed: Option<u64>, now: Timestamp) {
        let fails = self.policy.after_failed_dial;
        let patient = self.policy.wait_for_ready && fails == AfterFailedDial::BackOff;
        if fails == AfterFailedDial::Tell || patient || self.keys[key].undialed.is_empty() {
            return;
        }
        let entry = &self.keys[key];
        let hopeless = entry.open == entry.closing
            || (self.fails_fast(key) && self.obstacle(key, now) == Some(Obstacle::Paused));
        if !hopeless {
            return;
        }
        let Some(refusal) = self.paused(key, now) else { return };
        let is_short = self.is_short_pause(key, Timestamp::NEVER, now);
        while let Some(id) = self.keys[key].undialed.front(&self.waiters) {
            let has_waited = failed.is_some_and(|serial| self.waiters[id].waited_for(serial));
            if is_short && !has_waited {
                break;
            }
            self.grant(id, Grant::Refuse(refusal.clone()));
        }
    }

    /// Whether callers of a key fail at once because dials have failed. They wait instead where they
    /// share a connection that works.
    pub(super) fn fails_fast(&self, key: KeyId) -> bool {
        self.policy.after_failed_dial == AfterFailedDial::FailFast
            && self.keys[key].failures >= self.policy.back_off_after
            && !(L::SHARED && self.has_useful(key))
    }

    /// Whether a caller that waits until `deadline` sits the pause of a key out: the pause is short,
    /// and leaves at least half of the caller's time for what follows.
    pub(super) fn is_short_pause(&self, key: KeyId, deadline: Timestamp, now: Timestamp) -> bool {
        let rest = self.keys[key].paused_until.since(now);
        self.policy.after_failed_dial == AfterFailedDial::BackOff
            && self.policy.wait_out_pauses.is_some_and(|longest| rest <= longest)
            && rest <= deadline.since(now) / 2
    }

    /// The length of pause number `n`, counted from 0.
    fn pause(&mut self, n: u32) -> Duration {
        let base = self.policy.back_off_base.as_secs_f64();
        let max = self.policy.back_off_max.as_secs_f64();
        if self.policy.after_failed_dial == AfterFailedDial::FailFast || n == 0 {
            return self.policy.back_off_base;
        }
        let exponent = i32::try_from(n).unwrap_or(i32::MAX);
        let length = (base * self.policy.back_off_factor.powi(exponent)).min(max);
        let jitter = 1.0 + self.policy.back_off_jitter * (self.rng.f64() * 2.0 - 1.0);
        Duration::try_from_secs_f64((length * jitter).min(max)).unwrap_or(Duration::MAX)
    }

    /// The answer to a caller while dials are paused.
    pub(super) fn paused(&self, key: KeyId, now: Timestamp) -> Option<Refusal<E>> {
        let entry = &self.keys[key];
        let last = entry.last_error.clone()?;
        let until = entry.paused_until.max(self.catch_up(now));
        self.is_paused(key, now).then_some(Refusal::BackingOff { until, last })
    }

    /// Whether dials pause after failures. With fail-fast they do until the probe has succeeded. Before
    /// `back_off_after` failures, and where the policy is to tell, they pause only while a connection
    /// that works can serve callers meanwhile.
    pub(super) fn is_paused(&self, key: KeyId, now: Timestamp) -> bool {
        let entry = &self.keys[key];
        let after = self.policy.after_failed_dial;
        let by_policy =
            after != AfterFailedDial::Tell && entry.failures >= self.policy.back_off_after;
        (entry.paused_until > self.catch_up(now) && (by_policy || self.has_useful(key)))
            || (by_policy && after == AfterFailedDial::FailFast)
    }

    /// Failing fast: finds out whether the peer is back, or looks again later. For a key that no caller
    /// has asked for in a long time, the next caller does that.
    pub(super) fn probe(&mut self, key: KeyId, now: Timestamp) {
        let entry = &mut self.keys[key];
        let deserted = entry.open == 0 && entry.waiting == 0;
        if deserted && now >= entry.wanted_at.after(PATIENCE) {
            entry.failures = 0;
            return self.give_up_floor(key);
        }
        let limit = |max: Option<u32>, open: u32| max.is_some_and(|max| open >= max);
        let full = limit(self.policy.max_open_per_key, self.keys[key].open)
            || limit(self.policy.max_open, self.status.open)
            || self.dials_are_full()
            || self.rate_holds(&self.keys[key], now);
        if full {
            self.set_timer(now.after(self.policy.back_off_base), key);
        } else if self.keys[key].dialing == 0 {
            self.start_dial(key, DialFor::Probe, now);
        }
    }

    /// Failing fast after the peer has turned the client away: no timer probes, so a caller that asks
    /// has it done, once for each pause.
    pub(super) fn probe_if_denied(&mut self, key: KeyId, now: Timestamp) {
        let entry = &self.keys[key];
        if entry.denied && entry.paused_until <= now {
            self.probe(key, now);
        }
    }
}
