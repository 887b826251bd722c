//! How a turn is driven: its callers get ready, its window is watched, and its contestant is closed.
//!
//! A warm-up comes first and leaves no trace but in the oracle: a wrong reply is wrong at any time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::load::Load;
use super::pacer::Pacer;
use super::slots::{STEP, Sample};
use super::turn::Turn;
use super::{closed_loop, open_loop};
use crate::contestants::{Contestant, Counts, PoolStatus};

/// Callers that did not come back this long after the end of a turn are given up and counted as
/// timeouts.
const GRACE: Duration = Duration::from_secs(5);
/// All callers of a contestant are ready within this, or it cannot take its turn.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);
/// Closing a contestant takes at most this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time between two looks, for a window that is over and empty.
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// Lets the contestant take its turn, and closes it.
///
/// # Errors
/// What went wrong when the contestant could not even start.
pub async fn drive<C: Contestant>(contestant: C, load: &Load) -> Result<Turn, String> {
    drive_paced(contestant, load, Pacer::Thread).await
}

pub(super) async fn drive_paced<C: Contestant>(
    contestant: C,
    load: &Load,
    pacer: Pacer,
) -> Result<Turn, String> {
    let contestant = Arc::new(contestant);
    let measured = if load.demand.is_open() {
        open_loop::measure(&contestant, load, pacer).await
    } else {
        closed_loop::measure(&contestant, load).await
    };
    let counts = contestant.counts();
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, contestant.close()).await.is_ok();
    let left = contestant.status().filter(|status| *status != PoolStatus::default());
    let unclosed = match left {
        Some(left) => Some(format!("its pool was not empty after it was closed: {left:?}")),
        None if !closed => Some(format!("its close did not end within {CLOSE_TIMEOUT:?}")),
        None => None,
    };
    Ok(measured?.into_turn(load, counts, unclosed))
}

/// All callers of a contestant.
pub(super) async fn prepare<C: Contestant>(
    contestant: &Arc<C>,
    callers: usize,
) -> Result<Vec<C::Caller>, String> {
    let all = async {
        let mut ready = Vec::with_capacity(callers);
        for _ in 0..callers {
            ready.push(contestant.caller().await?);
        }
        Ok(ready)
    };
    tokio::time::timeout(PREPARE_TIMEOUT, all)
        .await
        .map_err(|_| format!("its callers were not ready within {PREPARE_TIMEOUT:?}"))?
}

/// Waits, but not longer than until the turn is interrupted.
pub(super) async fn pass(duration: Duration, interrupted: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = interrupted.cancelled() => {}
    }
}

/// Waits until the window ends, and looks at the contestant at the start of each step. A window in
/// which nothing has ended yet, on a machine that had no time for it, stays open a little longer.
/// `before` is what the contestant had counted before the first request of the window: the first look
/// comes when the first dials have begun.
pub(super) async fn watch<C: Contestant>(
    contestant: &C,
    before: Counts,
    began: tokio::time::Instant,
    load: &Load,
    has_outcome: impl Fn() -> bool,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let at = began.elapsed();
        let counts = if samples.is_empty() { before } else { contestant.counts() };
        samples.push(Sample { at, status: contestant.status(), counts });
        let enough = at >= load.duration && (at >= load.duration + GRACE || has_outcome());
        if enough || load.interrupted.is_cancelled() {
            return samples;
        }
        // From the start of the window, so that late looks do not add up.
        let steps = u32::try_from(at.as_nanos() / STEP.as_nanos()).unwrap_or(u32::MAX - 1) + 1;
        let next = (STEP * steps).min(load.duration.max(at + SHORTEST_STEP));
        pass(next.saturating_sub(at), &load.interrupted).await;
    }
}

/// Waits for the callers to finish their last request; how many did not.
///
/// # Errors
/// When a caller panicked: what the others measured is not what the turn asked for.
pub(super) async fn join(mut callers: JoinSet<()>) -> Result<u64, String> {
    let mut panicked = 0_usize;
    let all = async {
        while let Some(end) = callers.join_next().await {
            panicked += usize::from(end.is_err_and(|error| error.is_panic()));
        }
    };
    let in_time = tokio::time::timeout(GRACE, all).await.is_ok();
    if panicked > 0 {
        return Err(format!("{panicked} of its callers panicked"));
    }
    if in_time {
        return Ok(0);
    }
    let lost = callers.len() as u64;
    callers.shutdown().await;
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::{CallError, Echo, ErrorKind, Reply, Request};
    use crate::run::slots::Slots;

    /// Answers every third request wrongly and refuses every fourth.
    struct Strange;

    impl Contestant for Strange {
        type Caller = u64;

        async fn caller(&self) -> Result<u64, String> {
            Ok(0)
        }

        async fn call(count: &mut u64, _: &Request) -> Result<Reply, CallError> {
            tokio::task::yield_now().await;
            *count += 1;
            match *count {
                count if count % 4 == 0 => Err(CallError::new(ErrorKind::Refused, "no room")),
                count if count % 3 == 0 => Ok(Reply::new(Echo::Wrong)),
                _ => Ok(Reply::new(Echo::Returned).acquired(Duration::from_micros(1))),
            }
        }
    }

    fn load(milliseconds: u64) -> Load {
        Load::closed(2, Duration::ZERO, Duration::from_millis(milliseconds))
    }

    #[tokio::test]
    async fn wrong_replies_and_refusals_are_counted_apart() {
        let turn = drive(Strange, &load(30)).await.unwrap();
        assert!(turn.requests > 0);
        assert!(turn.refusals() > 0);
        assert!(turn.mismatches.unwrap() > 0);
        assert_eq!((turn.failures(), turn.timeouts()), (0, 0));
        assert!(turn.latency.len() >= turn.requests, "what ended after the window counts, too");
        assert!(turn.acquire.len() < turn.latency.len());
        assert_eq!(turn.first_error, None);
        assert!(turn.timeline.is_none());
    }

    #[tokio::test]
    async fn an_interrupted_turn_keeps_what_it_measured() {
        let load = load(3_600_000);
        let interrupted = load.interrupted.clone();
        let turn = tokio::spawn(async move { drive(Strange, &load).await });
        tokio::task::yield_now().await;
        interrupted.cancel();
        let turn = turn.await.unwrap().unwrap();
        assert!(turn.seconds < 3600.0);
    }

    /// Its requests never end. It has dialed before the first look.
    struct Stuck;

    impl Contestant for Stuck {
        type Caller = ();

        async fn caller(&self) -> Result<(), String> {
            Ok(())
        }

        async fn call(_: &mut (), _: &Request) -> Result<Reply, CallError> {
            std::future::pending().await
        }

        fn counts(&self) -> Counts {
            Counts { dials: Some(50), ..Counts::default() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dialed_before_the_first_look_is_part_of_the_first_step() {
        let before = Counts { dials: Some(3), ..Counts::default() };
        let began = tokio::time::Instant::now();
        let samples = watch(&Stuck, before, began, &load(300), || true).await;
        let slots = Slots::default().finish(Duration::from_millis(300), &samples);
        let dials: Vec<_> = slots.iter().map(|slot| slot.dials).collect();
        assert_eq!(dials, [Some(47), Some(0), Some(0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_never_come_back_are_timeouts() {
        let turn = drive(Stuck, &load(10)).await.unwrap();
        assert_eq!((turn.requests, turn.timeouts()), (0, 2));
        assert_eq!(turn.mismatches, None);
    }
}
