//! The closed loop: callers send a request, wait for its reply, and send the next one.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::choices::Choices;
use super::drive;
use super::load::{Began, Load};
use super::outcome::{Place, Record, Took};
use super::turn::Measured;
use crate::contestants::{Contestant, Request, RequestKind};
use crate::measure;
use crate::nonce::Nonce;

/// A caller whose request failed waits this long before the next: a refusal at once must not
/// become a busy loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(1);

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const OVER: u8 = 2;

/// What all callers of a turn share.
struct Shared {
    phase: AtomicU8,
    sequence: AtomicU32,
    run: u32,
    choices: Choices,
    think: Option<Duration>,
    /// Ends pauses when the turn is over.
    over: CancellationToken,
    writes: AtomicU64,
    /// When the window began, for the axis of steps; never set when there are none.
    axis: OnceLock<Instant>,
    record: Mutex<Record>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nothing panics under the lock")
    }

    /// Where a request of this moment stands on the axis of steps; `None` before the window.
    fn slot(&self, started: Instant) -> Option<Duration> {
        started.checked_duration_since(*self.axis.get()?)
    }

    fn open_window(&self, load: &Load) -> (Began, Duration) {
        let (began, cpu) = (Began::after(Duration::ZERO), measure::cpu_time());
        if load.slots {
            self.axis.get_or_init(|| began.at.into_std());
        }
        self.phase.store(MEASURE, Ordering::Relaxed);
        load.begin(began);
        (began, cpu)
    }
}

/// Lets the callers of the load send as fast as they are answered.
pub(super) async fn measure<C: Contestant>(
    contestant: &Arc<C>,
    load: &Load,
) -> Result<Measured, String> {
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(WARM_UP),
        sequence: AtomicU32::new(0),
        run: load.run,
        choices: load.choices(),
        think: load.think,
        over: CancellationToken::new(),
        writes: AtomicU64::new(0),
        axis: OnceLock::new(),
        record: Mutex::new(Record::new(load.slots)),
    });
    let ready = drive::prepare(contestant, load.callers).await?;
    let mut counts = contestant.counts();
    let opened = load.cold.then(|| shared.open_window(load));
    let mut callers = JoinSet::new();
    for (number, caller) in ready.into_iter().enumerate() {
        // Callers that pause for the same time would otherwise all send at once, again and again.
        let share = number as f64 / load.callers.max(1) as f64;
        let pause = load.think.map(|think| think.mul_f64(share));
        callers.spawn(call_until_over::<C>(caller, pause, Arc::clone(&shared)));
    }
    let (began, cpu_began) = match opened {
        Some(opened) => opened,
        None => {
            drive::pass(load.warm_up, &load.interrupted).await;
            counts = contestant.counts();
            shared.open_window(load)
        }
    };
    let has_outcome = || shared.record().has_outcome();
    let redials_before = contestant.redials();
    let samples = drive::watch(contestant.as_ref(), counts, began.at, load, has_outcome).await;
    shared.phase.store(OVER, Ordering::Relaxed);
    shared.over.cancel();
    let (seconds, cpu) = (began.at.elapsed(), measure::cpu_time() - cpu_began);
    let redials = contestant.redials() - redials_before;

    let lost = drive::join(callers).await?;
    let record = std::mem::replace(&mut *shared.record(), Record::new(false));
    Ok(Measured {
        record,
        lost,
        samples,
        began,
        seconds,
        redials,
        cpu,
        lateness: measure::histogram(),
        unstarted: 0,
        delayed: 0,
        writes: shared.writes.load(Ordering::Relaxed),
        sequences: shared.sequence.load(Ordering::Relaxed),
    })
}

