//! `limit`: the best that the machine allows. Sockets are opened before the turn, one for each caller;
//! there is no pool, and no parsing beyond the known length. A socket that the server ends is replaced
//! outside the measured time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::raw::{RawSocket, Template};
use super::redials::{Meter, Redials};
use super::{CallError, Contestant, Counts, Reply, Request, RequestKind};
use crate::target::Target;

/// The limit, for protocols with one exchange at a time on a connection.
pub(super) struct Limit {
    shared: Arc<Shared>,
}

/// The data with which every caller opens its socket.
pub(super) struct Shared {
    target: Arc<Target>,
    template: Arc<Template>,
    opened: AtomicU64,
    meter: Meter,
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
    /// The socket has brought a reply.
    served: bool,
    /// A request is in progress. If the next request finds this set, the caller left before its reply.
    asked: bool,
}

impl Caller {
    /// Dials, outside the measured time.
    async fn dial(&self) -> Result<RawSocket, CallError> {
        self.shared.meter.dial(self.shared.open()).await.map_err(CallError::dial)
    }
}

impl Limit {
    /// Nothing is opened yet; each caller opens its socket.
    pub(super) fn new(target: Arc<Target>, template: Arc<Template>) -> Self {
        let (opened, meter) = (AtomicU64::new(0), Meter::default());
        Self { shared: Arc::new(Shared { target, template, opened, meter }) }
    }
}

impl Contestant for Limit {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        let socket = self.shared.open().await.map_err(|error| error.to_string())?;
        Ok(Caller {
            shared: Arc::clone(&self.shared),
            socket: Some(socket),
            served: false,
            asked: false,
        })
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        // When a caller gives up, its future is dropped, and with it the socket, which is out of step. After
        // an error the socket is dropped too.
        let (mut began, served) = (None, caller.socket.is_some() && caller.served);
        let left = std::mem::replace(&mut caller.asked, true);
        let mut socket = match caller.socket.take() {
            Some(socket) => socket,
            None => {
                let dialed = caller.dial().await;
                caller.asked = dialed.is_ok();
                let socket = dialed?;
                if left {
                    caller.shared.meter.was_left();
                }
                began = Some(Instant::now());
                socket
            }
        };
        let mut result = socket.exchange(request).await;
        caller.asked = false;
        // The server may end a connection between two requests without notice.
        let stale = served && result.is_err() && socket.is_unanswered();
        if stale && request.kind == RequestKind::Read {
            socket = caller.dial().await?;
            began = Some(Instant::now());
            result = socket.exchange(request).await;
        }
        if let Some(began) = began {
            caller.shared.meter.waited(request, began);
        }
        let echo = result?;
        caller.served = true;
        if !socket.is_over() {
            caller.socket = Some(socket);
        }
        Ok(Reply { began, ..Reply::new(echo) })
    }

    fn counts(&self) -> Counts {
        let opened = Some(self.shared.opened.load(Ordering::Relaxed));
        Counts { opened, waits: None, dials: opened }
    }

    fn redials(&self) -> Redials {
        self.shared.meter.redials()
    }
}
