//! Makes a failing sequence of operations as short and as simple as possible.

use crate::operations::{Operation, Return};

/// Replays that making one failure shorter may take.
const PATIENCE: usize = 20_000;

/// Leaves out operations, long stretches first and then single ones, as long as it `fails`
/// without them; then makes the numbers in those that remain as small as can be.
pub fn minimal(operations: &[Operation], fails: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    let mut least = operations.to_vec();
    let mut patience = PATIENCE;
    let mut chunk = least.len().div_ceil(2);
    while chunk > 0 && patience > 0 {
        let mut found = false;
        // From the end, since late operations depend on early ones.
        let mut end = least.len();
        while end > 0 && patience > 0 {
            let start = end.saturating_sub(chunk);
            let mut without = least.clone();
            without.drain(start..end);
            patience -= 1;
            if fails(&without) {
                least = without;
                found = true;
            }
            end = start;
        }
        if !found {
            chunk /= 2;
        }
        chunk = chunk.min(least.len());
    }
    for at in 0..least.len() {
        for simpler in simpler(least[at]) {
            let mut candidate = least.clone();
            candidate[at] = simpler;
            if fails(&candidate) {
                least = candidate;
                break;
            }
        }
    }
    least
}

/// Simpler forms of an operation, the simplest first.
fn simpler(operation: Operation) -> Vec<Operation> {
    match operation {
        Operation::Acquire { key, fresh, again } => {
            let plain = [
                Operation::Acquire { key: 0, fresh: false, again: false },
                Operation::Acquire { key, fresh: false, again: false },
                Operation::Acquire { key, fresh, again: false },
                Operation::Acquire { key: 0, fresh, again },
            ];
            plain.into_iter().filter(|plain| *plain != operation).collect()
        }
        Operation::AcquireWithin { key, again, millis } => {
            let plain = [
                Operation::Acquire { key, fresh: false, again: false },
                Operation::AcquireWithin { key: 0, again, millis },
                Operation::AcquireWithin { key, again: false, millis },
            ];
            plain.into_iter().filter(|plain| *plain != operation).collect()
        }
        Operation::TryAcquire(_) => vec![Operation::TryAcquire(0)],
        Operation::Collect(_) => vec![Operation::Collect(0)],
        Operation::Cancel(_) => vec![Operation::Cancel(0)],
        Operation::Release { how, .. } => vec![
            Operation::Release { which: 0, how: Return::Fit },
            Operation::Release { which: 0, how },
        ],
        Operation::DialSucceeds(_) => vec![Operation::DialSucceeds(0)],
        Operation::DialFails(_) => vec![Operation::DialFails(0)],
        Operation::CallerLeavesDial(_) => vec![Operation::CallerLeavesDial(0)],
        Operation::DialIsLost(_) => vec![Operation::DialIsLost(0)],
        Operation::LookBegins(_) => vec![Operation::LookBegins(0)],
        Operation::LookEnds { gone, .. } => vec![Operation::LookEnds { which: 0, gone }],
        Operation::CheckFails { took, .. } => vec![Operation::CheckFails { which: 0, took }],
        Operation::DialStops(_) => vec![Operation::DialStops(0)],
        Operation::GoodbyeEnds(_) => vec![Operation::GoodbyeEnds(0)],
        Operation::TimePasses(_) => vec![Operation::TimePasses(0), Operation::TimePasses(1_000)],
        Operation::TimeJumps(_) => vec![Operation::TimeJumps(0), Operation::TimeJumps(1_000)],
        Operation::Retire(_) => vec![Operation::Retire(0)],
        Operation::SetCapacity { capacity, .. } => {
            vec![Operation::SetCapacity { which: 0, capacity }]
        }
        Operation::SetIdleLimit { millis, .. } => {
            vec![Operation::SetIdleLimit { which: 0, millis }]
        }
        Operation::Breaks(_) => vec![Operation::Breaks(0)],
        Operation::WarmUp(_) => vec![Operation::WarmUp(0)],
        Operation::DialsGetCapacity(_)
        | Operation::TimerFires
        | Operation::LateWord
        | Operation::RetireAll
        | Operation::RetireAllNow
        | Operation::SetLimits(_)
        | Operation::Storm { .. }
        | Operation::Close => Vec::new(),
    }
}
