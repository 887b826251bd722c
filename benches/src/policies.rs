//! The policy of a contestant: its profile, the common budget, and the knobs that were set.

use pool_common::Policy;
use pool_common::knob::KNOBS;
use pool_common::policy::Check;
use pool_common::profile::Profile;
use serde::Serialize;

use crate::catalog::{Contestant, Kind};
use crate::error::BenchError;
use crate::names::{self, Protocol};

/// The safety measures of a contestant; `None` if a measure does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Safety {
    /// A connection is checked before it is lent.
    pub check: Option<bool>,
    /// Getting a connection has a deadline.
    pub deadline: Option<bool>,
    /// A session is brought back to neutral before it is lent again.
    pub reset: Option<bool>,
    /// The number of open connections is bounded.
    pub bounded: Option<bool>,
}

impl Safety {
    /// The safety measures of `contestant` with this policy.
    pub fn of(contestant: &Contestant, policy: Option<&Policy>, protocol: Protocol) -> Self {
        // Of these protocols only RESP has a session that outlives a request.
        let session = |answer| (protocol == Protocol::Resp).then_some(answer);
        match (contestant.kind, policy) {
            (Kind::Limit, _) => Self {
                check: Some(false),
                deadline: Some(false),
                reset: session(false),
                bounded: Some(true),
            },
            (Kind::Peer(_), _) => match contestant.facts() {
                Some(facts) => Self {
                    reset: facts.safety.reset.filter(|_| session(true).is_some()),
                    ..facts.safety
                },
                None => Self { check: None, deadline: None, reset: None, bounded: None },
            },
            // A new connection needs no check and no reset.
            (Kind::NoPool, _) | (_, None) => {
                Self { check: None, deadline: Some(false), reset: None, bounded: Some(false) }
            }
            (Kind::Default | Kind::Profile(_), Some(policy)) => Self {
                check: Some(policy.peek || policy.check != Check::Never),
                deadline: Some(policy.acquire_timeout.is_some()),
                reset: session(true),
                bounded: Some(policy.max_open_per_key.or(policy.max_open).is_some()),
            },
        }
    }
}

/// Splits the arguments of `--set`, and checks that each names a knob and a value it accepts.
///
/// # Errors
/// [`BenchError::Usage`] for anything else.
pub fn parse_sets(sets: &[String]) -> Result<Vec<(String, String)>, BenchError> {
    let mut scratch = Policy::default();
    let mut parsed: Vec<(String, String)> = Vec::new();
    for set in sets {
        let Some((knob, value)) = set.split_once('=') else {
            return Err(BenchError::usage(format!(
                "--set '{}' is not KNOB=VALUE",
                set.escape_debug()
            )));
        };
        let (knob, value) = (knob.trim().to_owned(), value.trim().to_owned());
        if !KNOBS.iter().any(|known| known.name == knob) {
            let known: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
            return Err(names::unknown("knob", &knob, &known));
        }
        if let Some((_, first)) = parsed.iter().find(|(known, _)| *known == knob) {
            return Err(BenchError::usage(format!(
                "--set {knob} is given twice, with {} and {}: leave one out",
                first.escape_debug(),
                value.escape_debug()
            )));
        }
        if let Err(error) = scratch.set(&knob, &value) {
            // Only the user's text may contain characters that must not reach a terminal.
            let plain = error.to_string().replace(&value, &value.escape_debug().to_string());
            return Err(BenchError::usage(format!("--set: {plain}")));
        }
        parsed.push((knob, value));
    }
    Ok(parsed)
}

/// The profile that `contestant` runs.
pub fn profile(contestant: &Contestant) -> Option<Profile> {
    let name = contestant.profile()?;
    Some(Profile::find(name).expect("the catalog names existing profiles"))
}

/// Everything besides the profile that shapes the policy of a contestant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// The same number of connections for every contestant; `None` leaves each its own limits.
    pub connections: Option<usize>,
    /// How many requests one shared connection serves at a time.
    pub leases: Option<u32>,
    /// Knobs that the scenario sets.
    pub scenario: &'a [(&'static str, &'static str)],
    /// Knobs that its variant sets.
    pub variant: &'a [(&'static str, &'static str)],
    /// Knobs that the user sets; they win.
    pub sets: &'a [(String, String)],
}

