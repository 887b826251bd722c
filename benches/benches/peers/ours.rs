//! The pool of `pool-common`, over connections that cost nothing.
//!
//! The pool is that of `Pool::builder(manager).build()`: a map of keys, a peek at each connection before
//! it is lent, an idle timeout, a lifetime with jitter, statistics, one deadline over an acquire, first
//! come first served; without an observer. Only the limit is set. The profiles have their own policies.

use std::convert::Infallible;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use pool_common::profile::Profile;
use pool_common::{Exclusive, Lease, Manager, Notifier, Policy, Pool, Shared};
use tokio::runtime::Runtime;

use super::{Contestant, Kind, Peer};

/// Connections that cost nothing, one borrower at a time.
pub struct Free<K = u32>(PhantomData<fn() -> K>);

impl<K> Free<K> {
    /// Dials nothing.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Clone + Eq + Hash + Debug + Send + Sync + 'static> Manager for Free<K> {
    type Key = K;
    type Lending = Exclusive<u64>;
    type Error = Infallible;

    async fn connect(&self, _: &K, _: Notifier) -> Result<u64, Infallible> {
        Ok(0)
    }
}

/// The same, with this many leases on each connection.
pub struct FreeShared(pub u32);

impl Manager for FreeShared {
    type Key = u32;
    type Lending = Shared<u64>;
    type Error = Infallible;

    async fn connect(&self, _: &u32, _: Notifier) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn capacity(&self, _: &u64) -> u32 {
        self.0
    }
}

/// A pool and the key that is asked for.
struct Ours<M: Manager> {
    pool: Pool<M>,
    key: M::Key,
}

impl<M: Manager> Clone for Ours<M> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), key: self.key.clone() }
    }
}

impl<M: Manager> Peer for Ours<M> {
    type Lease<'pool> = Lease<M>;

    async fn acquire(&mut self) -> Lease<M> {
        self.pool.acquire(&self.key).await.expect("nothing can fail")
    }
}

/// A pool of `manager` that follows `policy`.
pub fn pool<M: Manager>(manager: M, policy: Policy) -> Pool<M> {
    Pool::builder(manager).policy(policy).build().expect("the policy is valid")
}

fn ours<M: Manager>(manager: M, policy: Policy, key: M::Key) -> Ours<M> {
    Ours { pool: pool(manager, policy), key }
}

/// The default, exclusive and shared; another key; every profile.
pub(super) fn contestants(runtime: &Arc<Runtime>, connections: u32) -> Vec<Contestant> {
    let with = |limit| Policy { max_open_per_key: Some(limit), ..Policy::default() };
    let key = ("db.example.com".to_owned(), 5432_u16);
    let exclusive = ours(Free::new(), with(connections), 1);
    let shared = ours(FreeShared(connections), with(1), 1);
    let named = ours(Free::new(), with(connections), key);
    let mut all = vec![
        Contestant::tasks("ours, exclusive", Kind::Ours, runtime, exclusive),
        Contestant::tasks("ours, shared", Kind::Ours, runtime, shared),
        Contestant::tasks("ours, key (String, u16)", Kind::OursVaried, runtime, named),
    ];
    for Profile { name, policy, .. } in Profile::all() {
        let exclusive = ours(Free::new(), policy.clone(), 1);
        let shared = ours(FreeShared(connections), policy, 1);
        let title = format!("ours, exclusive, {name}");
        all.push(Contestant::tasks(title, Kind::OursVaried, runtime, exclusive));
        let title = format!("ours, shared, {name}");
        all.push(Contestant::tasks(title, Kind::OursVaried, runtime, shared));
    }
    all
}
