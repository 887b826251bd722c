//! The cost of the relay, which a run with the relay shows: one contestant at full load without and with it.

use std::time::Duration;

use super::{Entry, Group, group};
use crate::catalog::Contestant;
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::scenario::{STEADY, Variant};

/// Length and number of the turns if no option sets them.
const DURATION: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 3;

/// Adds a row with the relay to the table of `steady`, and adds the table if the options did not ask for it.
/// The row is one of `limit`, which costs least itself; without `limit` it is one of the first contestant.
///
/// # Errors
/// [`BenchError::Usage`] as for any other group.
pub(super) fn show_cost(
    args: &RunArgs,
    contestants: &[Contestant],
    sets: &[(String, String)],
    groups: &mut Vec<Group>,
) -> Result<(), BenchError> {
    let Some(protocol) = groups.iter().find(|group| group.relayed).map(|group| group.protocol)
    else {
        return Ok(());
    };
    if !groups.iter().any(|group| group.scenario == STEADY) {
        let plays = |contestant: &&Contestant| STEADY.admits(contestant, protocol);
        let one: Vec<Contestant> = contestants.iter().find(plays).copied().into_iter().collect();
        let steady = group(args, protocol, STEADY, &one, sets, true)?;
        groups.insert(
            0,
            Group {
                duration: args.duration.unwrap_or(DURATION),
                rounds: args.rounds.unwrap_or(ROUNDS),
                ..steady
            },
        );
    }
    for steady in groups.iter_mut().filter(|group| group.scenario == STEADY) {
        if let Some(first) = steady.entries.first().cloned() {
            steady.entries.insert(1, Entry { variant: Some(Variant::Relay), ..first });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;

    /// Scenario and contestant of each row, and whether its requests go through the relay.
    fn rows_of(
        scenarios: &[&str],
        contestants: &[&str],
    ) -> Vec<(&'static str, &'static str, bool)> {
        let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let plan = Plan::new(&RunArgs {
            target: Some("redis://127.0.0.1:1".to_owned()),
            scenario: words(scenarios),
            contestant: words(contestants),
            ..RunArgs::default()
        });
        let mut rows = Vec::new();
        for group in &plan.unwrap().groups {
            for entry in &group.entries {
                let relayed = group.is_relayed(entry);
                rows.push((group.scenario.name, entry.contestant.name, relayed));
            }
        }
        rows
    }

    #[test]
    fn a_run_with_the_relay_shows_what_the_relay_costs() {
        let steady = [("steady", "limit", false), ("steady", "limit", true)];
        let asked = rows_of(&["restart"], &["limit", "redigo"]);
        assert_eq!(asked, [&steady[..], &[("restart", "redigo", true)]].concat());
        let asked = rows_of(&["steady", "restart"], &["limit", "redigo"]);
        let redigo = [("steady", "redigo", false), ("restart", "redigo", true)];
        assert_eq!(asked, [&steady[..], &redigo].concat());
        let asked = rows_of(&["restart"], &["redigo"]);
        let steady = [("steady", "redigo", false), ("steady", "redigo", true)];
        assert_eq!(asked, [&steady[..], &[("restart", "redigo", true)]].concat());
    }

    #[test]
    fn a_run_without_faults_needs_no_relay() {
        let rows = rows_of(&["steady", "limits"], &["limit", "redigo"]);
        assert!(rows.iter().all(|(_, _, relayed)| !relayed));
    }
}
