//! A pool whose every step shuttle schedules, and the ways to play a model.
//!
//! Callers dial in their own task (`dial=caller`) unless a model says otherwise: a task that the
//! pool spawns runs on tokio, so a model with such tasks has a thread that plays the runtime
//! ([`World::while_runtime_runs`]). Timers never fire by themselves, as tokio's clock is paused: a
//! time limit is met when [`World::pass`] moves the clock.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pool_common::clock::{Clock, ManualClock};
use pool_common::lending::Lending;
use pool_common::policy::{AfterFailedDial, Dial};
use pool_common::{Lease, Manager, Notifier, Policy, Pool, Status};
use shuttle::future::block_on;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// The number of orders of events that a random scheduler tries by default.
const RUNS: u64 = 4_000;
/// How many times the order departs from a fixed priority of threads.
const DEPTH: usize = 3;
/// A model that takes more steps than this hangs.
const STEPS: usize = 50_000;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| {
        value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number"))
    })
}

fn run(scheduler: impl Scheduler + 'static, model: fn()) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    Runner::new(scheduler, config).run(model);
}

/// Plays `model` in random orders.
pub fn at_random(model: fn()) {
    if let Ok(schedule) = std::env::var("MODEL_SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), model);
    }
    let runs = usize::try_from(number("MODEL_RUNS", RUNS)).expect("a number of runs");
    run(RandomScheduler::new_from_seed(number("MODEL_SEED", 1), runs), model);
}

/// Plays `model` in random orders, and in orders that let one thread wait for long.
pub fn explore(model: fn()) {
    at_random(model);
    if std::env::var("MODEL_SCHEDULE").is_err() {
        let runs = usize::try_from(number("MODEL_RUNS", RUNS)).expect("a number of runs");
        run(PctScheduler::new_from_seed(number("MODEL_SEED", 1), DEPTH, runs), model);
    }
}

/// Plays `model` in every possible order; for two threads that meet a few times.
pub fn exhaust(model: fn()) {
    run(DfsScheduler::new(None, false), model);
}

/// A connection. It counts in the world's sockets, and notices two borrowers.
pub struct Socket {
    sockets: Arc<AtomicUsize>,
    in_use: AtomicBool,
}

impl Socket {
    /// A request and its answer; other threads may run meanwhile.
    pub fn converse_alone(&self) {
        assert!(!self.in_use.swap(true, Relaxed), "two borrowers of one connection");
        thread::yield_now();
        self.in_use.store(false, Relaxed);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.sockets.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
pub struct Refused;

pub struct Fake<L> {
    sockets: Arc<AtomicUsize>,
    /// How many of the first dials fail.
    failures: AtomicUsize,
    /// Of the connection dialed last.
    notifier: std::sync::Mutex<Option<Notifier>>,
    capacity: u32,
    /// The interval of looks at idle connections, if there are any; and whether a look finds that the peer
    /// has gone.
    looks: Option<Duration>,
    gone: AtomicBool,
    lending: PhantomData<fn() -> L>,
}

impl<L: Lending<Connection = Socket>> Manager for Fake<L> {
    type Key = u8;
    type Lending = L;
    type Error = Refused;

    async fn connect(&self, _: &u8, notifier: Notifier) -> Result<Socket, Refused> {
        // Long enough for the caller's deadline to pass, or for the caller to leave, in the middle of the dial.
        shuttle::future::yield_now().await;
        shuttle::future::yield_now().await;
        let fails = self.failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err(Refused);
        }
        *self.notifier.lock().expect("nobody panics with it") = Some(notifier);
        self.sockets.fetch_add(1, Relaxed);
        Ok(Socket { sockets: Arc::clone(&self.sockets), in_use: AtomicBool::new(false) })
    }

    fn capacity(&self, _: &Socket) -> u32 {
        self.capacity
    }

    fn idle_look_interval(&self) -> Option<Duration> {
        self.looks
    }

    fn is_broken(&self, _: &mut L) -> bool {
        if self.looks.is_some() {
            // A look takes a while.
            thread::yield_now();
        }
        self.gone.load(Relaxed)
    }
}

/// The policy of a model: at most `limit` connections, callers dial, nothing expires.
pub fn policy(limit: u32) -> Policy {
    Policy {
        max_open_per_key: Some(limit),
        dial: Dial::Caller,
        acquire_timeout: None,
        after_failed_dial: AfterFailedDial::Tell,
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    }
}

pub struct World<L: Lending<Connection = Socket>> {
    pub pool: Pool<Fake<L>>,
    pub sockets: Arc<AtomicUsize>,
    runtime: Arc<Runtime>,
    hands: ManualClock,
}

impl<L: Lending<Connection = Socket>> World<L> {
    /// Plays `model` in a new world; afterwards the pool is closed and must be empty.
    pub fn with(policy: Policy, model: impl FnOnce(&Self)) {
        Self::with_failures(policy, 0, model);
    }

    /// The first `failures` dials fail.
    pub fn with_failures(policy: Policy, failures: usize, model: impl FnOnce(&Self)) {
        Self::give(policy, failures, |world| {
            model(&world);
            block_on(world.pool.close());
            assert_eq!(world.pool.status(), Status::default());
            assert_eq!(world.sockets(), 0, "sockets are left");
        });
    }