async fn call_until_over<C: Contestant>(
    mut caller: C::Caller,
    pause: Option<Duration>,
    shared: Arc<Shared>,
) {
    if let Some(pause) = pause {
        drive::pass(pause, &shared.over).await;
    }
    let mut started = Instant::now();
    while shared.phase.load(Ordering::Relaxed) != OVER {
        let sequence = shared.sequence.fetch_add(1, Ordering::Relaxed);
        let nonce = Nonce::new(shared.run, sequence);
        let request = Request { nonce, started, kind: shared.choices.kind(sequence) };
        if request.kind == RequestKind::Write {
            shared.writes.fetch_add(1, Ordering::Relaxed);
        }
        let slot = shared.slot(started);
        if slot.is_some() {
            shared.record().started(slot);
        }
        let handed_over = tokio::time::Instant::from_std(started);
        let result = match shared.choices.deadline(sequence, handed_over, handed_over) {
            None => Some(C::call(&mut caller, &request).await),
            Some(deadline) => deadline.hold(C::call(&mut caller, &request)).await,
        };
        let now = Instant::now();
        let phase = shared.phase.load(Ordering::Relaxed);
        // A request that ends after the window was in flight during it: its latency or its
        // failure counts, but it adds nothing to the throughput of the window.
        let ended = shared.slot(now).unwrap_or_default();
        let place = Place { measured: phase != WARM_UP, in_window: phase == MEASURE, slot, ended };
        match result {
            Some(Ok(reply)) => {
                let latency = now - reply.began.unwrap_or(started);
                shared.record().replied(&reply, Took { latency, service: None }, place);
                started = now;
                if let Some(think) = shared.think {
                    drive::pass(think, &shared.over).await;
                    started = Instant::now();
                }
            }
            Some(Err(error)) => {
                shared.record().failed(error, place);
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                started = Instant::now();
            }
            None => {
                shared.record().cancelled(place);
                // A contestant that is given up at once must not keep the others from running.
                tokio::task::yield_now().await;
                started = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::{CallError, Counts, Echo, Reply};
    use crate::run::drive::drive;
    use crate::scenario::demand::GiveUp;

    /// Answers after a moment, and notes what it was asked.
    #[derive(Clone, Default)]
    struct Stub {
        asked: Arc<Mutex<Vec<(Nonce, RequestKind)>>>,
    }

    impl Contestant for Stub {
        type Caller = Self;

        async fn caller(&self) -> Result<Self, String> {
            Ok(self.clone())
        }

        async fn call(stub: &mut Self, request: &Request) -> Result<Reply, CallError> {
            stub.asked.lock().unwrap().push((request.nonce, request.kind));
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Reply::new(Echo::Returned))
        }

        /// Each request dials.
        fn counts(&self) -> Counts {
            Counts { dials: Some(self.asked.lock().unwrap().len() as u64), ..Counts::default() }
        }
    }

    fn load(warm_up: u64) -> Load {
        Load::closed(4, Duration::from_millis(warm_up), Duration::from_millis(60))
    }

    #[tokio::test]
    async fn requests_that_are_given_up_are_no_errors() {
        let within = Duration::ZERO;
        let load = Load { gives_up: Some(GiveUp { percent: 50, within }), ..load(0) };
        let turn = drive(Stub::default(), &load).await.unwrap();
        assert!(turn.cancelled > 0 && turn.replies > 0, "{turn:?}");
        assert_eq!((turn.errors, turn.mismatches), ([0; 5], Some(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_thinks_sends_nothing_meanwhile() {
        let stub = Stub::default();
        let think = Some(Duration::from_secs(3600));
        let load = Load { think, duration: Duration::from_secs(2 * 3600), ..load(0) };
        drive(stub.clone(), &load).await.unwrap();
        // 4 callers, each a part of the first hour later than the one before: 2 requests each.
        let asked = stub.asked.lock().unwrap().len();
        assert!((7..=9).contains(&asked), "{asked}");
    }

    #[tokio::test]
    async fn writes_are_chosen_by_their_number() {
        let load = Load { writes_percent: 30, ..load(10) };
        let stubs = [Stub::default(), Stub::default()];
        for stub in &stubs {
            let turn = drive(stub.clone(), &load).await.unwrap();
            let asked = stub.asked.lock().unwrap();
            let writes = asked.iter().filter(|asked| asked.1 == RequestKind::Write).count();
            assert_eq!(turn.writes, writes as u64, "those of the warm-up included");
        }
        // Neither asked as much as the other, so only what both asked can be compared.
        let [first, second] = stubs.map(|stub| stub.asked.lock().unwrap().clone());
        let common = first.iter().filter(|asked| second.contains(asked)).count();
        assert_eq!(common, first.len().min(second.len()));
    }

    #[tokio::test]
    async fn steps_are_kept_where_they_are_asked_for() {
        let turn = drive(Stub::default(), &load(0)).await.unwrap();
        assert!(turn.slots.is_none());
        let turn = drive(Stub::default(), &Load { slots: true, cold: true, ..load(1000) }).await;
        let turn = turn.unwrap();
        let slots = turn.slots.expect("they were asked for");
        assert_eq!(slots.iter().map(|slot| slot.ok).sum::<u64>(), turn.replies);
        assert_eq!(turn.replies, turn.latency.len(), "a cold turn measures from its first request");
        assert!(turn.service.is_empty() && turn.lateness.is_empty());
        assert!(slots[0].started > 0 && slots[0].p50_us.is_some());
        assert_eq!(slots.iter().filter_map(|slot| slot.dials).sum::<u64>(), turn.replies);
    }
}
