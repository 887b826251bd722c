//! The scenarios that show the effect of each knob. Many knobs change nothing in `steady`, because nothing
//! goes wrong there.

/// The scenarios in which each knob shows, in the order of the knobs. Measured: docs/knobs.md has the
/// commands and the figures.
pub const SHOWS: &[(&str, &[&str])] = &[
    ("idle_order", &["burst", "imbalance"]),
    ("max_open_per_key", &["slow-minute", "limits"]),
    ("max_open", &["slow-minute", "limits"]),
    ("max_leases_per_connection", &["steady", "connections"]),
    ("max_idle_per_key", &["burst"]),
    ("max_idle", &["burst"]),
    ("idle_overflow", &[]),
    ("min_idle", &["burst"]),
    ("floor", &["restart"]),
    ("at_limit", &["slow-minute", "limits"]),
    ("acquire_timeout", &["slow-minute"]),
    ("max_waiters", &["slow-minute", "limits"]),
    ("waiter_order", &["limits"]),
    ("dial", &["slow-dial"]),
    ("dial_for_waiters", &["black-hole"]),
    ("max_dials_per_key", &["herd"]),
    ("max_dials", &["herd"]),
    ("max_dials_per_second", &["herd"]),
    ("dial_ramp", &["herd"]),
    ("dial_hedge", &[]),
    ("dial_timeout", &["slow-dial"]),
    ("orphan_dial", &["slow-dial"]),
    ("adopt_dials", &[]),
    ("peek", &["idle-cut"]),
    ("check", &["idle-cut"]),
    ("check_after", &["idle-cut"]),
    ("check_timeout", &["black-hole"]),
    ("after_failed_check", &[]),
    ("max_failed_checks", &["black-hole"]),
    ("idle_timeout", &["idle-cut"]),
    ("idle_timeout_spares_floor", &["burst"]),
    ("max_lifetime", &["burst", "lifetime"]),
    ("max_uses", &["steady"]),
    ("lifetime_jitter", &["lifetime", "burst"]),
    ("expiry", &["burst"]),
    ("sweep_interval", &[]),
    ("after_failed_dial", &["restart"]),
    ("back_off_after", &["restart"]),
    ("back_off_base", &["restart"]),
    ("back_off_factor", &["restart"]),
    ("back_off_max", &["restart"]),
    ("back_off_jitter", &[]),
    ("wait_out_pauses", &["restart"]),
    ("wait_for_ready", &["restart"]),
    ("reset_timeout", &["session"]),
    ("close_timeout", &[]),
    ("retry", &["idle-cut"]),
    ("retry_attempts", &["restart"]),
    ("retry_back_off_min", &["idle-cut"]),
    ("retry_back_off_max", &["idle-cut"]),
];

/// Knobs that change no figure of any scenario, each with the reason.
pub const UNSEEN: &[(&str, &str)] = &[
    (
        "idle_overflow",
        "after a burst all connections have almost the same age, so it hardly matters which of them stay idle",
    ),
    ("dial_hedge", "no scenario loses a single SYN: dials are slow for all or for none"),
    (
        "adopt_dials",
        "dials on loopback end before a caller leaves, and slow dials serve all who wait",
    ),
    (
        "after_failed_check",
        "the load of black-hole keeps too few connections idle for a second one to be checked",
    ),
    ("sweep_interval", "a late sweep closes connections that no caller would get anyway"),
    ("back_off_jitter", "it tells many clients apart, and here is one"),
    ("close_timeout", "the servers here close their side at once"),
];

/// Why the knob of this name shows in no scenario.
pub fn unseen(knob: &str) -> Option<&'static str> {
    UNSEEN.iter().find(|(name, _)| *name == knob).map(|(_, why)| *why)
}

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
            assert_eq!(scenarios.is_empty(), unseen(knob).is_some(), "{knob}");
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
