//! The ceiling of the generator: the highest rate of an open loop that it hands over in time, to a
//! contestant that answers at once.

use std::time::Duration;

use crate::contestants::{CallError, Contestant, Echo, Reply, Request};
use crate::error::BenchError;
use crate::measure::{Percentiles, round};
use crate::report::calibration::Generator;
use crate::run::drive::drive;
use crate::run::load::Load;
use crate::scenario::demand::{Demand, Rate};

/// Turns at a rate before it counts as too high: something else may have had the processor in one.
const TRIES: usize = 3;
/// Rates to try, in requests per second.
const LADDER: [f64; 10] = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
pub(super) const DURATION: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(50);
/// More callers than can be busy: the contestant answers at once.
const CALLERS: usize = 64;
/// An arrival later than this is late, in microseconds: the bound of the warning about lateness.
const LATE_US: f64 = 1000.0;

/// Answers at once.
struct Immediate;

impl Contestant for Immediate {
    type Caller = ();

    async fn caller(&self) -> Result<(), String> {
        Ok(())
    }

    async fn call(_: &mut (), _: &Request) -> Result<Reply, CallError> {
        Ok(Reply::new(Echo::NotAsked))
    }
}

pub(super) fn measure(cpus: &[usize]) -> Result<Generator, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting the runtime"))?;
    let mut best = Generator { ceiling_per_s: None, lateness_p99_us: None };
    for rate in LADDER {
        let load = Load {
            demand: Demand::Paced { rate: Rate::PerSecond(rate) },
            schedule_on: cpus.to_vec(),
            ..Load::closed(CALLERS, WARM_UP, DURATION)
        };
        let mut in_time = None;
        for _ in 0..TRIES {
            let turn = runtime.block_on(drive(Immediate, &load)).map_err(BenchError::Server)?;
            let late = Percentiles::of(&turn.lateness).map_or(f64::INFINITY, |late| late.p99);
            let reached = turn.requests as f64 / turn.seconds.max(f64::EPSILON);
            if late <= LATE_US && reached >= 0.99 * rate {
                in_time = Some(late);
                break;
            }
        }
        let Some(late) = in_time else { break };
        best = Generator { ceiling_per_s: Some(rate), lateness_p99_us: Some(round(late)) };
    }
    Ok(best)
}
