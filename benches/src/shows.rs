//! Which scenario shows what a knob does. A knob that changes nothing in `steady` is not useless: it
//! answers a question that `steady` does not ask.

/// The scenarios in which each knob shows, in the order of the knobs.
pub const SHOWS: &[(&str, &[&str])] = &[
    ("idle_order", &["imbalance", "idle-cut"]),
    ("max_open_per_key", &["limits", "slow-minute"]),
    ("max_open", &["limits", "slow-minute"]),
    ("max_leases_per_connection", &["connections", "limits", "steady", "max-streams"]),
    ("max_idle_per_key", &["burst"]),
    ("max_idle", &["burst"]),
    ("idle_overflow", &["burst", "imbalance"]),
    ("min_idle", &["herd", "burst"]),
    ("floor", &["idle-cut", "restart"]),
    ("at_limit", &["limits", "slow-minute"]),
    ("acquire_timeout", &["slow-minute", "restart"]),
    ("max_waiters", &["limits", "slow-minute"]),
    ("waiter_order", &["limits"]),
    ("dial", &["slow-dial", "cancel"]),
    ("dial_for_waiters", &["restart", "slow-dial"]),
    ("max_dials_per_key", &["herd", "restart"]),
    ("max_dials", &["herd", "restart"]),
    ("max_dials_per_second", &["herd", "restart"]),
    ("dial_ramp", &["herd"]),
    ("dial_hedge", &["slow-dial"]),
    ("dial_timeout", &["black-hole", "slow-dial"]),
    ("orphan_dial", &["steady", "herd", "cancel"]),
    ("adopt_dials", &["cancel"]),
    ("peek", &["idle-cut", "restart"]),
    ("check", &["idle-cut", "black-hole"]),
    ("check_after", &["idle-cut", "black-hole"]),
    ("check_timeout", &["black-hole"]),
    ("after_failed_check", &["black-hole"]),
    ("max_failed_checks", &["black-hole"]),
    ("idle_timeout", &["idle-cut"]),
    ("idle_timeout_spares_floor", &["burst"]),
    ("max_lifetime", &["lifetime"]),
    ("max_uses", &["steady"]),
    ("lifetime_jitter", &["lifetime"]),
    ("expiry", &["lifetime", "burst"]),
    ("sweep_interval", &["lifetime", "burst"]),
    ("after_failed_dial", &["restart"]),
    ("back_off_after", &["restart"]),
    ("back_off_base", &["restart"]),
    ("back_off_factor", &["restart"]),
    ("back_off_max", &["restart"]),
    ("back_off_jitter", &["restart"]),
    ("wait_out_pauses", &["restart"]),
    ("wait_for_ready", &["restart"]),
    ("reset_timeout", &["session", "black-hole"]),
    ("close_timeout", &["goaway", "lifetime"]),
    ("retry", &["idle-cut", "restart", "goaway"]),
    ("retry_attempts", &["idle-cut", "restart", "goaway"]),
    ("retry_back_off_min", &["restart"]),
    ("retry_back_off_max", &["restart"]),
];

/// The scenarios in which the knob of this name shows.
pub fn of(knob: &str) -> &'static [&'static str] {
    SHOWS.iter().find(|(name, _)| *name == knob).map_or(&[], |(_, scenarios)| scenarios)
}

#[cfg(test)]
mod tests {
    use pool_common::knob::KNOBS;

    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn every_knob_has_a_scenario_that_exists() {
        let names: Vec<&str> = SHOWS.iter().map(|(name, _)| *name).collect();
        let knobs: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        assert_eq!(names, knobs);
        for (knob, scenarios) in SHOWS {
            assert!(!scenarios.is_empty(), "{knob}");
            for scenario in *scenarios {
                assert!(
                    SCENARIOS.iter().any(|known| known.name == *scenario),
                    "{knob}: {scenario}"
                );
            }
        }
        assert!(of("no_such_knob").is_empty());
    }
}
