//! deadpool: a semaphore and a deque with connections that are recycled before lending, or without.
//!
//! *Managed*, as deadpool-postgres and deadpool-redis have it by default: `recycle` before each
//! lending, which cannot be turned off (here it passes at once), no time limits, oldest first.
//! *Unmanaged*: the objects are put in by hand and never dialed or recycled. Neither has a key, an
//! idle timeout, a lifetime or a lending of one connection to many.

use std::convert::Infallible;
use std::sync::Arc;

use deadpool::managed::{Manager, Metrics, RecycleResult};
use deadpool::{managed, unmanaged};
use tokio::runtime::Runtime;

use super::{Contestant, Kind, Peer};

struct Free;

impl Manager for Free {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn recycle(&self, _: &mut u64, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

#[derive(Clone)]
struct Managed(managed::Pool<Free>);

impl Peer for Managed {
    type Lease<'pool> = managed::Object<Free>;

    async fn acquire(&mut self) -> managed::Object<Free> {
        self.0.get().await.expect("nothing can fail")
    }
}

#[derive(Clone)]
struct Unmanaged(unmanaged::Pool<u64>);

impl Peer for Unmanaged {
    type Lease<'pool> = unmanaged::Object<u64>;

    async fn acquire(&mut self) -> unmanaged::Object<u64> {
        self.0.get().await.expect("nothing can fail")
    }
}

pub(super) fn contestants(runtime: &Arc<Runtime>, connections: u32) -> Vec<Contestant> {
    let managed = managed::Pool::builder(Free).max_size(connections as usize).build();
    let managed = Managed(managed.expect("nothing can fail"));
    let unmanaged = Unmanaged(unmanaged::Pool::from(vec![0; connections as usize]));
    vec![
        Contestant::tasks("deadpool, managed", Kind::Peer, runtime, managed),
        Contestant::tasks("deadpool, unmanaged", Kind::Peer, runtime, unmanaged),
    ]
}
