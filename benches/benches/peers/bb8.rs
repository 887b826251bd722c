//! bb8: one list of connections for one target.
//!
//! Set up as its documentation does, with a limit: `is_valid` before each lending (here it passes at
//! once), idle timeout 10 min and lifetime 30 min enforced by a reaper every 30 s, 30 s to wait,
//! oldest first. It has no key, no jitter and no lending of one connection to many. The second
//! contestant has `test_on_check_out(false)`.

use std::convert::Infallible;
use std::sync::Arc;

use bb8::{ManageConnection, Pool, PooledConnection};
use tokio::runtime::Runtime;

use super::{Contestant, Kind, Peer};

struct Free;

impl ManageConnection for Free {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

#[derive(Clone)]
struct Bb8(Pool<Free>);

impl Peer for Bb8 {
    type Lease<'pool> = PooledConnection<'pool, Free>;

    async fn acquire(&mut self) -> PooledConnection<'_, Free> {
        self.0.get().await.expect("nothing can fail")
    }
}

pub(super) fn contestants(runtime: &Arc<Runtime>, connections: u32) -> Vec<Contestant> {
    [("bb8", Kind::Peer, true), ("bb8, unchecked", Kind::PeerUnchecked, false)]
        .map(|(name, kind, check)| {
            let builder = Pool::builder().max_size(connections).test_on_check_out(check);
            let pool = runtime.block_on(builder.build(Free)).expect("nothing can fail");
            Contestant::tasks(name, kind, runtime, Bb8(pool))
        })
        .into()
}
