//! One connection pool for any protocol: a pure state machine, driven by a policy.
//!
//! The pools of well-known systems look different and answer the same dozen questions: which idle
//! connection is lent first, in what order callers wait, which task dials, when a connection is too
//! old. Here each question is a field of a [`Policy`], each surveyed pool is a named policy
//! ([`profile`]), and one state machine ([`state`]) carries out all of them, for connections that
//! are lent to one borrower at a time and for connections that many borrowers share.
//!
//! It is not on crates.io yet: depend on `pool-common` by path or git, and on `tokio` with the
//! features `rt`, `macros`, `net`, `io-util`.
//!
//! ```
//! use pool_common::{Exclusive, Manager, Notifier, Pool, connect::TcpConnector};
//! use tokio::{io::AsyncWriteExt, net::TcpStream};
//!
//! struct Plain;
//! impl Manager for Plain {
//!     type Key = (String, u16); // everything that separates one connection from another
//!     type Lending = Exclusive<TcpStream>; // one borrower at a time
//!     type Error = std::io::Error;
//!     async fn connect(&self, key: &Self::Key, _: Notifier) -> std::io::Result<TcpStream> {
//!         TcpConnector::default().connect(&key.0, key.1).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! # let port = server.local_addr().unwrap().port();
//! let pool = Pool::builder(Plain).build().expect("the default policy is valid");
//! let key = ("127.0.0.1".to_owned(), port);
//! let mut lease = pool.acquire(&key).await.expect("connected"); // derefs to the TcpStream
//! lease.write_all(b"hello").await.expect("written");
//! drop(lease); // goes to the next waiter, or becomes idle
//! # }
//! ```
//!
//! # Pooling your own protocol
//!
//! Write a [`Manager`]. Only [`connect`](Manager::connect) is required; the other methods have defaults:
//!
//! | method | when the pool calls it | default |
//! | --- | --- | --- |
//! | [`connect`](Manager::connect) | to dial, handshake included | |
//! | [`is_broken`](Manager::is_broken) | first, when a lease comes back | `false` |
//! | [`is_stale`](Manager::is_stale) | before lending an idle connection, with [`Policy::peek`] | calls `is_broken` |
//! | [`needs_reset`](Manager::needs_reset), [`reset`](Manager::reset) | when an unbroken connection comes back | `false`, does nothing |
//! | [`check`](Manager::check) | before lending an idle connection, if [`Policy::check`] asks for it | passes |
//! | [`capacity`](Manager::capacity) | after a dial; [`Shared`] lending only | 1 |
//! | [`close`](Manager::close) | to close a connection, even a broken one | drops it |
//!
//! **Write `is_broken`** for every real protocol: a borrower that is cancelled between request and
//! answer leaves an answer behind, and the next borrower would read it. Keep a mark in the
//! connection that is set before the first byte of a request is written and cleared when its
//! answer has been read completely; a connection with the mark set, or with unread bytes, is broken.
//!
//! Choose [`Exclusive<C>`] when a connection serves one request at a time: the lease gives
//! `&mut C`. Choose [`Shared<C>`] when it serves many: each lease gives `&C` and counts as one of
//! `capacity`, and `connect` gets a [`Notifier`] through which the connection can report later that its
//! capacity changed, that it takes no new leases, or that it is broken.
//!
//! Two examples to read and to copy from: [`example`] is a whole client with exclusive lending, with key,
//! mark, check, close and policy (`cargo run -p pool-common --example memcached` runs it); the page of
//! [`Shared`] has a manager with shared lending.
//!
//! # Choosing a policy
//!
//! [`Policy::default`] is our own choice. A [`profile`] is the strategy of a known
//! system: `Pool::builder(manager).policy(profile::redigo().policy)`. Each field changes one decision;
//! `policy.set("idle_timeout", "90s")` sets a field by name ([`knob`]).
//!
//! ```
//! # use {pool_common::{Policy, policy::Check}, std::time::Duration};
//! let policy = Policy {
//!     max_open_per_key: Some(20), // default 100; there is also max_open, over all keys
//!     min_idle: 2,                // default 0: nothing is dialed ahead
//!     acquire_timeout: Some(Duration::from_secs(3)), // default 30 s
//!     check: Check::IfIdleLonger, // default never: a peek is enough
//!     wait_for_ready: true,       // default false, see below
//!     ..Policy::default()
//! };
//! # policy.validate().unwrap();
//! ```
//!
//! # When an acquire fails
//!
//! An [`Error`] tells why, and its text describes the load of the pool. **While the server is down**
//! acquires do not wait until their deadline: after a few failed dials ([`Policy::back_off_after`]) dials
//! pause, and acquires that need one fail with [`Error::BackingOff`] unless the pause ends soon
//! ([`Policy::wait_out_pauses`]). With [`Policy::wait_for_ready`] they wait through every pause, up to
//! `acquire_timeout`.
//!
//! # While it runs
//!
//! - [`Pool::warm_up`] dials [`Policy::min_idle`] connections before the first acquire.
//! - [`Pool::set_limits`] changes the [`Limits`] of the policy.
//! - [`Pool::retire_all`] replaces all connections; after [`Pool::retire_all_now`] no old one is
//!   lent again.
//! - [`Pool::close_within`] closes the pool, and returns whether all leases came back in time.
//! - [`Builder::leak_detection`] warns of leases that are held for too long, with the file and line
//!   of the [`acquire`](Pool::acquire) that took each; [`Pool::leases`] lists the leases in use. A
//!   lease that is never returned holds its slot forever, and in the end all callers wait.
//!
//! # Watching a pool
//!
//! [`Pool::status`] shows what the pool is doing now, [`Pool::stats`] what it has done so far; both can be
//! printed. An [`Observer`](event::Observer) is told of every step in the life of a connection. With the
//! feature `metrics` a pool reports through the [`metrics`](https://docs.rs/metrics) crate, under the
//! names of OpenTelemetry: `Pool::builder(manager).metrics(Metrics::db("orders"))`. The table has the most
//! important metrics; the module `metrics` of this crate has all of them, and their names for HTTP clients.
//!
//! | name | kind | unit | meaning |
//! | --- | --- | --- | --- |
//! | `db.client.connection.count` | gauge | connections | idle and used connections, by `db.client.connection.state` |
//! | `db.client.connection.max` | gauge | connections | the limit |
//! | `db.client.connection.pending_requests` | gauge | requests | waiting callers |
//! | `db.client.connection.timeouts` | counter | timeouts | acquires that timed out |
//! | `db.client.connection.create_time` | histogram | seconds | dials |
//! | `db.client.connection.wait_time` | histogram | seconds | acquires |
//! | `db.client.connection.use_time` | histogram | seconds | leases |
//! | `pool.dials.failed` | counter | dials | dials that failed or were given up |
//! | `pool.connection.closed` | counter | connections | closes, by `pool.close.cause` |
//!
//! # What it promises
//!
//! - Dropping any future at any await loses nothing: no slot, no waiter, no connection, no count.
//! - No more connections are open than the limits allow, including connections being dialed or closed.
//! - No caller waits while a connection of its key could be lent; waiters are served in the policy's
//!   order.
//! - One deadline covers an acquire; every await on a peer is bounded; a manager that panics or
//!   hangs costs only the connection it works on.
//! - No lock is held over the manager's code, I/O, a waker or a close.
//! - After [`close`](Pool::close) nothing is left.
//!
//! # Features
//!
//! - `runtime` (default): the async pool on tokio. Without it there is only the state machine, with
//!   its policies and profiles.
//! - `metrics`: pools can report through the `metrics` crate.
//! - `serde` (default): policies can be serialized and deserialized, statistics serialized.
//! - `rustls`: TLS; `proxy`: HTTP proxies; `tower`: a connector of the user's as a `tower_service::Service`;
//!   `uri`: keys of connections for requests to a URI.
//! - `testing`: launchers of real servers, for the tests of this workspace.
//!
//! # When not to use it
//!
//! When one connection is enough, or the protocol's own client multiplexes: then a pool only adds
//! a queue. When calls block: this pool is for async code on tokio.
//!
//! # How it is built
//!
//! ```text
//!   Policy ──▶ State (decides: no socket, no clock, no task)
//!                ▲ │
//!     acquire,   │ │  lend, wait, dial, refuse;
//!     release,   │ ▼  then: dial, wake, close
//!     dialed    Pool (performs: locks, asks, unlocks; dials, wakes, closes)
//!                ▲ │
//!                │ ▼
//!              Manager (the protocol: connect, check, reset, close)
//! ```
//!
//! [`state::State`] can be used without the pool, for a simulation or another runtime. It reads no clock:
//! its methods take the time as an argument.