/// The policy of `contestant`: its profile with the common budget of connections, then the knobs of
/// the scenario, then those of the user. `None` when it has no policy.
///
/// The budget makes contestants comparable: each may open and keep as many connections as the
/// others. A profile with a single connection keeps it.
///
/// # Errors
/// [`BenchError::Usage`] when the policy contradicts itself.
pub fn resolve(
    contestant: &Contestant,
    protocol: Protocol,
    terms: &Terms<'_>,
) -> Result<Option<Policy>, BenchError> {
    let (mut policy, single) = match (contestant.kind, profile(contestant)) {
        (_, Some(profile)) => (profile.policy.clone(), profile.is_single_connection()),
        (Kind::Default, None) => (own_default(protocol), false),
        (Kind::Limit | Kind::NoPool | Kind::Profile(_) | Kind::Peer(_), None) => return Ok(None),
    };
    if let Some(connections) = terms.connections.filter(|_| !single) {
        let budget = u32::try_from(connections).unwrap_or(u32::MAX);
        policy.max_open_per_key = Some(budget);
        policy.max_idle_per_key = Some(budget);
        policy.max_open = policy.max_open.map(|limit| limit.max(budget));
        policy.max_idle = policy.max_idle.map(|limit| limit.max(budget));
        policy.min_idle = policy.min_idle.min(budget);
    }
    policy.max_leases_per_connection = terms.leases.or(policy.max_leases_per_connection);
    for (knob, value) in terms.scenario.iter().chain(terms.variant) {
        policy.set(knob, value).map_err(|error| {
            BenchError::usage(format!("the scenario sets {knob}={value}: {error}"))
        })?;
    }
    for (knob, value) in terms.sets {
        policy.set(knob, value).map_err(|error| BenchError::usage(format!("--set: {error}")))?;
    }
    policy.validate().map_err(|error| {
        let cause = cause(terms.sets, &error.to_string());
        BenchError::usage(format!(
            "{cause}the policy of {} makes no sense: {error}",
            contestant.name
        ))
    })?;
    Ok(Some(policy))
}

/// The `--set` values that cause a policy error: those whose knobs the error names, otherwise all.
fn cause(sets: &[(String, String)], error: &str) -> String {
    let words: Vec<&str> =
        error.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let named = |(knob, _): &&(String, String)| words.contains(&knob.as_str());
    let mut guilty: Vec<_> = sets.iter().filter(named).collect();
    if guilty.is_empty() {
        guilty = sets.iter().collect();
    }
    let texts: Vec<String> =
        guilty.iter().map(|(knob, value)| format!("--set {knob}={value}")).collect();
    if texts.is_empty() { String::new() } else { format!("{}: ", texts.join(" ")) }
}

/// The default policy of the client of this protocol.
pub fn own_default(protocol: Protocol) -> Policy {
    match protocol {
        Protocol::Http1 => http1_pool::Client::default_policy(),
        Protocol::Http2 => h2_shared::Client::default_policy(),
        Protocol::Resp => resp_pool::Client::default_policy(),
        Protocol::Framed => Policy::default(),
    }
}

/// Whether the contestant has a single connection, so that the budget does not apply to it.
pub fn is_single(contestant: &Contestant) -> bool {
    profile(contestant).is_some_and(|profile| profile.is_single_connection())
        || contestant.facts().is_some_and(|facts| facts.single)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CONTESTANTS;

    #[test]
    fn contestants_have_the_same_budget_except_single_connections() {
        for contestant in CONTESTANTS {
            let terms = Terms { connections: Some(7), ..Terms::default() };
            let Some(policy) = resolve(&contestant, Protocol::Http1, &terms).unwrap() else {
                assert!(matches!(contestant.kind, Kind::Limit | Kind::NoPool));
                continue;
            };
            let open = if is_single(&contestant) { 1 } else { 7 };
            assert_eq!(policy.max_open_per_key, Some(open), "{}", contestant.name);
        }
        assert!(is_single(&Contestant::find("thrift").unwrap()));
    }

    #[test]
    fn knobs_win_over_the_budget() {
        let sets = parse_sets(&["max_open_per_key=3".to_owned()]).unwrap();
        let contestant = Contestant::find("net-http").unwrap();
        let terms = Terms { connections: Some(7), sets: &sets, ..Terms::default() };
        let policy = resolve(&contestant, Protocol::Http1, &terms).unwrap().unwrap();
        assert_eq!(policy.max_open_per_key, Some(3));
    }

    #[test]
    fn without_a_budget_each_has_its_own_limits() {
        let net_http = Contestant::find("net-http").unwrap();
        let policy = resolve(&net_http, Protocol::Http1, &Terms::default()).unwrap().unwrap();
        assert_eq!((policy.max_open_per_key, policy.max_idle_per_key), (None, Some(2)));
    }

    #[test]
    fn bad_knobs_and_contradictions_are_bad_usage() {
        for set in ["max_open_per_key", "max_opn=1", "dial=nobody", "min_idle=-1"] {
            let error = parse_sets(&[set.to_owned()]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        let error = parse_sets(&["max_opn=1".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("did you mean 'max_open'"), "{error}");
        let sets = parse_sets(&["min_idle=20".to_owned()]).unwrap();
        let contestant = Contestant::find("redigo").unwrap();
        let terms = Terms { connections: Some(8), sets: &sets, ..Terms::default() };
        let error = resolve(&contestant, Protocol::Resp, &terms).unwrap_err();
        assert!(error.to_string().contains("min_idle"), "{error}");
        assert!(error.to_string().contains("redigo"), "{error}");
        assert!(error.to_string().starts_with("--set min_idle=20: "), "{error}");
    }

    #[test]
    fn a_bad_value_is_quoted_without_backslashes_and_a_knob_is_set_once() {
        let error = parse_sets(&["peek=maybe".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("'maybe'") && !error.contains('\\'), "{error}");
        let error = parse_sets(&["peek=may\x1bbe".to_owned()]).unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error}");
        let twice = ["peek=true".to_owned(), "peek=false".to_owned()];
        let error = parse_sets(&twice).unwrap_err().to_string();
        assert!(error.contains("peek is given twice"), "{error}");
    }
}
