//! Options with which a scenario cannot be played: a turn that ends before its faults, and knobs in which its
//! ways differ.

use std::time::Duration;

use crate::error::BenchError;
use crate::scenario::{Scenario, Variant};

/// A turn that ends before its faults would not show what the scenario promises.
pub(super) fn check_duration(scenario: Scenario, duration: Duration) -> Result<(), BenchError> {
    if duration >= scenario.shortest() {
        return Ok(());
    }
    Err(BenchError::usage(format!(
        "--duration {}: the faults of scenario '{}' would not end within it; the shortest is --duration {}ms",
        humantime::format_duration(duration),
        scenario.name,
        scenario.shortest().as_millis(),
    )))
}

/// A knob in which the ways of a scenario differ cannot be set for all of them: then their names would be
/// wrong.
pub(super) fn check_knobs(
    scenario: Scenario,
    variant: Option<Variant>,
    sets: &[(String, String)],
) -> Result<(), BenchError> {
    let Some(variant) = variant else { return Ok(()) };
    match sets.iter().find(|(knob, _)| variant.knobs().any(|own| own == knob)) {
        Some((knob, value)) => Err(BenchError::usage(format!(
            "--set {knob}={}: scenario '{}' sets it itself in '{}'; leave one of the two out",
            value.escape_debug(),
            scenario.name,
            variant.name(),
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;
    use crate::cli::RunArgs;

    fn plan(change: impl FnOnce(&mut RunArgs)) -> Result<Plan, BenchError> {
        let mut args = RunArgs::default();
        change(&mut args);
        Plan::new(&args)
    }

    #[test]
    fn a_turn_that_ends_before_its_faults_is_refused() {
        let restart = |milliseconds| {
            plan(|args| {
                args.scenario = vec!["restart".to_owned()];
                args.duration = Some(Duration::from_millis(milliseconds));
            })
        };
        let error = restart(1799).unwrap_err();
        assert!(error.to_string().contains("the shortest is --duration 1800ms"), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(restart(1800).is_ok());
    }

    #[test]
    fn only_knobs_in_which_the_ways_of_a_scenario_differ_are_refused() {
        let set = |scenario: &str, set: &str| {
            plan(|args| {
                args.scenario = vec![scenario.to_owned()];
                args.set = vec![set.to_owned()];
            })
        };
        for (scenario, knob) in [
            ("imbalance", "idle_order=random"),
            ("lifetime", "lifetime_jitter=0ms"),
            ("connections", "max_leases_per_connection=3"),
        ] {
            let error = set(scenario, knob).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--set {knob}: scenario '{scenario}'")), "{error}");
        }
        for (scenario, knob) in [
            ("lifetime", "max_lifetime=500ms"),
            ("imbalance", "peek=true"),
            ("connections", "idle_order=random"),
            ("limits", "max_leases_per_connection=3"),
        ] {
            assert!(set(scenario, knob).is_ok(), "{scenario} {knob}");
        }
    }
}
