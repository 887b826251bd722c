//! The deadline of a dial, for the connector that runs in it.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Option<Instant>;
}

/// The deadline of the dial in which this code runs: after
/// [`dial_timeout`](crate::Policy::dial_timeout), or at the deadline of the acquire if a caller
/// dials for itself and that is earlier. `None` outside of [`Manager::connect`](crate::Manager::connect),
/// in tasks that it spawns, and when there is no limit.
///
/// The pool drops the dial at that time whatever the connector does. A connector that makes several
/// attempts uses it to divide the time; [`TcpConnector`](super::TcpConnector) does so.
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
