use std::sync::atomic::AtomicU32;

use super::*;
use crate::contestants::{CallError, Counts, Echo, ErrorKind, Reply};
use crate::measure::Percentiles;
use crate::run::drive::{drive, drive_paced};
use crate::run::turn::Turn;
use crate::scenario::demand::{Demand, GiveUp, Rate};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn load(demand: Demand, callers: usize, duration: Duration) -> Load {
    Load { demand, slots: true, ..Load::closed(callers, Duration::ZERO, duration) }
}

fn paced(rate: f64) -> Demand {
    Demand::Paced { rate: Rate::PerSecond(rate) }
}

/// Takes a turn in virtual time. Its first instant is time 0 of [`Stub::silent`].
async fn play(stub: Stub, load: &Load) -> Turn {
    drive_paced(stub, load, Pacer::Task).await.unwrap()
}

/// Answers after `takes`, but not while it is silent. It remembers the requests.
#[derive(Clone)]
struct Stub {
    origin: Instant,
    takes: Duration,
    /// From when until when nothing is answered.
    silent: (Duration, Duration),
    asked: Arc<Mutex<Vec<Request>>>,
    open: Arc<AtomicU32>,
    most_open: Arc<AtomicU32>,
}

impl Stub {
    fn new(takes: Duration) -> Self {
        Self {
            origin: Instant::now(),
            takes,
            silent: (Duration::ZERO, Duration::ZERO),
            asked: Arc::default(),
            open: Arc::default(),
            most_open: Arc::default(),
        }
    }

    fn silent(self, from: Duration, until: Duration) -> Self {
        Self { silent: (from, until), ..self }
    }

    fn asked(&self) -> Vec<(Nonce, RequestKind)> {
        self.asked.lock().unwrap().iter().map(|asked| (asked.nonce, asked.kind)).collect()
    }
}

