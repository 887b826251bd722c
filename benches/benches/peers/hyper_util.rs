//! The two pools of hyper-util.
//!
//! *Legacy* is the pool inside its `Client`, and so inside reqwest. It is public but not documented,
//! so this drives it as the client does: a checkout, otherwise a new connection. Idle timeout 90 s,
//! checked before lending and by a task; no limit on idle connections: the client's defaults. The key is
//! a number here; the client's own key is scheme and authority.
//!
//! *Cache* is its successor, `client::pool::cache`: a list of services for one target, which a user
//! combines with a map of keys. It has no key, idle timeout, lifetime, check or statistics.
//!
//! Neither limits the open connections, so their callers do not wait when callers of other pools do.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::pool::{Config, Pool, Poolable, Pooled, Reservation, Ver};
use hyper_util::client::pool::cache;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Runtime;
use tower_service::Service;

use super::{Contestant, IDLE_TIMEOUT, Kind, Peer};

const KEY: u32 = 1;

struct Free(u64);

impl Poolable for Free {
    fn is_open(&self) -> bool {
        true
    }

    fn reserve(self) -> Reservation<Self> {
        Reservation::Unique(self)
    }

    fn can_share(&self) -> bool {
        false
    }
}

#[derive(Clone)]
struct Legacy(Pool<Free, u32>);

impl Peer for Legacy {
    type Lease<'pool> = Pooled<Free, u32>;

    async fn acquire(&mut self) -> Pooled<Free, u32> {
        let mut checkout = self.0.checkout(KEY);
        // The client races the checkout against a dial; here the dial is done at once.
        let idle = poll_fn(|context| match Pin::new(&mut checkout).poll(context) {
            Poll::Ready(result) => Poll::Ready(result.ok()),
            Poll::Pending => Poll::Ready(None),
        });
        match idle.await {
            Some(lease) => lease,
            None => {
                let connecting = self.0.connecting(&KEY, Ver::Auto).expect("HTTP/1 always may");
                self.0.pooled(connecting, Free(0))
            }
        }
    }
}

/// Dials for the cache.
#[derive(Clone)]
struct Connector;

impl Service<u32> for Connector {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        ready(Ok(0))
    }
}

/// The cache, whose type has no name.
#[derive(Clone)]
struct Cache<S>(S);

impl<S> Peer for Cache<S>
where
    S: Service<u32, Response: Send + 'static, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    type Lease<'pool> = S::Response;

    async fn acquire(&mut self) -> S::Response {
        poll_fn(|context| self.0.poll_ready(context)).await.expect("nothing can fail");
        self.0.call(KEY).await.expect("nothing can fail")
    }
}

pub(super) fn contestants(runtime: &Arc<Runtime>) -> Vec<Contestant> {
    let config = Config { idle_timeout: Some(IDLE_TIMEOUT), max_idle_per_host: usize::MAX };
    let legacy = Legacy(Pool::new(config, TokioExecutor::new(), Some(TokioTimer::new())));
    let cache = Cache(cache::builder().executor(TokioExecutor::new()).build(Connector));
    vec![
        Contestant::tasks("hyper-util, legacy", Kind::Peer, runtime, legacy).without_limit(),
        Contestant::tasks("hyper-util, cache", Kind::Peer, runtime, cache).without_limit(),
    ]
}
