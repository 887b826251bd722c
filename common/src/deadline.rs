//! A deadline that costs almost nothing until it passes.
//!
//! A tokio timer takes the runtime's timer lock when it is set and again when it is dropped, and may
//! wake the driver. A connection needs a time limit for every request, and almost none of them passes.
//! So a [`Deadline`] leaves its timer where it was set, and moves it only when it fires too early: the
//! lock is taken about once per timeout and connection instead of twice per request.
//!
//! A timer belongs to the runtime on which it was made. On a runtime that stands still it never fires,
//! and polling it panics when that runtime has ended. A connection can be used on a different runtime
//! than the one it was dialed on (a runtime for each thread, a runtime for each test, a blocking facade).
//! So each poll checks that the timer belongs to the runtime of the caller, and if not makes a new one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::task;
use tokio::time::{Instant, Sleep, sleep_until};

/// The end of a wait, for a connection that waits again and again.
///
/// One wait at a time: it begins with the first [`poll`](Deadline::poll) after
/// [`restart`](Deadline::restart), or with [`begin`](Deadline::begin). A caller that knows the end
/// of its wait uses [`poll_at`](Deadline::poll_at) alone: another end is another wait. A
/// caller that waits only at times uses [`begin`](Deadline::begin) and
/// [`poll_begun`](Deadline::poll_begun).
#[derive(Debug, Default)]
pub struct Deadline {
    /// When the current wait ends; `None` between waits.
    at: Option<Instant>,
    timer: Option<Timer>,
}

#[derive(Debug)]
struct Timer {
    /// Set to the end of the current wait, or to an earlier time left from an earlier wait.
    sleep: Pin<Box<Sleep>>,
    /// The runtime on which it was made.
    runtime: runtime::Id,
    /// The task that polled it last on that runtime, in the current wait. Forgotten between two waits: a
    /// task may drop a runtime that it has made and make another one, which looks the same.
    seen: Option<Poller>,
}

/// The task that polls. Asking for the task is cheaper than asking for the runtime, whose handle updates
/// a reference count that all threads of the runtime share. A task stays on its runtime, except for code
/// that it runs on another runtime itself (`block_on` within `block_in_place`). That code has the id of
/// the task, but another waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Poller {
    task: task::Id,
    /// The addresses of the waker's data and functions, only for comparison.
    waker: (usize, usize),
}

impl Poller {
    #[inline]
    fn of(cx: &Context<'_>) -> Option<Self> {
        let waker = cx.waker();
        let waker = (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr());
        task::try_id().map(|task| Self { task, waker })
    }
}

impl Timer {
    fn new(at: Instant, seen: Option<Poller>) -> Self {
        let runtime = Handle::current().id();
        Self { sleep: Box::pin(sleep_until(at)), runtime, seen }
    }

    /// Whether the timer belongs to the runtime on which `poller` runs.
    #[inline]
    fn is_of(&mut self, poller: Option<Poller>) -> bool {
        if poller.is_some() && poller == self.seen {
            return true;
        }
        let is_here = self.is_here();
        if is_here {
            self.seen = poller;
        }
        is_here
    }

    /// Whether the timer belongs to the current runtime, by the id of that runtime.
    fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.runtime)
    }
}

impl Deadline {
    /// Ends the current wait: the next poll begins a new one.
    #[inline]
    pub fn restart(&mut self) {
        self.set(None);
    }

    /// Sets another wait, or none. The next poll checks the runtime again.
    #[inline]
    fn set(&mut self, at: Option<Instant>) {
        self.at = at;
        if let Some(timer) = &mut self.timer {
            timer.seen = None;
        }
    }

    /// Begins a wait of `limit` at `now`, so that a caller which knows the time saves a reading of the
    /// clock. Without a limit, or with one that overflows, no wait begins.
    #[inline]
    pub fn begin(&mut self, now: Instant, limit: Option<Duration>) {
        self.set(limit.and_then(|limit| now.checked_add(limit)));
    }

    /// Whether a wait has begun and not been ended.
    pub fn is_begun(&self) -> bool {
        self.at.is_some()
    }