#![forbid(unsafe_code)]
// docs.rs says which feature adds what.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clock;
mod collections;
#[cfg(feature = "runtime")]
pub mod connect;
#[cfg(feature = "runtime")]
pub mod deadline;
pub mod error;
pub mod event;
#[cfg(feature = "runtime")]
pub mod exchange;
/// A complete pool for another protocol, memcached: the file `common/examples/memcached/main.rs`. Its
/// small server is in the same folder.
#[cfg(all(doc, not(doctest), feature = "runtime"))]
#[doc = concat!("```ignore\n", include_str!("../examples/memcached/main.rs"), "\n```")]
pub mod example {}
pub mod knob;
pub mod lending;
#[cfg(feature = "runtime")]
mod manager;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(all(feature = "runtime", not(feature = "metrics")))]
mod metrics;
#[cfg(feature = "runtime")]
mod notifier;
pub mod policy;
#[cfg(feature = "runtime")]
mod pool;
pub mod profile;
pub mod retry;
pub mod state;
pub mod stats;
#[cfg(feature = "runtime")]
mod sync;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{DialError, Error, InvalidPolicy, Stage};
pub use lending::{Exclusive, Lending, Shared};
#[cfg(feature = "runtime")]
pub use manager::{Connection, DialFailure, Manager};
#[cfg(feature = "runtime")]
pub use notifier::Notifier;
pub use policy::{Limits, Policy};
#[cfg(feature = "runtime")]
pub use pool::{AcquireTimes, Acquiring, Builder, Lease, LeaseInfo, Pool};
pub use stats::{Stats, Status};
