//! `limit`: what the machine allows. Sockets opened before the turn, one for each caller, no pool,
//! no parsing beyond the known length.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::raw::{RawSocket, Template};
use super::{CallError, Contestant, Counts, Reply};
use crate::nonce::Nonce;
use crate::target::Target;

/// The limit, for protocols with one exchange at a time on a connection.
pub(super) struct Limit {
    target: Arc<Target>,
    template: Arc<Template>,
    opened: AtomicU64,
}

impl Limit {
    /// Nothing is opened yet; each caller opens its socket.
    pub(super) fn new(target: Arc<Target>, template: Arc<Template>) -> Self {
        Self { target, template, opened: AtomicU64::new(0) }
    }
}

impl Contestant for Limit {
    type Caller = RawSocket;

    async fn caller(&self) -> Result<RawSocket, String> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        RawSocket::open(&self.target, &self.template).await.map_err(|error| error.to_string())
    }

    async fn call(
        socket: &mut RawSocket,
        nonce: Nonce,
        _started: Instant,
    ) -> Result<Reply, CallError> {
        let echo = socket.exchange(nonce).await?;
        Ok(Reply { echo, acquire: None })
    }

    fn counts(&self) -> Counts {
        Counts { opened: Some(self.opened.load(Ordering::Relaxed)), waits: None }
    }
}
