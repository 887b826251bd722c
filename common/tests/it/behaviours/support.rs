//! What the systems' tests share: short words for frequent steps, and a storm of random events.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::lending::Lending;
use pool_common::state::{ConnectionId, Fitness, WaiterId, Want};
use pool_common::{Exclusive, Policy, Shared};

use crate::support::driver::{Driver, Outcome};

pub type Plain = Driver<Exclusive<u32>>;
pub type Streams = Driver<Shared<u32>>;

pub const SECOND: Duration = Duration::from_secs(1);
/// The finest step of the pool's clock.
pub const TICK: Duration = Duration::from_nanos(1);
/// Insists on a new connection.
pub const FRESH: Want = Want { fresh: true, again: false };
/// Was told to try again.
pub const AGAIN: Want = Want { fresh: false, again: true };
pub const BROKEN: Fitness = Fitness::Unfit(CloseCause::Broken);

impl<L: Lending<Connection = u32>> Driver<L> {
    pub fn return_all(&mut self, ids: &[ConnectionId]) {
        ids.iter().for_each(|id| self.release(*id));
    }

    pub fn dials(&self) -> u64 {
        self.state.stats().dials
    }

    pub fn closed_for(&self, cause: CloseCause) -> u64 {
        self.state.stats().closed(cause)
    }

    pub fn idle(&self) -> u32 {
        self.state.status().idle
    }

    pub fn open(&self) -> u32 {
        self.state.status().open
    }

    /// `count` callers that have to wait.
    pub fn queue(&mut self, count: usize) -> Vec<WaiterId> {
        (0..count).map(|_| self.acquire(1).waiter()).collect()
    }

    /// A caller looks for its grant, and tries again when it is told to.
    pub fn look(&mut self, waiter: WaiterId) -> Option<Outcome> {
        match self.collect(waiter)? {
            Outcome::Retry => Some(self.acquire_as(1, AGAIN)),
            outcome => Some(outcome),
        }
    }

    /// Time passes until the pool dials by itself.
    pub fn pass_until_dial(&mut self) -> Duration {
        let started = self.now;
        while self.background.is_empty() {
            let next = self.state.next_deadline();
            assert!(next < pool_common::clock::Timestamp::NEVER, "it never dials");
            self.pass(next.since(self.now));
        }
        self.now.since(started)
    }

    /// Everything under way ends well, everybody who waits is served, every lease comes back.
    pub fn wind_down(&mut self) {
        for _ in 0..10_000 {
            self.finish_closing();
            for dial in [self.background.clone(), self.by_callers.clone()].concat() {
                self.dialed(dial);
            }
            for (waiter, _) in self.waiters.clone() {
                self.look(waiter);
            }
            if let Some((id, _)) = self.leases.first() {
                let id = *id;
                self.release(id);
            } else if self.waiters.is_empty() && self.background.is_empty() {
                self.finish_closing();
                return;
            }
            self.pass(Duration::from_millis(1));
        }
        panic!("it never ends: {:?}", self.state.status());
    }
}

/// Two thousand random acquires, grants, cancels, failures and returns; then everything ends well.
/// The driver checks the invariants after every step.
pub fn storm(policy: Policy, seed: u64) -> Plain {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut pool = Plain::new(policy);
    for _ in 0..2_000 {
        match rng.u8(..10) {
            0..=2 if pool.waiters.len() < 12 => {
                pool.acquire(1);
            }
            3 | 4 => {
                // Those who were woken look, or leave in the same moment.
                for waiter in std::mem::take(&mut pool.woken) {
                    if rng.u8(..4) > 0 {
                        pool.look(waiter);
                    } else {
                        pool.cancel(waiter);
                    }
                }
            }
            5 if !pool.waiters.is_empty() => {
                let (waiter, _) = pool.waiters[rng.usize(..pool.waiters.len())];
                pool.cancel(waiter);
            }
            6 | 7 if !pool.leases.is_empty() => {
                let (id, _) = pool.leases[rng.usize(..pool.leases.len())];
                pool.release_as(id, if rng.u8(..3) == 0 { BROKEN } else { Fitness::Fit });
            }
            8 => {
                let dials = [pool.background.clone(), pool.by_callers.clone()].concat();
                if let Some(dial) = rng.choice(dials) {
                    match rng.u8(..4) {
                        0 => pool.dial_failed(dial, Some("refused")),
                        1 => pool.dial_failed(dial, None),
                        _ => drop(pool.dialed(dial)),
                    }
                }
            }
            _ => {
                pool.finish_closing();
                pool.pass(Duration::from_millis(rng.u64(..50)));
            }
        }
        // Leases that were granted and not collected yet are between the two.
        let handed_out = pool.leases.len();
        let status = pool.state.status();
        let granted = pool.waiters.len() - usize::try_from(status.waiting).expect("few");
        let leases = usize::try_from(status.leases).expect("few");
        assert!((handed_out..=handed_out + granted).contains(&leases), "{leases} leases");
    }
    pool.wind_down();
    pool
}
