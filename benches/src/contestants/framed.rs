//! Profiles over the framed echo: a lease for each request.

use std::net::SocketAddr;

use bytes::Bytes;
use pool_common::{Policy, Pool};

use super::pooled::Listener;
use super::{CallError, Contestant, Counts, Echo, ErrorKind, PoolStatus, Reply, Request, pooled};
use crate::framed::connection::FramedError;
use crate::framed::manager::FramedManager;
use crate::target::Target;

/// A pool of framed connections.
pub(super) struct FramedPool {
    pool: Pool<FramedManager>,
    address: SocketAddr,
}

impl FramedPool {
    /// A pool with this policy.
    pub(super) fn new(target: &Target, policy: Policy, listener: Listener) -> Result<Self, String> {
        let manager = FramedManager { greets: target.greets, ..FramedManager::default() };
        let pool = pooled::build(manager, policy, listener)?;
        Ok(Self { pool, address: target.address })
    }
}

/// One caller: its handle on the pool.
pub(super) struct Caller {
    pool: Pool<FramedManager>,
    address: SocketAddr,
}

impl Contestant for FramedPool {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(Caller { pool: self.pool.clone(), address: self.address })
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let acquired = caller.pool.acquire(&caller.address).await;
        let mut lease = acquired.map_err(pooled::acquire_failed)?;
        let acquire = request.started.elapsed();
        let body = Bytes::copy_from_slice(request.nonce.as_bytes());
        let answer = lease.call(body).await.map_err(|error| match error {
            FramedError::Timeout(_) => CallError::new(ErrorKind::Timeout, error),
            error => CallError::broken(error),
        })?;
        Ok(Reply::new(Echo::check(true, request.nonce, &answer)).acquired(acquire))
    }

    fn counts(&self) -> Counts {
        pooled::counts(&self.pool)
    }

    fn status(&self) -> Option<PoolStatus> {
        Some(pooled::status(&self.pool))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