    /// Idle connections are looked at, each second by the pool's clock.
    pub fn with_looks(policy: Policy, model: impl FnOnce(&Self)) {
        Self::build(policy, 0, Some(Duration::from_secs(1)), |world| {
            model(&world);
            block_on(world.pool.close());
            assert_eq!(world.pool.status(), Status::default());
            assert_eq!(world.sockets(), 0, "sockets are left");
        });
    }

    /// Gives the world to the model, which may also drop the pool.
    pub fn give(policy: Policy, failures: usize, model: impl FnOnce(Self)) {
        Self::build(policy, failures, None, model);
    }

    fn build(policy: Policy, failures: usize, looks: Option<Duration>, model: impl FnOnce(Self)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let runtime = Arc::new(runtime);
        let entered = runtime.enter();
        let sockets = Arc::new(AtomicUsize::new(0));
        let manager = Fake {
            sockets: Arc::clone(&sockets),
            failures: AtomicUsize::new(failures),
            notifier: std::sync::Mutex::new(None),
            capacity: 2,
            looks,
            gone: AtomicBool::new(false),
            lending: PhantomData,
        };
        let (clock, hands) = Clock::manual();
        let builder = Pool::builder(manager).policy(policy).clock(clock).seed(1);
        let pool = builder.build().expect("a valid policy");
        model(Self { pool, sockets, runtime: Arc::clone(&runtime), hands });
        drop(entered);
    }

    /// Runs `work` on a new thread.
    pub fn go(&self, work: impl FnOnce(&Pool<Fake<L>>) + Send + 'static) -> JoinHandle<()> {
        let pool = self.pool.clone();
        thread::spawn(move || work(&pool))
    }

    /// A caller that insists on a connection, and uses it.
    pub fn caller(&self) -> JoinHandle<()> {
        self.go(|pool| {
            let lease = block_on(pool.acquire(&0)).expect("nothing is in the way");
            converse(&lease);
        })
    }

    /// A caller that accepts an error.
    pub fn easy_caller(&self) -> JoinHandle<()> {
        self.go(|pool| {
            if let Ok(lease) = block_on(pool.acquire(&0)) {
                converse(&lease);
            }
        })
    }

    /// A caller that leaves when it is told, in whatever stage it is.
    pub fn caller_until(&self, leave: &Arc<Notify>) -> JoinHandle<()> {
        let told = Arc::clone(leave);
        self.go(move |pool| {
            if let Some(Ok(lease)) = block_on(until(&told, pool.acquire(&0))) {
                converse(&lease);
            }
        })
    }

    /// A caller that leaves when it is told, and comes again, so that its thread uses its seat again.
    pub fn caller_that_comes_again(&self, leave: &Arc<Notify>) -> JoinHandle<()> {
        let told = Arc::clone(leave);
        self.go(move |pool| {
            if let Some(Ok(lease)) = block_on(until(&told, pool.acquire(&0))) {
                converse(&lease);
            }
            for _ in 0..2 {
                converse(&block_on(pool.acquire(&0)).expect("nothing is in the way"));
            }
        })
    }

    /// A caller that leaves at some time, and the thread that tells it to.
    pub fn caller_that_leaves(&self) -> [JoinHandle<()>; 2] {
        let leave = Arc::new(Notify::new());
        [self.caller_until(&leave), thread::spawn(move || leave.notify_one())]
    }

    pub fn lease(&self) -> Lease<Fake<L>> {
        block_on(self.pool.acquire(&0)).expect("the first caller")
    }

    pub fn notifier(&self) -> Notifier {
        let notifier = self.pool.manager().notifier.lock().expect("nobody panics with it");
        notifier.clone().expect("a connection was dialed")
    }

    /// The next look is due.
    pub fn a_look_is_due(&self) {
        self.hands.advance(Duration::from_secs(2));
    }

    /// From now on looks find that the peer has gone.
    pub fn peer_goes(&self) {
        self.pool.manager().gone.store(true, Relaxed);
    }

    /// A thread that lets time pass on tokio's clock, once.
    pub fn pass(&self, by: Duration) -> JoinHandle<()> {
        let runtime = Arc::clone(&self.runtime);
        thread::spawn(move || runtime.block_on(tokio::time::advance(by)))
    }

    /// Plays the runtime, with the tasks that the pool spawned, until all `threads` have ended.
    pub fn while_runtime_runs(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) {
        let runtime = Arc::clone(&self.runtime);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let player = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                runtime.block_on(tokio::task::yield_now());
                thread::yield_now();
            }
        });
        join(threads);
        stop.store(true, Relaxed);
        player.join().expect("the runtime's tasks do not panic");
    }

    /// Checks that no caller is left, and that the counts of the pool are right.
    pub fn check_quiet(&self) -> Status {
        let status = self.pool.status();
        assert_eq!((status.waiting, status.leases, status.dialing), (0, 0, 0), "{status:?}");
        assert_eq!(status.open, status.idle, "{status:?}");
        assert_eq!(status.idle as usize, self.sockets(), "{status:?}");
        status
    }

    pub fn sockets(&self) -> usize {
        self.sockets.load(Relaxed)
    }
}

fn converse<L: Lending<Connection = Socket>>(lease: &Lease<Fake<L>>) {
    if L::SHARED {
        thread::yield_now();
    } else {
        lease.converse_alone();
    }
}

/// Runs `future`, unless it is told to leave before its end; then `future` is dropped.
async fn until<F: Future>(leave: &Notify, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        () = leave.notified() => None,
        output = future => Some(output),
    }
}

pub fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}
