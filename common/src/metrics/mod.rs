//! What a pool reports through the [`metrics`](https://docs.rs/metrics) facade (feature `metrics`).
//!
//! A pool that was built with [`Builder::metrics`](crate::Builder::metrics) reports to the recorder
//! that is installed when the pool is built, so install the recorder first. Names, units and attributes
//! are those of OpenTelemetry's semantic conventions for connection pools; our own names, for metrics
//! that these conventions lack, start with `pool.`.
//!
//! ```
//! # #[cfg(feature = "metrics")] {
//! # use pool_common::{Exclusive, Manager, Notifier, Pool};
//! # struct Plain;
//! # impl Manager for Plain {
//! #     type Key = (); type Lending = Exclusive<()>; type Error = std::convert::Infallible;
//! #     async fn connect(&self, _: &(), _: Notifier) -> Result<(), Self::Error> { Ok(()) }
//! # }
//! use pool_common::metrics::Metrics;
//!
//! // A recorder (a Prometheus exporter, say) was installed before.
//! let pool = Pool::builder(Plain).metrics(Metrics::db("orders")).build().expect("valid");
//! # drop(pool);
//! # }
//! ```
//!
//! # What is reported
//!
//! [`Metrics::db`] follows the conventions for database clients, [`Metrics::http_client`] those for
//! HTTP clients. "same" means that both have our own name.
//!
//! | kind, unit | `Metrics::db` | `Metrics::http_client` | meaning |
//! | --- | --- | --- | --- |
//! | gauge, connections | `db.client.connection.count` with `db.client.connection.state` = `idle`, `used` | `http.client.open_connections` with `http.connection.state` = `idle`, `active` | connections without and with a lease |
//! | gauge, connections | `db.client.connection.max` | `pool.connection.max` | `max_open` and `max_open_per_key` |
//! | gauge, connections | `db.client.connection.idle.max` | `pool.connection.idle.max` | `max_idle` and `max_idle_per_key` |
//! | gauge, connections | `db.client.connection.idle.min` | `pool.connection.idle.min` | `min_idle` |
//! | gauge, requests | `db.client.connection.pending_requests` | `pool.connection.pending_requests` | waiting callers |
//! | counter, timeouts | `db.client.connection.timeouts` | `pool.connection.timeouts` | acquires that ended with [`Error::Timeout`](crate::Error::Timeout) |
//! | histogram, seconds | `db.client.connection.create_time` | `pool.connection.create_time` | dials that succeeded, handshake included |
//! | histogram, seconds | `db.client.connection.wait_time` | `pool.connection.wait_time` | acquires that succeeded: queue, dial and check; 0 for an idle connection that needed no check |
//! | histogram, seconds | `db.client.connection.use_time` | `pool.connection.use_time` | leases, from the acquire to the return, reset included |
//! | histogram, seconds | `pool.connection.duration` | `http.client.connection.duration` | lives of connections, from the end of the dial to the end of the close, to the precision of the pool's clock |
//! | gauge, connections | `pool.connection.dialing` | same | dials in progress |
//! | gauge, connections | `pool.connection.closing` | same | closes in progress |
//! | gauge, connections | `pool.connection.draining` | same | shared connections that take no new leases and wait for theirs to end; not counted as used or active |
//! | gauge, leases | `pool.leases` | same | leases in use: for shared connections the streams in use |
//! | counter, leases | `pool.leases.granted` with `pool.lease.reused` = `true`, `false` | same | leases, by whether the connection had been lent before |
//! | counter, dials | `pool.dials` | same | dials started |
//! | counter, dials | `pool.dials.failed` | same | dials that failed or were given up |
//! | counter, connections | `pool.connection.closed` with `pool.close.cause` | same | connections closed, by [`CloseCause`](crate::event::CloseCause) |
//! | counter, acquires | `pool.acquires.waited` | same | acquires that had to wait |
//! | counter, acquires | `pool.acquires.gave_up` | same | waits that ended because the caller left, timeouts included |
//! | counter, acquires | `pool.acquires.refused` | same | acquires refused at once |
//!
//! Every metric has the pool's name as a label (`db.client.connection.pool.name` on metrics that start
//! with `db.`, `pool.name` on all others), and the labels of [`Metrics::label`]. The label
//! `pool.limit.scope` of a limit tells whether the limit applies to each `key` or to the whole `pool`; a
//! limit that the policy does not set is not reported. Numbers are sums over all keys of the pool, so no
//! metric has the label `server.address`; a pool for a single server can add it.
//!
//! # How it is counted
//!
//! The pool compares its [`Status`](crate::Status) and [`Stats`](crate::Stats) with the numbers that it
//! reported last, and reports the difference after it has released its lock. Threads may report in any
//! order, and a moment after the change; once all have reported, the sums are exact. Gauges move
//! by increments, so that pools of the same name add up; when a pool is closed and its last lease has
//! come back, they have their former values. A panic of the recorder is logged and does not harm the
//! pool. The recorder must not use the pool.

#[cfg(feature = "metrics")]
mod instruments;
#[cfg(feature = "metrics")]
mod meter;
/// Replaces `meter` when the feature is off: it reports nothing and costs nothing.
#[cfg(not(feature = "metrics"))]
#[path = "silent.rs"]
mod meter;
#[cfg(feature = "metrics")]
mod names;

pub(crate) use meter::{Meter, Plan, Report, Since, Tally};

#[cfg(feature = "metrics")]
pub use names::Metrics;
