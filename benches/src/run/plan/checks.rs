//! An option that no part of a run uses, or that contradicts what is run, is a mistake: it is refused before
//! anything is measured, and never ignored.

use super::Group;
use crate::ask::Ask;
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::names::Protocol;
use crate::scenario::Play;
use crate::scenario::demand::Budget;
use crate::serve::model::Models;

/// Checks the options of a run against what it is going to play.
///
/// # Errors
/// [`BenchError::Usage`] that names the option and what it does not fit.
pub(super) fn check(args: &RunArgs, ask: &Ask, groups: &[Group]) -> Result<(), BenchError> {
    let no_part = args.contestant.iter().find(|name| {
        !groups.iter().flat_map(|group| &group.entries).any(|entry| entry.contestant.name == **name)
    });
    if let Some(name) = no_part {
        return Err(BenchError::usage(format!(
            "contestant '{name}' takes part in none of the scenarios and protocols asked for (see poolbench list)"
        )));
    }
    let set = args.set.first().filter(|_| {
        !groups.iter().flat_map(|group| &group.entries).any(|entry| entry.policy.is_some())
    });
    if let Some(set) = set {
        return refuse(
            &format!("--set {}", set.escape_debug()),
            "changes nothing: limit and no-pool have no policy; name another contestant",
        );
    }
    let retry = args.set.iter().find(|set| set.trim_start().starts_with("retry"));
    let is_framed = |group: &Group| group.protocol == Protocol::Framed;
    if let Some(set) = retry.filter(|_| groups.iter().all(is_framed)) {
        return refuse(
            &format!("--set {}", set.escape_debug()),
            "changes nothing: framed has no client that sends a request again; choose another --protocol",
        );
    }
    models(args, groups)?;
    loads(args, groups)?;
    for group in groups {
        request(ask, group)?;
    }
    Ok(())
}

fn refuse(option: &str, why: &str) -> Result<(), BenchError> {
    Err(BenchError::usage(format!("{option} {why}")))
}

/// Each server that is run has at most one model, and a target has none.
fn models(args: &RunArgs, groups: &[Group]) -> Result<(), BenchError> {
    if args.target.is_some() && !args.model.is_empty() {
        return refuse(
            "--model",
            "is for the embedded servers and --target replaces them: use one of the two",
        );
    }
    for (at, model) in args.model.iter().enumerate() {
        let protocol = Models::protocol(model)?;
        for earlier in &args.model[..at] {
            if Models::protocol(earlier)? == protocol {
                return refuse(
                    &format!("--model {earlier} and --model {model}:"),
                    &format!("the {protocol} server has one model, leave one out"),
                );
            }
        }
        if !groups.iter().any(|group| group.protocol == protocol) {
            return refuse(
                &format!("--model {model}"),
                &format!(
                    "is a model of {protocol}, which is not run: add --protocol {protocol}, or leave it out"
                ),
            );
        }
    }
    Ok(())
}

/// Options that need a closed loop, an open loop, or a certain budget.
fn loads(args: &RunArgs, groups: &[Group]) -> Result<(), BenchError> {
    let open = |group: &Group| group.demand.is_open();
    if args.callers.is_some() && groups.iter().all(open) {
        return refuse(
            "--callers",
            "is for a closed loop; in an open loop --max-in-flight is the most at once",
        );
    }
    if args.connections.is_some() && groups.iter().all(|group| group.budget == Budget::Own) {
        return refuse(
            "--connections",
            "is for --budget same; with --budget own each strategy has its own limits",
        );
    }
    for (given, option) in
        [(args.arrivals.is_some(), "--arrivals"), (args.max_in_flight.is_some(), "--max-in-flight")]
    {
        if given && !groups.iter().any(open) {
            return refuse(option, "is for an open loop: add --rate, or a scenario such as paced");
        }
    }
    Ok(())
}

/// A request that the user chose must fit every group, and must not change what its scenario is about.
fn request(ask: &Ask, group: &Group) -> Result<(), BenchError> {
    let (protocol, scenario) = (group.protocol, &group.scenario);
    let name = scenario.name;
    if let Some(option) = ask.http_option().filter(|_| !protocol.is_http()) {
        return refuse(
            option,
            &format!(
                "is for http1 and http2, and {protocol} is run as well: add --protocol http1,http2"
            ),
        );
    }
    let command = !ask.command().is_empty();
    if command && protocol != Protocol::Resp {
        return refuse(
            "--command",
            &format!("is for resp, and {protocol} is run as well: add --protocol resp"),
        );
    }
    if command && scenario.play == Play::Session {
        return refuse(
            "--command",
            &format!("does not fit: scenario '{name}' has commands of its own"),
        );
    }
    let peer = group.entries.iter().map(|entry| entry.contestant).find(|one| one.is_peer());
    if let Some(peer) = peer.filter(|_| command) {
        return refuse(
            "--command",
            &format!("is not built for the rivals, and {} takes part: leave it out", peer.name),
        );
    }
    if (ask.has_method() || command) && scenario.writes_percent > 0 {
        return refuse(
            if command { "--command" } else { "--method and --body-size" },
            &format!(
                "cannot stand in for the requests of scenario '{name}', of which {} % must not run twice",
                scenario.writes_percent
            ),
        );
    }
    if ask.think.is_some() && group.demand.is_open() {
        return refuse(
            "--think-time",
            &format!(
                "is for a closed loop, and '{name}' is an open one: requests come at a rate there"
            ),
        );
    }
    if ask.think.is_some() && scenario.play == Play::Reuse {
        return refuse(
            "--think-time",
            &format!("does not fit: scenario '{name}' makes its times of the number of requests"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;
    use crate::scenario::demand::Arrivals;

    #[test]
    fn contradictions_are_bad_usage() {
        let bad = [
            RunArgs::with(|args| args.contestant = vec!["net-htp".into()]),
            RunArgs::with(|args| args.protocol = vec!["http3".into()]),
            RunArgs::with(|args| args.scenario = vec!["stedy".into()]),
            RunArgs::with(|args| args.set = vec!["nonsense".into()]),
            RunArgs::with(|args| args.model = vec!["nonsense".into()]),
            RunArgs::with(|args| {
                args.protocol = vec!["resp".into()];
                args.contestant = vec!["grpc".into()];
            }),
            RunArgs::with(|args| {
                args.protocol = vec!["http1".into()];
                args.scenario = vec!["session".into()];
            }),
            RunArgs::with(|args| {
                args.protocol = vec!["resp".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
            RunArgs::with(|args| {
                args.scenario = vec!["reuse".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
            RunArgs::with(|args| {
                args.scenario = vec!["goaway".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
            RunArgs::with(|args| {
                args.model = vec!["tasks".into()];
                args.protocol = vec!["resp".into()];
            }),
            RunArgs::with(|args| {
                args.set = vec!["peek=true".into()];
                args.contestant = vec!["limit".into(), "no-pool".into()];
            }),
            RunArgs::with(|args| args.max_in_flight = Some(3)),
            RunArgs::with(|args| args.model = vec!["tasks".into(), "workers".into()]),
            RunArgs::with(|args| {
                args.callers = Some(3);
                args.scenario = vec!["paced".into()];
            }),
            RunArgs::with(|args| {
                args.connections = Some(3);
                args.budget = Some(Budget::Own);
            }),
            RunArgs::with(|args| args.arrivals = Some(Arrivals::Poisson)),
            RunArgs::with(|args| {
                args.model = vec!["tasks".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
        ];
        for args in bad {
            let error = Plan::new(&args).expect_err(&format!("{args:?}"));
            assert_eq!(error.exit_code(), 2, "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
