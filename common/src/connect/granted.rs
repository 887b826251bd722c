//! How a connector learns how long the dial it is part of may take.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Option<Instant>;
}

/// When the pool's dial that this code is part of ends: after
/// [`dial_timeout`](crate::Policy::dial_timeout), or at the deadline of the acquire when a caller
/// dials for itself and that comes first. `None` outside of [`Manager::connect`](crate::Manager::connect),
/// in tasks that it spawns, and when there is no limit.
///
/// The pool drops the dial at that time whatever the connector does. A connector that has more than
/// one thing to try needs it to divide the time; [`TcpConnector`](super::TcpConnector) does so.
pub fn dial_deadline() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok().flatten()
}

/// Runs a dial that ends at `deadline`.
pub(crate) fn granted_until<F: Future>(
    deadline: Option<Instant>,
    dial: F,
) -> impl Future<Output = F::Output> {
    DEADLINE.scope(deadline, dial)
}