    /// Ready once the wait that was begun has reached its end; never between waits.
    ///
    /// # Panics
    /// As [`poll`](Deadline::poll).
    pub fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.at.map_or(Poll::Pending, |at| self.poll_at(cx, at))
    }

    /// Ready once `limit` has passed since the current wait began; the first poll begins it. Never
    /// ready without a limit, or with one that overflows.
    ///
    /// # Panics
    /// When the wait is not over and there is no tokio runtime with time enabled.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>, limit: Option<Duration>) -> Poll<()> {
        let Some(limit) = limit else { return Poll::Pending };
        if self.at.is_none() {
            self.begin(Instant::now(), Some(limit));
        }
        self.at.map_or(Poll::Pending, |at| self.poll_at(cx, at))
    }

    /// Ready once the time is `at`.
    ///
    /// # Panics
    /// When the time is not `at` yet and there is no tokio runtime with time enabled.
    #[inline]
    pub fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if self.at != Some(at) {
            self.set(Some(at));
        }
        let poller = Poller::of(cx);
        // Before a timer is moved, its runtime is always compared, not only the task.
        self.timer.take_if(|timer| {
            !timer.is_of(poller) || (timer.sleep.deadline() > at && !timer.is_here())
        });
        let timer = self.timer.get_or_insert_with(|| Timer::new(at, poller));
        if timer.sleep.deadline() > at {
            timer.sleep.as_mut().reset(at);
        }
        loop {
            ready!(timer.sleep.as_mut().poll(cx));
            if timer.sleep.deadline() >= at || Instant::now() >= at {
                return Poll::Ready(());
            }
            // The timer was still set for an earlier wait.
            if timer.is_here() {
                timer.sleep.as_mut().reset(at);
            } else {
                *timer = Timer::new(at, poller);
            }
        }
    }

    /// Runs `future`, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit passed first.
    ///
    /// # Cancel safety
    /// That of `future`.
    ///
    /// # Panics
    /// When `future` has to wait and there is no tokio runtime with time enabled.
    pub async fn bound<F: Future>(
        &mut self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.restart();
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx, Some(limit)).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// Ends the current wait and drops the waker of its task: a timer that is still set would
    /// keep the memory of a finished task until it fires. May be called on any runtime, or on none.
    pub fn park(&mut self) {
        self.set(None);
        // Polling a timer of another runtime might panic.
        self.timer.take_if(|timer| !timer.is_here());
        if let Some(timer) = &mut self.timer {
            let _ = timer.sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Like [`park`](Deadline::park), for use in a drop: the runtime of the timer may be shutting down at
    /// that moment, and then polling a timer panics.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The limit of [`Deadline::bound`] passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_not_begun_or_was_ended_never_passes() {
        let mut deadline = Deadline::default();
        let polled = |deadline: &mut Deadline| {
            deadline.poll_begun(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        for _ in 0..2 {
            assert!(!deadline.is_begun() && !polled(&mut deadline));
            deadline.begin(Instant::now(), Some(LIMIT));
            assert!(deadline.is_begun() && !polled(&mut deadline));
            tokio::time::advance(LIMIT).await;
            assert!(polled(&mut deadline));
            deadline.restart();
        }
        deadline.begin(Instant::now(), Some(Duration::MAX));
        assert!(!polled(&mut deadline), "a limit beyond all time");
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_gets_the_whole_limit() {
        let mut deadline = Deadline::default();
        for _ in 0..3 {
            let start = Instant::now();
            let work = tokio::time::sleep(Duration::from_secs(7));
            assert_eq!(deadline.bound(LIMIT, work).await, Ok(()));
            assert_eq!(start.elapsed(), Duration::from_secs(7));
            deadline.park();
        }
        let start = Instant::now();
        assert_eq!(deadline.bound(LIMIT, std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(start.elapsed(), LIMIT);
        assert_eq!(deadline.bound(LIMIT, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_limit_moves_the_timer_forward() {
        let mut deadline = Deadline::default();
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, Some(LIMIT)))).await.is_pending());
        deadline.restart();
        let start = Instant::now();
        poll_fn(|cx| deadline.poll(cx, Some(Duration::from_secs(1)))).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_began_earlier_ends_earlier() {
        let mut deadline = Deadline::default();
        deadline.begin(Instant::now(), Some(LIMIT));
        tokio::time::advance(Duration::from_secs(4)).await;
        let start = Instant::now();
        poll_fn(|cx| deadline.poll(cx, Some(LIMIT))).await;
        assert_eq!(start.elapsed(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_and_an_endless_one_never_pass() {
        let mut deadline = Deadline::default();
        for limit in [None, Some(Duration::MAX)] {
            assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, limit))).await.is_pending());
        }
    }

    fn runtime() -> runtime::Runtime {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime starts")
    }

    /// Waits to the end on another runtime than that of the timer, in a spawned task if `in_task`.
    fn pass_on(second: &runtime::Runtime, mut deadline: Deadline, in_task: bool) {
        let wait = async move {
            let start = Instant::now();
            deadline.restart();
            poll_fn(|cx| deadline.poll(cx, Some(LIMIT))).await;
            assert_eq!(start.elapsed(), LIMIT);
            deadline.park();
        };
        match in_task {
            true => second.block_on(async { tokio::spawn(wait).await.expect("no panic") }),
            false => second.block_on(wait),
        }
    }

    fn armed_on(first: &runtime::Runtime, in_task: bool) -> Deadline {
        let arm = async {
            let mut deadline = Deadline::default();
            let polled = poll_fn(|cx| Poll::Ready(deadline.poll(cx, Some(LIMIT)))).await;
            assert!(polled.is_pending());
            deadline
        };
        match in_task {
            true => first.block_on(async { tokio::spawn(arm).await.expect("no panic") }),
            false => first.block_on(arm),
        }
    }

    #[test]
    fn a_deadline_passes_although_the_runtime_of_its_timer_stands_still_or_has_ended() {
        for in_task in [false, true] {
            let (first, second) = (runtime(), runtime());
            pass_on(&second, armed_on(&first, in_task), in_task);
            let deadline = armed_on(&first, in_task);
            drop(first);
            pass_on(&second, deadline, in_task);
        }
    }

    /// A task runs code on an inner runtime. Its deadline is used inside that runtime and then outside,
    /// after the inner runtime has ended or while it stands still.
    #[test]
    fn a_deadline_used_on_an_inner_runtime_passes_outside() {
        let mut builder = runtime::Builder::new_multi_thread();
        let outer = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
        for (ends, is_parked) in [(false, false), (true, false), (true, true)] {
            let within = async move {
                let inner = runtime();
                let mut deadline = task::block_in_place(|| armed_on(&inner, false));
                let inner = if ends {
                    task::block_in_place(|| drop(inner));
                    None
                } else {
                    Some(inner)
                };
                if is_parked {
                    deadline.park();
                }
                deadline.restart();
                let limit = Duration::from_millis(20);
                // The timer that is set is for a later end.
                poll_fn(|cx| deadline.poll(cx, Some(limit))).await;
                task::block_in_place(|| drop(inner));
            };
            let passed =
                async { tokio::spawn(async { tokio::time::timeout(LIMIT, within).await }).await };
            // The outer timeout is in another task, so that a lost deadline ends the test.
            outer.block_on(passed).expect("no panic").expect("it passes");
        }
    }

    /// As in a blocking facade: one task makes a new runtime for each call.
    #[test]
    fn each_wait_of_a_task_may_be_on_another_inner_runtime() {
        let mut builder = runtime::Builder::new_multi_thread();
        let outer = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
        let calls = outer.spawn_blocking(|| {
            let mut deadline = Deadline::default();
            for round in 1..4 {
                let mut builder = runtime::Builder::new_multi_thread();
                let inner = builder.worker_threads(1).enable_all().build().expect("it starts");
                inner.block_on(async {
                    let at = Instant::now() + round * LIMIT;
                    assert!(poll_fn(|cx| Poll::Ready(deadline.poll_at(cx, at))).await.is_pending());
                });
            }
        });
        outer.block_on(calls).expect("no panic");
    }

    #[test]
    fn a_timer_of_an_inner_runtime_is_not_polled_outside() {
        let mut builder = runtime::Builder::new_multi_thread();
        let outer = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
        let wait = async {
            let inner = runtime();
            // The timer is set to the end of a wait that is shorter than the next, so it is not moved.
            let mut deadline = task::block_in_place(|| {
                inner.block_on(async {
                    let mut deadline = Deadline::default();
                    let short = Duration::from_millis(10);
                    let polled = poll_fn(|cx| Poll::Ready(deadline.poll(cx, Some(short)))).await;
                    assert!(polled.is_pending());
                    deadline
                })
            });
            task::block_in_place(|| drop(inner));
            deadline.restart();
            poll_fn(|cx| deadline.poll(cx, Some(Duration::from_millis(20)))).await;
        };
        outer.block_on(async { tokio::spawn(wait).await }).expect("no panic");
    }

    /// Two runtimes with workers, one after the other inside a task, give the task the same waker.
    #[test]
    fn a_timer_of_an_inner_runtime_is_not_taken_for_one_of_the_next() {
        let workers = || {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(1).enable_all().build().expect("a runtime starts")
        };
        let outer = workers();
        for parks in [true, false] {
            let wait = async move {
                let (first, second) = (workers(), workers());
                let mut deadline = task::block_in_place(|| {
                    first.block_on(async {
                        let mut deadline = Deadline::default();
                        let short = Duration::from_millis(10);
                        let polled =
                            poll_fn(|cx| Poll::Ready(deadline.poll(cx, Some(short)))).await;
                        assert!(polled.is_pending());
                        if parks {
                            deadline.park();
                        } else {
                            deadline.restart();
                        }
                        deadline
                    })
                });
                task::block_in_place(|| drop(first));
                let limit = Some(Duration::from_millis(20));
                task::block_in_place(|| {
                    second.block_on(poll_fn(|cx| deadline.poll(cx, limit)));
                    drop(second);
                });
            };
            outer.block_on(async { tokio::spawn(wait).await }).expect("no panic");
        }
    }

    #[test]
    fn a_deadline_can_be_parked_anywhere() {
        let (first, second) = (runtime(), runtime());
        let mut deadlines = [true, false, true].map(|in_task| armed_on(&first, in_task));
        first.block_on(async { deadlines[0].park() });
        drop(first);
        second.block_on(async { deadlines[1].park() });
        deadlines[2].park();
    }
}
