//! The players of a group: the twin of a pool, and a worker's share.

use super::{Entry, Group};
use crate::error::BenchError;
use crate::run::worker::Worker;
use crate::scenario::Play;
use crate::scenario::demand::Demand;
use crate::target::Target;

/// Reduces a group to the share of one worker.
pub(super) fn share(
    group: &mut Group,
    worker: Worker,
    target: Option<&Target>,
) -> Result<(), BenchError> {
    let refuse = |why: String| BenchError::usage(format!("--worker: {why}"));
    if target.is_none() {
        return Err(refuse(
            "it needs --target: without it each worker has servers of its own".to_owned(),
        ));
    }
    group.demand = worker.demand(group.demand).map_err(refuse)?;
    group.callers = worker.share(group.callers).ok_or_else(|| {
        refuse(format!("{} has fewer callers than there are workers", group.scenario.name))
    })?;
    Ok(())
}

/// The entry that plays twice in each round, so that the run measures its own noise. Scenarios of faults
/// and the three-way test have no such entry: their turns are long and their differences large. Neither
/// has a run of one round, which shows no noise.
pub(super) fn twin(group: &Group) -> Option<Entry> {
    let scenario = group.scenario;
    let quiet = (scenario.events)(&mut fastrand::Rng::with_seed(1)).is_empty();
    let steady = matches!(group.demand, Demand::Closed | Demand::Paced { .. });
    if group.rounds < 2 || group.entries.len() < 2 || scenario.play == Play::Reuse {
        return None;
    }
    // A pool if there is one, since pools are what is compared.
    let pool = group.entries.iter().find(|entry| entry.policy.is_some());
    pool.or(group.entries.first()).filter(|_| quiet && steady).cloned()
}
