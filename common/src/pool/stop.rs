//! Stopping a dial of the pool's own from outside its task.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::state::ConnectionId;

/// How to stop each background dial in progress. Empty where the policy stops none.
#[derive(Default)]
pub(super) struct Stops(HashMap<ConnectionId, Arc<Notify>>);

impl Stops {
    /// A dial is about to start. Noted under the same lock as the state's wish for it, so that a
    /// wish to stop it, which can only come later, finds it.
    pub(super) fn add(&mut self, dial: ConnectionId) {
        self.0.insert(dial, Arc::new(Notify::new()));
    }

    /// What `dial` listens to, while it has not ended. Told before it listens, it hears of it still.
    pub(super) fn get(&self, dial: ConnectionId) -> Option<Arc<Notify>> {
        self.0.get(&dial).cloned()
    }

    /// The dial has ended.
    pub(super) fn remove(&mut self, dial: ConnectionId) {
        self.0.remove(&dial);
    }
}

/// Waits until the dial is to stop; forever where dials are not stopped.
pub(super) async fn stopped(stop: Option<&Notify>) {
    match stop {
        Some(stop) => stop.notified().await,
        None => std::future::pending().await,
    }
}
