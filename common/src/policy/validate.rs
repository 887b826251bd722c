//! Whether the fields of a policy make sense alone and together.

use std::time::Duration;

use super::{AtLimit, Check, Dial, DialForWaiters, Expiry, Policy, WaiterOrder};
use crate::error::InvalidPolicy;

impl Policy {
    /// Checks that the fields make sense alone and together.
    ///
    /// # Errors
    /// [`InvalidPolicy`] names the field, or both fields that contradict each other, and a remedy.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        self.validate_ranges()?;
        self.validate_floor()?;
        let none = Duration::ZERO;
        if !self.lifetime_jitter.is_zero() {
            match self.max_lifetime {
                None => {
                    return Err(InvalidPolicy::pair(
                        "lifetime_jitter",
                        "max_lifetime",
                        "without a lifetime the jitter has no effect; set max_lifetime, or lifetime_jitter to 0s",
                    ));
                }
                Some(lifetime) if self.lifetime_jitter > lifetime => {
                    return Err(InvalidPolicy::pair(
                        "lifetime_jitter",
                        "max_lifetime",
                        "the jitter is longer than the lifetime; make lifetime_jitter shorter",
                    ));
                }
                Some(_) => {}
            }
        }
        if self.back_off_base > self.back_off_max {
            return Err(InvalidPolicy::pair(
                "back_off_base",
                "back_off_max",
                "the first pause is longer than the longest; lower back_off_base",
            ));
        }
        if self.retry_back_off_min > self.retry_back_off_max {
            return Err(InvalidPolicy::pair(
                "retry_back_off_min",
                "retry_back_off_max",
                "the shortest delay is longer than the longest; lower retry_back_off_min",
            ));
        }
        if self.dial != Dial::Caller && self.dial_for_waiters != DialForWaiters::Waiter {
            return Err(InvalidPolicy::pair(
                "dial_for_waiters",
                "dial",
                "only dial=caller asks who dials for waiters; set dial_for_waiters=waiter",
            ));
        }
        if self.waiter_order == WaiterOrder::AllAtOnce
            && self.dial == Dial::Racing
            && !self.adopt_dials
        {
            return Err(InvalidPolicy::pair(
                "waiter_order",
                "adopt_dials",
                "waiters that are woken together would each start another dial; set adopt_dials=true",
            ));
        }
        if self.check == Check::IfIdleLonger && self.check_after == none {
            return Err(InvalidPolicy::pair(
                "check",
                "check_after",
                "with a check_after of 0s every connection is checked; set check=always, or a check_after",
            ));
        }
        if self.expiry == Expiry::Sweep && self.sweep_interval == none {
            return Err(InvalidPolicy::pair(
                "expiry",
                "sweep_interval",
                "a sweep needs a pause; set sweep_interval, or expiry=timer",
            ));
        }
        Ok(())
    }

    /// Like [`validate`](Policy::validate), but for a running pool, which an open limit of 0 pauses.
    pub(crate) fn validate_running(&self) -> Result<(), InvalidPolicy> {
        let unless_paused = |limit: Option<u32>| limit.filter(|limit| *limit > 0);
        let unpaused = Self {
            max_open: unless_paused(self.max_open),
            max_open_per_key: unless_paused(self.max_open_per_key),
            ..self.clone()
        };
        unpaused.validate()
    }

    fn validate_ranges(&self) -> Result<(), InvalidPolicy> {
        let limits = [
            ("max_leases_per_connection", self.max_leases_per_connection),
            ("max_open_per_key", self.max_open_per_key),
            ("max_open", self.max_open),
            ("max_dials_per_key", self.max_dials_per_key),
            ("max_dials", self.max_dials),
            ("max_dials_per_second", self.max_dials_per_second),
            ("max_uses", self.max_uses),
            ("max_failed_checks", self.max_failed_checks),
        ];
        if let Some((field, _)) = limits.iter().find(|(_, limit)| *limit == Some(0)) {
            return Err(InvalidPolicy::one(
                field,
                "with 0 no connection could be lent; use at least 1, or none for no limit (max_open and \
                 max_open_per_key of a running pool can be 0, which pauses it: set_limits)",
            ));
        }
        if self.max_waiters == Some(0) && self.at_limit == AtLimit::Wait {
            return Err(InvalidPolicy::pair(
                "max_waiters",
                "at_limit",
                "no caller could wait; set at_limit=fail, or max_waiters to at least 1",
            ));
        }
        let durations = [
            ("acquire_timeout", self.acquire_timeout),
            ("dial_ramp", self.dial_ramp),
            ("dial_hedge", self.dial_hedge),
            ("wait_out_pauses", self.wait_out_pauses),
            ("dial_timeout", Some(self.dial_timeout)),
            ("check_timeout", Some(self.check_timeout)),
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
            ("back_off_base", Some(self.back_off_base)),
            ("reset_timeout", Some(self.reset_timeout)),
            ("close_timeout", Some(self.close_timeout)),
        ];
        if let Some((field, _)) = durations.iter().find(|(_, d)| *d == Some(Duration::ZERO)) {
            return Err(InvalidPolicy::one(
                field,
                "zero is not \"no limit\"; use a duration above 0s (or none, where allowed)",
            ));
        }
        if !(self.back_off_factor >= 1.0 && self.back_off_factor.is_finite()) {
            return Err(InvalidPolicy::one("back_off_factor", "it must be 1 or more"));
        }
        if !(0.0..=1.0).contains(&self.back_off_jitter) {
            return Err(InvalidPolicy::one("back_off_jitter", "it must be between 0 and 1"));
        }
        for (field, count) in
            [("back_off_after", self.back_off_after), ("retry_attempts", self.retry_attempts)]
        {
            if count == 0 {
                return Err(InvalidPolicy::one(field, "it must be at least 1"));
            }
        }
        Ok(())
    }

    fn validate_floor(&self) -> Result<(), InvalidPolicy> {
        for (field, limit) in [
            ("max_open_per_key", self.max_open_per_key),
            ("max_open", self.max_open),
            ("max_idle_per_key", self.max_idle_per_key),
            ("max_idle", self.max_idle),
        ] {
            if limit.is_some_and(|limit| self.min_idle > limit) {
                return Err(InvalidPolicy::pair(
                    "min_idle",
                    field,
                    "the floor is above the limit; lower min_idle or raise the limit",
                ));
            }
        }
        Ok(())
    }
}