/// Counts a request as open until it ends, or is dropped.
struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Contestant for Stub {
    type Caller = Self;

    async fn caller(&self) -> Result<Self, String> {
        Ok(self.clone())
    }

    async fn call(stub: &mut Self, request: &Request) -> Result<Reply, CallError> {
        stub.asked.lock().unwrap().push(*request);
        stub.most_open.fetch_max(stub.open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let _open = Open(Arc::clone(&stub.open));
        tokio::time::sleep(stub.takes).await;
        let (from, until) = stub.silent;
        if stub.origin.elapsed() >= from {
            tokio::time::sleep_until(stub.origin + until).await;
        }
        Ok(Reply::new(Echo::Returned))
    }

    /// Each request dials.
    fn counts(&self) -> Counts {
        Counts { dials: Some(self.asked.lock().unwrap().len() as u64), ..Counts::default() }
    }
}

fn percentiles(histogram: &hdrhistogram::Histogram<u64>) -> Percentiles {
    Percentiles::of(histogram).expect("something was recorded")
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_the_latency_and_not_in_the_service_time() {
    let load = load(paced(1000.0), 50, SECOND * 10);
    let stub = Stub::new(MS).silent(SECOND * 4, SECOND * 5);
    let turn = play(stub, &load).await;
    let (latency, service) = (percentiles(&turn.latency), percentiles(&turn.service));
    assert!((900e3..=1000e3).contains(&latency.p99), "{latency:?}");
    assert!(latency.p50 < 5e3, "{latency:?}");
    assert!(service.p99 < 5e3, "only those in flight at its start waited: {service:?}");
    assert!(service.max > 900e3, "{service:?}");
    assert_eq!((turn.unstarted, turn.replies), (0, 9999));
    assert!((900..=1000).contains(&turn.delayed), "{}", turn.delayed);
    assert!(turn.lateness.max() < SECOND.as_nanos() as u64 / 2, "it does not wait for replies");
}

#[tokio::test(start_paused = true)]
async fn the_steps_of_a_stall_are_those_in_which_requests_were_wanted() {
    let load = load(paced(1000.0), 50, SECOND * 2);
    // The window begins 2 ms after the turn.
    let stub = Stub::new(MS).silent(LEAD + MS * 500, LEAD + MS * 1000);
    let slots = play(stub, &load).await.slots.unwrap();
    assert_eq!(slots.len(), 20);
    let p50: Vec<f64> = slots.iter().map(|slot| slot.p50_us.unwrap() / 1000.0).collect();
    assert!(p50[4] < 5.0, "{p50:?}");
    // Wanted at 550 ms, answered after 1000 ms.
    assert!((445.0..=470.0).contains(&p50[5]), "{p50:?}");
    assert!((45.0..=70.0).contains(&p50[9]), "{p50:?}");
    assert!(slots.iter().all(|slot| slot.started == slot.ok && slot.unstarted == 0));
    assert_eq!(slots.iter().map(|slot| slot.ok).sum::<u64>(), 1999);
}

#[tokio::test(start_paused = true)]
async fn an_arrival_that_never_finds_a_caller_is_unstarted() {
    let load = load(paced(100.0), 2, SECOND);
    let stub = Stub::new(MS * 100);
    let most_open = Arc::clone(&stub.most_open);
    let turn = play(stub, &load).await;
    // Two callers answer 20 of the 99.
    assert_eq!(turn.replies + turn.unstarted, 99, "none is dropped in silence");
    assert!((18..=22).contains(&turn.replies), "{}", turn.replies);
    assert_eq!(most_open.load(Ordering::Relaxed), 2, "no more in flight than allowed");
    let slots = turn.slots.unwrap();
    assert_eq!(slots.iter().map(|slot| slot.unstarted).sum::<u64>(), turn.unstarted);
    assert_eq!(slots[9].unstarted, slots[8].unstarted, "the last second never started");
    assert!(slots[9].unstarted >= 9, "{slots:?}");
    assert_eq!(turn.errors, [0; 5], "an arrival that was not started did not fail");
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_when_the_grace_ends_are_timeouts() {
    let load = load(Demand::AtOnce { size: 5, then: 0.0 }, 8, SECOND);
    let turn = play(Stub::new(SECOND * 3600), &load).await;
    assert_eq!(turn.timeouts(), 5);
    assert_eq!(turn.slots.unwrap()[0].errors[ErrorKind::Timeout.index()], 5);
    assert_eq!((turn.requests, turn.replies, turn.unstarted), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_herd_starts_all_at_once_with_nothing_before_it() {
    let demand = Demand::AtOnce { size: 50, then: 0.0 };
    let load = Load { warm_up: SECOND, ..load(demand, 50, SECOND) };
    let stub = Stub::new(MS * 50);
    let (most_open, asked) = (Arc::clone(&stub.most_open), Arc::clone(&stub.asked));
    let turn = play(stub, &load).await;
    assert_eq!(most_open.load(Ordering::Relaxed), 50);
    assert_eq!(asked.lock().unwrap().len(), 50);
    assert_eq!((turn.requests, turn.delayed), (50, 0));
    assert_eq!(turn.slots.unwrap()[0].ok, 50);
}

#[tokio::test(start_paused = true)]
async fn dials_of_the_first_moment_count_in_the_first_step() {
    let demand = Demand::AtOnce { size: 50, then: 20.0 };
    let cold = Load { cold: true, ..load(demand, 100, SECOND) };
    let warm = Load { warm_up: SECOND, ..load(paced(100.0), 10, SECOND) };
    for (load, first, all) in [(cold, 51, 69), (warm, 9, 99)] {
        let slots = play(Stub::new(MS * 50), &load).await.slots.unwrap();
        let dials: Vec<u64> = slots.iter().map(|slot| slot.dials.unwrap()).collect();
        assert_eq!((dials[0], dials.iter().sum()), (first, all), "{dials:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_moment_of_each_reply_is_kept_where_it_is_asked_for() {
    let demand = Demand::AtOnce { size: 1, then: 2.0 };
    let load = load(demand, 10, SECOND);
    assert_eq!(play(Stub::new(MS), &load).await.answers, None);
    let load = Load { answers: true, ..load };
    // Wanted at 0 and 500 ms, and answered after the silence.
    let stub = Stub::new(MS).silent(LEAD + MS * 400, LEAD + MS * 700);
    let answers = play(stub, &load).await.answers.unwrap();
    assert_eq!(answers, [1_000_000, 700_000_000]);
}

#[tokio::test(start_paused = true)]
async fn the_warm_up_is_not_measured_and_a_cold_turn_has_none() {
    let warm = Load { warm_up: SECOND, ..load(paced(100.0), 10, SECOND) };
    let turn = play(Stub::new(MS), &warm).await;
    assert_eq!((turn.replies, turn.requests, turn.latency.len()), (198, 99, 99));
    assert_eq!(turn.lateness.len(), 99);
    let cold = Load { cold: true, ..warm };
    let turn = play(Stub::new(MS), &cold).await;
    assert_eq!((turn.replies, turn.requests), (99, 99));
}

#[tokio::test(start_paused = true)]
async fn every_contestant_gets_the_same_requests() {
    let load = Load {
        arrivals: crate::scenario::demand::Arrivals::Poisson,
        writes_percent: 20,
        ..load(paced(500.0), 50, SECOND)
    };
    let (fast, slow) = (Stub::new(MS), Stub::new(MS * 7));
    let turns = (play(fast.clone(), &load).await, play(slow.clone(), &load).await);
    assert_eq!(fast.asked(), slow.asked());
    assert_eq!(turns.0.writes, turns.1.writes);
    let writes = fast.asked().iter().filter(|asked| asked.1 == RequestKind::Write).count();
    assert_eq!(turns.0.writes, writes as u64);
    assert!((60..=140).contains(&writes), "{writes} of 500");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_is_no_error_and_frees_its_caller() {
    let gives_up = Some(GiveUp { percent: 50, within: MS * 10 });
    // Two callers would be too few if a request that is given up kept its caller for 100 ms.
    let load = Load { gives_up, ..load(paced(10.0), 2, SECOND * 20) };
    let stub = Stub::new(MS * 100);
    let open = Arc::clone(&stub.open);
    let turn = play(stub, &load).await;
    assert_eq!(turn.replies + turn.cancelled, 199);
    assert!((70..=130).contains(&turn.cancelled), "{}", turn.cancelled);
    assert_eq!((turn.errors, turn.unstarted), ([0; 5], 0));
    assert_eq!(open.load(Ordering::Relaxed), 0, "what is given up is dropped");
    let shortest = turn.latency.min();
    assert!(shortest >= 99_000_000, "only replies have a latency: {shortest}");
    assert_eq!(turn.mismatches, Some(0));
    let cancelled: u64 = turn.slots.unwrap().iter().map(|slot| slot.cancelled).sum();
    assert_eq!(cancelled, turn.cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_caller_out_of_patience_is_a_timeout_where_it_was_wanted() {
    let patience = Some(MS * 500);
    let load = Load { patience, ..load(paced(100.0), 100, SECOND * 3) };
    let turn = play(Stub::new(MS).silent(LEAD + SECOND, LEAD + SECOND * 2), &load).await;
    // Those wanted in the first half of the silence.
    assert!((49..=51).contains(&turn.timeouts()), "{}", turn.timeouts());
    assert_eq!(turn.replies + turn.timeouts(), 299);
    assert_eq!(turn.first_error.as_deref(), Some("no reply within 500ms"));
    let slots = turn.slots.unwrap();
    assert_eq!((slots[11].ok, slots[11].errors), (0, [0, 10, 0, 0, 0]));
    assert_eq!((slots[17].ok, slots[17].errors), (10, [0; 5]));
}

#[tokio::test(start_paused = true)]
async fn the_window_is_announced_when_it_begins() {
    let load = load(paced(10.0), 2, SECOND);
    let mut began = load.began.subscribe();
    let origin = Instant::now();
    let turn = tokio::spawn(async move { play(Stub::new(MS), &load).await });
    let began = began.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(Instant::now(), origin + LEAD);
    assert_eq!(began.at, origin + LEAD);
    assert_eq!(turn.await.unwrap().began_ns, began.ns);
}

#[tokio::test]
async fn the_schedule_thread_hands_every_arrival_over_and_knows_its_lateness() {
    let load = load(paced(2000.0), 50, MS * 200);
    let turn = drive(Stub::new(Duration::ZERO), &load).await.unwrap();
    assert_eq!(turn.lateness.len(), 399);
    assert_eq!(turn.replies + turn.unstarted + turn.timeouts(), 399);
    assert!(turn.requests > 0);
}

#[tokio::test]
async fn an_interrupt_ends_the_schedule_thread() {
    let load = load(paced(1000.0), 4, SECOND * 3600);
    let interrupted = load.interrupted.clone();
    let turn = tokio::spawn(async move { drive(Stub::new(Duration::ZERO), &load).await });
    tokio::time::sleep(MS * 50).await;
    interrupted.cancel();
    let turn = turn.await.unwrap().unwrap();
    assert!(turn.seconds < 3600.0 && turn.lateness.len() < 3_600_000);
}
