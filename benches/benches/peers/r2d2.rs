//! r2d2: the blocking pool.
//!
//! With a limit, otherwise as it comes: all connections are dialed at the start, `is_valid` before
//! each lending (here it passes at once), idle timeout 10 min and lifetime 30 min enforced by a
//! reaper every 30 s, 30 s to wait, newest first. Its `get` blocks the thread, so many callers are
//! many threads here, which is how it is used. It has no key, no jitter, no queue in order of
//! arrival and no lending of one connection to many. The second contestant has
//! `test_on_check_out(false)`.

use std::convert::Infallible;
use std::sync::Arc;

use r2d2::{ManageConnection, Pool, PooledConnection};
use tokio::runtime::Runtime;

use super::{Contestant, Kind, Peer};

struct Free;

impl ManageConnection for Free {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

#[derive(Clone)]
struct R2d2(Pool<Free>);

impl Peer for R2d2 {
    type Lease<'pool> = PooledConnection<Free>;

    async fn acquire(&mut self) -> PooledConnection<Free> {
        self.0.get().expect("nothing can fail")
    }
}

pub(super) fn contestants(runtime: &Arc<Runtime>, connections: u32) -> Vec<Contestant> {
    [("r2d2", Kind::Peer, true), ("r2d2, unchecked", Kind::PeerUnchecked, false)]
        .map(|(name, kind, check)| {
            let pool = Pool::builder().max_size(connections).test_on_check_out(check).build(Free);
            Contestant::threads(name, kind, runtime, R2d2(pool.expect("nothing can fail")))
        })
        .into()
}
