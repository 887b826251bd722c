//! `limit`: what the machine allows. Sockets opened before the turn, one for each caller, no pool,
//! no parsing beyond the known length.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::raw::{RawSocket, Template};
use super::{CallError, Contestant, Counts, Reply, Request};
use crate::target::Target;

/// The limit, for protocols with one exchange at a time on a connection.
pub(super) struct Limit {
    shared: Arc<Shared>,
}

/// What every caller opens its socket with.
pub(super) struct Shared {
    target: Arc<Target>,
    template: Arc<Template>,
    opened: AtomicU64,
}

impl Shared {
    async fn open(&self) -> io::Result<RawSocket> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        RawSocket::open(&self.target, &self.template).await
    }
}

/// One caller: its socket, which is opened again when the server has closed it.
pub(super) struct Caller {
    shared: Arc<Shared>,
    socket: Option<RawSocket>,
}

impl Limit {
    /// Nothing is opened yet; each caller opens its socket.
    pub(super) fn new(target: Arc<Target>, template: Arc<Template>) -> Self {
        Self { shared: Arc::new(Shared { target, template, opened: AtomicU64::new(0) }) }
    }
}

impl Contestant for Limit {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        let socket = self.shared.open().await.map_err(|error| error.to_string())?;
        Ok(Caller { shared: Arc::clone(&self.shared), socket: Some(socket) })
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        // An error leaves the socket out of step, and so does a caller that gives up: the future is dropped
        // here, and the socket with it.
        let mut socket = match caller.socket.take() {
            Some(socket) => socket,
            None => caller.shared.open().await.map_err(CallError::dial)?,
        };
        let echo = socket.exchange(request).await?;
        if !socket.is_over() {
            caller.socket = Some(socket);
        }
        Ok(Reply::new(echo))
    }

    fn counts(&self) -> Counts {
        let opened = Some(self.shared.opened.load(Ordering::Relaxed));
        Counts { opened, waits: None, dials: opened }
    }
}
