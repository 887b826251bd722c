//! pingora-pool: idle connections under a key that was hashed before, the least recently used of
//! all keys evicted.
//!
//! *Bare* is `get` and `put` alone: nothing watches the idle connection and it never expires.
//! *Watched* is what pingora does with it for each HTTP/1 connection: a task that reads from the
//! idle connection until it is picked up, with an idle timeout, and the connection behind a lock
//! that the task has to release first; without the reads that pingora itself adds before and after.
//! Neither limits open connections, lets callers wait, has a lifetime or statistics, or has a lease
//! that comes back by itself: the drop of the lease is our code.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};

use pingora_pool::{ConnectionMeta, ConnectionPool};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::{Contestant, IDLE_TIMEOUT, Kind, Peer};

const KEY: u64 = 1;
/// Connections the pool has room for, as pingora's `upstream_keepalive_pool_size` has by default.
const ROOM: usize = 128;

/// A connection on which nothing ever arrives.
struct Silent;

impl AsyncRead for Silent {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

struct Core<S> {
    pool: ConnectionPool<S>,
    next_id: AtomicI32,
}

impl<S> Core<S> {
    fn new() -> Arc<Self> {
        Arc::new(Self { pool: ConnectionPool::new(ROOM), next_id: AtomicI32::new(0) })
    }

    /// What tells the connections apart, as the number of their socket does.
    fn new_id(&self) -> i32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// A connection carries its own number.
#[derive(Clone)]
struct Bare(Arc<Core<i32>>);

struct BareLease<'pool> {
    core: &'pool Core<i32>,
    connection: i32,
}

impl Drop for BareLease<'_> {
    fn drop(&mut self) {
        let meta = ConnectionMeta::new(KEY, self.connection);
        let _watch = self.core.pool.put(&meta, self.connection);
    }
}

impl Peer for Bare {
    type Lease<'pool> = BareLease<'pool>;

    async fn acquire(&mut self) -> BareLease<'_> {
        let connection = self.0.pool.get(&KEY).unwrap_or_else(|| self.0.new_id());
        BareLease { core: &self.0, connection }
    }
}

type Watchable = (i32, Arc<Mutex<Silent>>);

#[derive(Clone)]
struct Watched(Arc<Core<Watchable>>);

struct WatchedLease {
    core: Arc<Core<Watchable>>,
    id: i32,
    connection: Option<Silent>,
}

impl Drop for WatchedLease {
    fn drop(&mut self) {
        let connection = self.connection.take().expect("only taken here");
        let shared = Arc::new(Mutex::new(connection));
        let watched = Arc::clone(&shared).try_lock_owned().expect("no other task has it yet");
        let meta = ConnectionMeta::new(KEY, self.id);
        let (evicted, picked_up) = self.core.pool.put(&meta, (self.id, shared));
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            core.pool.idle_poll(watched, &meta, Some(IDLE_TIMEOUT), evicted, picked_up).await;
        });
    }
}

impl Peer for Watched {
    type Lease<'pool> = WatchedLease;

    async fn acquire(&mut self) -> WatchedLease {
        let idle = match self.0.pool.get(&KEY) {
            Some((id, shared)) => {
                // The task that watched the connection has to release it.
                drop(shared.lock().await);
                // While the task is between the lock and its end, pingora gives the connection up.
                Arc::into_inner(shared).map(|connection| (id, connection.into_inner()))
            }
            None => None,
        };
        let (id, connection) = idle.unwrap_or_else(|| (self.0.new_id(), Silent));
        WatchedLease { core: Arc::clone(&self.0), id, connection: Some(connection) }
    }
}

pub(super) fn contestants(runtime: &Arc<Runtime>) -> Vec<Contestant> {
    let bare = Bare(Core::new());
    let watched = Watched(Core::new());
    vec![
        Contestant::tasks("pingora-pool, bare", Kind::Peer, runtime, bare).without_limit(),
        Contestant::tasks("pingora-pool, watched", Kind::Peer, runtime, watched).without_limit(),
    ]
}
