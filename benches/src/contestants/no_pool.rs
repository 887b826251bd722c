//! `no-pool`: a connection is dialed for each request and closed after its reply. The baseline of
//! the comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::raw::{RawSocket, Template};
use super::{CallError, Contestant, Counts, Reply, Request};
use crate::target::Target;

/// Dialing for each request, for protocols with one exchange at a time on a connection.
pub(super) struct NoPool {
    shared: Arc<Dialer>,
}

/// The data with which every caller dials.
pub(super) struct Dialer {
    target: Arc<Target>,
    template: Arc<Template>,
    opened: AtomicU64,
}

impl NoPool {
    /// Nothing is opened before a request.
    pub(super) fn new(target: Arc<Target>, template: Arc<Template>) -> Self {
        Self { shared: Arc::new(Dialer { target, template, opened: AtomicU64::new(0) }) }
    }
}

impl Contestant for NoPool {
    type Caller = Arc<Dialer>;

    async fn caller(&self) -> Result<Arc<Dialer>, String> {
        Ok(Arc::clone(&self.shared))
    }

    async fn call(dialer: &mut Arc<Dialer>, request: &Request) -> Result<Reply, CallError> {
        dialer.opened.fetch_add(1, Ordering::Relaxed);
        let mut socket =
            RawSocket::open(&dialer.target, &dialer.template).await.map_err(CallError::dial)?;
        let acquire = request.started.elapsed();
        let echo = socket.exchange(request).await?;
        Ok(Reply::new(echo).acquired(acquire))
    }

    fn counts(&self) -> Counts {
        let opened = Some(self.shared.opened.load(Ordering::Relaxed));
        Counts { opened, waits: None, dials: opened }
    }
}
