//! What was asked for by name: protocols, scenarios and contestants.

use crate::catalog::{self, BUILD_PEERS, Contestant};
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::names::Protocol;
use crate::scenario::{SCENARIOS, STEADY, Scenario};
use crate::target::Target;

pub(super) fn protocols(
    args: &RunArgs,
    target: Option<&Target>,
) -> Result<Vec<Protocol>, BenchError> {
    let named: Vec<Protocol> = parse_all(&args.protocol, Protocol::parse)?;
    match target {
        None if named.is_empty() => Ok(Protocol::ALL.to_vec()),
        None => Ok(named),
        Some(target) => {
            if let Some(other) = named.iter().find(|named| **named != target.protocol) {
                return Err(BenchError::usage(format!(
                    "--target speaks {}, --protocol asks for {other}: name one protocol, or leave --protocol out",
                    target.protocol
                )));
            }
            Ok(vec![target.protocol])
        }
    }
}

pub(super) fn scenarios(
    args: &RunArgs,
    target: Option<&Target>,
) -> Result<Vec<Scenario>, BenchError> {
    let named = parse_all(&args.scenario, Scenario::parse)?;
    let refused = |scenario: &Scenario| Some((scenario.name, scenario.asks_server()?));
    if let Some((name, does)) = named.iter().find_map(refused).filter(|_| target.is_some()) {
        return Err(BenchError::usage(format!(
            "scenario '{name}' needs the embedded server: the server must {does} on command, and a relay in front of --target does not know the protocol; leave --target or '{name}' out",
        )));
    }
    Ok(match (named.is_empty(), args.is_bare()) {
        (true, true) => SCENARIOS.into_iter().filter(|known| known.short.is_some()).collect(),
        (true, false) if args.sweep.is_some() => vec![Scenario::parse("paced")?],
        (true, false) => vec![STEADY],
        (false, _) => named,
    })
}

/// Refuses `--peers` in a build without the rivals.
fn check_peers(asked: bool, built: bool) -> Result<(), BenchError> {
    if asked && !built {
        return Err(BenchError::usage(format!(
            "--peers: the rivals are not part of this build; build them: {BUILD_PEERS}"
        )));
    }
    Ok(())
}

pub(super) fn contestants(args: &RunArgs) -> Result<Vec<Contestant>, BenchError> {
    check_peers(args.peers, cfg!(feature = "peers"))?;
    let named = parse_all(&args.contestant, Contestant::find)?;
    // In the order of the catalog, whatever the order of the options.
    // Rivals take part when they are asked for, by name or all of them.
    let takes_part = |contestant: &Contestant| match contestant.is_peer() {
        true => args.peers || named.contains(contestant),
        false => named.is_empty() || named.contains(contestant),
    };
    Ok(catalog::contestants().filter(takes_part).collect())
}

/// Parses names, each once, in their order.
fn parse_all<T: PartialEq>(
    names: &[String],
    parse: impl Fn(&str) -> Result<T, BenchError>,
) -> Result<Vec<T>, BenchError> {
    let mut parsed = Vec::new();
    for name in names {
        let value = parse(name)?;
        if !parsed.contains(&value) {
            parsed.push(value);
        }
    }
    Ok(parsed)
}

/// Why there is nothing to run.
pub(super) fn nothing_fits(
    protocols: &[Protocol],
    scenarios: &[Scenario],
    contestants: &[Contestant],
) -> String {
    let list = |names: Vec<&str>| names.join(", ");
    let only = scenarios.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.takers()?)));
    let only: Vec<String> = only.collect();
    let only = if only.is_empty() { String::new() } else { format!("; {}", only.join("; ")) };
    format!(
        "nothing to run: none of the contestants {} takes part in {} on {}{only} (see poolbench list)",
        list(contestants.iter().map(|contestant| contestant.name).collect()),
        list(scenarios.iter().map(|scenario| scenario.name).collect()),
        list(protocols.iter().map(|protocol| protocol.name()).collect()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In every build, so that one with the rivals tests it as well.
    #[test]
    fn peers_that_are_not_built_are_bad_usage_that_says_how_to_build_them() {
        let error = check_peers(true, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("-p poolbench --features peers"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert!(check_peers(true, true).is_ok() && check_peers(false, false).is_ok());
    }
}
