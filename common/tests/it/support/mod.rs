//! Peers without sockets, a driver for the state machine, and helpers.

#[path = "../../state/driver.rs"]
#[allow(dead_code)] // Shared with tests/state, which uses all of it.
pub mod driver;
pub mod fake;
mod within;

use std::sync::LazyLock;

use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Subscriber};

pub use within::within;

/// A subscriber that stays. `tracing` remembers for each call site whether its event is wanted, and
/// while there is a single subscriber, the first thread at the call site decides this for all
/// threads, even if that thread has no subscriber. With two, every subscriber is asked.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// Sends the events of this thread to `subscriber`, until the guard is dropped.
pub fn listen(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    LazyLock::force(&SECOND);
    tracing::subscriber::set_default(subscriber)
}
