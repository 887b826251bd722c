//! The open loop: requests arrive by a schedule, whatever became of earlier ones.
//!
//! An arrival takes a free caller. Where all callers are busy, the arrival waits for one, and that wait
//! is part of its latency, which counts from the intended start. An arrival that still has no caller
//! when the window ends is counted as unstarted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::arrivals::Schedule;
use super::choices::Choices;
use super::drive;
use super::line::{Arrival, Line};
use super::load::{Began, Load};
use super::outcome::{Place, Record, Took};
use super::pacer::{Pacer, Pacing};
use super::turn::Measured;
use crate::contestants::{Contestant, Request, RequestKind};
use crate::measure;
use crate::nonce::Nonce;

/// The window opens this much later than the schedule thread starts, so that the first arrivals are
/// not late.
const LEAD: Duration = Duration::from_millis(2);

struct Shared {
    line: Arc<Line>,
    choices: Choices,
    run: u32,
    over: AtomicBool,
    writes: AtomicU64,
    record: Mutex<Record>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nothing panics under the lock")
    }
}

/// Plays the load's demand.
pub(super) async fn measure<C: Contestant>(
    contestant: &Arc<C>,
    load: &Load,
    pacer: Pacer,
) -> Result<Measured, String> {
    let window =
        Schedule::new(load.demand, load.arrivals, load.duration, load.seed)?.moved(load.phase);
    let line = Arc::new(Line::new(load.callers));
    let shared = Arc::new(Shared {
        line: Arc::clone(&line),
        choices: load.choices(),
        run: load.run,
        over: AtomicBool::new(false),
        writes: AtomicU64::new(0),
        record: Mutex::new(Record::new(load.slots)),
    });
    let mut announcer = JoinSet::new();
    announcer.spawn({
        let line = Arc::clone(&line);
        async move { line.announce().await }
    });
    let mut callers = JoinSet::new();
    for caller in drive::prepare(contestant, load.callers).await? {
        callers.spawn(call_until_closed::<C>(caller, Arc::clone(&shared)));
    }

    if !load.cold {
        warm_up(load, pacer, &line).await?;
    }
    let counts = contestant.counts();
    let began = Began::after(LEAD);
    let pacing =
        Pacing::start(pacer, window, began.at, true, Arc::clone(&line), &load.schedule_on)?;
    drive::pass(LEAD, &load.interrupted).await;
    let cpu_began = measure::cpu_time();
    load.begin(began);
    let redials_before = contestant.redials();
    let samples = drive::watch(contestant.as_ref(), counts, began.at, load, || true).await;
    let (seconds, cpu) = (began.at.elapsed(), measure::cpu_time() - cpu_began);
    let redials = contestant.redials() - redials_before;
    shared.over.store(true, Ordering::Relaxed);

    let paced = pacing.end(load.interrupted.is_cancelled()).await?;
    let unstarted = line.close().await;
    let lost = drive::join(callers).await?;
    let mut record = std::mem::replace(&mut *shared.record(), Record::new(false));
    if let Some(slots) = &mut record.slots {
        unstarted.iter().for_each(|arrival| slots.unstarted(arrival.at));
    }
    Ok(Measured {
        record,
        lost,
        samples,
        began,
        seconds,
        redials,
        cpu: cpu.saturating_sub(paced.cpu),
        lateness: paced.lateness,
        unstarted: unstarted.len() as u64,
        delayed: line.delayed(),
        writes: shared.writes.load(Ordering::Relaxed),
        sequences: line.sequences(),
    })
}

async fn warm_up(load: &Load, pacer: Pacer, line: &Arc<Line>) -> Result<(), String> {
    let schedule = Schedule::warm_up(load.demand, load.arrivals, load.warm_up, load.seed)?;
    let Some(schedule) = schedule else { return Ok(()) };
    let began = Instant::now();
    let pacing = Pacing::start(pacer, schedule, began, false, Arc::clone(line), &load.schedule_on)?;
    drive::pass(load.warm_up, &load.interrupted).await;
    pacing.end(load.interrupted.is_cancelled()).await?;
    Ok(())
}

async fn call_until_closed<C: Contestant>(mut caller: C::Caller, shared: Arc<Shared>) {
    while let Some(arrival) = shared.line.next().await {
        carry_out::<C>(&mut caller, &arrival, &shared).await;
        shared.line.done();
    }
}

async fn carry_out<C: Contestant>(caller: &mut C::Caller, arrival: &Arrival, shared: &Shared) {
    let started = Instant::now();
    let kind = shared.choices.kind(arrival.sequence);
    if kind == RequestKind::Write {
        shared.writes.fetch_add(1, Ordering::Relaxed);
    }
    let slot = arrival.measured.then_some(arrival.at);
    shared.record().started(slot);
    let nonce = Nonce::new(shared.run, arrival.sequence);
    let request = Request { nonce, started: started.into_std(), kind };
    let deadline = shared.choices.deadline(arrival.sequence, arrival.intended, started);
    let result = match deadline {
        None => Some(C::call(caller, &request).await),
        Some(deadline) => deadline.hold(C::call(caller, &request)).await,
    };
    let now = Instant::now();
    let in_window = arrival.measured && !shared.over.load(Ordering::Relaxed);
    let ended = arrival.at + now.duration_since(arrival.intended);
    let place = Place { measured: arrival.measured, in_window, slot, ended };
    let mut record = shared.record();
    match result {
        Some(Ok(reply)) => {
            // A sampled acquire before the request is no part of its latency.
            let before =
                reply.began.map_or(Duration::ZERO, |began| began.duration_since(request.started));
            let since = |moment| now.duration_since(moment).saturating_sub(before);
            let took = Took { latency: since(arrival.intended), service: Some(since(started)) };
            record.replied(&reply, took, place);
        }
        Some(Err(error)) => record.failed(error, place),
        None => record.cancelled(place),
    }
}

#[cfg(test)]
mod tests;
