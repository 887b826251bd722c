//! A pool of worker tasks that serve whole connections, the most recently parked worker first.
//!
//! The model of fasthttp's server: a parked worker keeps its stack and its buffers warm, so the one
//! that parked last is the best to wake. Limited: a connection that finds every worker busy and no
//! room for another is given back to the caller to be refused. Workers that stayed parked are sent
//! home by a cleaner.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::faulty::Faulty;
use super::oracle::OpenSocket;

/// A worker that was parked this long goes home; looked at as often as that.
const MAX_IDLE_WORKER: Duration = Duration::from_secs(10);

/// One connection to serve.
pub(super) struct Job {
    pub(super) stream: Faulty,
    pub(super) open: OpenSocket,
}

/// A handle on the pool of workers.
pub(super) struct Workers<F> {
    shared: Arc<Shared>,
    serve: F,
}

struct Shared {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Parked workers, the one that parked last at the end.
    ready: Vec<Parked>,
    /// Workers that exist, parked or busy.
    count: usize,
}

struct Parked {
    hand_off: oneshot::Sender<Job>,
    since: Instant,
}

impl<F, Serving> Workers<F>
where
    F: Fn(Job) -> Serving + Clone + Send + 'static,
    Serving: Future<Output = ()> + Send + 'static,
{
    /// A pool without workers, of at most `limit`, that serve connections with `serve`.
    pub(super) fn start(limit: usize, serve: F) -> Self {
        let shared = Arc::new(Shared { limit, state: Mutex::default() });
        tokio::spawn(clean(Arc::downgrade(&shared)));
        Self { shared, serve }
    }

    /// Hands the connection to a worker.
    ///
    /// # Errors
    /// The connection itself, when all workers are busy and their number is at the limit.
    pub(super) fn serve(&self, mut job: Job) -> Result<(), Box<Job>> {
        loop {
            let mut state = self.shared.lock();
            if let Some(parked) = state.ready.pop() {
                drop(state);
                match parked.hand_off.send(job) {
                    Ok(()) => return Ok(()),
                    // Its task ended, which only happens at shutdown: try the next one.
                    Err(back) => job = back,
                }
            } else if state.count < self.shared.limit {
                state.count += 1;
                drop(state);
                tokio::spawn(work(Arc::clone(&self.shared), self.serve.clone(), job));
                return Ok(());
            } else {
                return Err(Box::new(job));
            }
        }
    }
}

/// One worker: serves a connection, parks itself, until it is sent home.
async fn work<F, Serving>(shared: Arc<Shared>, serve: F, first: Job)
where
    F: Fn(Job) -> Serving,
    Serving: Future<Output = ()>,
{
    let mut job = first;
    loop {
        serve(job).await;
        let (hand_off, next) = oneshot::channel();
        shared.lock().ready.push(Parked { hand_off, since: Instant::now() });
        match next.await {
            Ok(next) => job = next,
            Err(_) => break,
        }
    }
    shared.lock().count -= 1;
}

/// Sends home the workers that were parked too long. They are at the bottom of the stack.
async fn clean(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(MAX_IDLE_WORKER).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = Instant::now();
        let mut state = shared.lock();
        let stale = state.ready.partition_point(|parked| now - parked.since >= MAX_IDLE_WORKER);
        let going: Vec<Parked> = state.ready.drain(..stale).collect();
        drop(state);
        drop(going);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock")
    }
}
