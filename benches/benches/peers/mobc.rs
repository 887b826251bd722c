//! mobc: after Go's database/sql, with metrics.
//!
//! With a limit, as many idle, an idle timeout and a lifetime, looked at before lending and by a
//! cleaner; otherwise as it comes: `check` before each lending (here it passes at once), 30 s to
//! wait. Its gauges go to the `metrics` crate, which has no recorder here. It has no key, no jitter
//! and no lending of one connection to many. The second contestant has `test_on_check_out(false)`.

use std::convert::Infallible;
use std::sync::Arc;

use mobc::{Connection, Manager, Pool, async_trait};
use tokio::runtime::Runtime;

use super::{Contestant, IDLE_TIMEOUT, Kind, MAX_LIFETIME, Peer};

struct Free;

#[async_trait]
impl Manager for Free {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn check(&self, connection: u64) -> Result<u64, Infallible> {
        Ok(connection)
    }
}

#[derive(Clone)]
struct Mobc(Pool<Free>);

impl Peer for Mobc {
    type Lease<'pool> = Connection<Free>;

    async fn acquire(&mut self) -> Connection<Free> {
        self.0.get().await.expect("nothing can fail")
    }
}

pub(super) fn contestants(runtime: &Arc<Runtime>, connections: u32) -> Vec<Contestant> {
    let _inside = runtime.enter();
    [("mobc", Kind::Peer, true), ("mobc, unchecked", Kind::PeerUnchecked, false)]
        .map(|(name, kind, check)| {
            let pool = Pool::builder()
                .max_open(connections.into())
                .max_idle(connections.into())
                .max_idle_lifetime(Some(IDLE_TIMEOUT))
                .max_lifetime(Some(MAX_LIFETIME))
                .test_on_check_out(check)
                .build(Free);
            Contestant::tasks(name, kind, runtime, Mobc(pool))
        })
        .into()
}
