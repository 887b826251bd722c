//! A stream's place in its connection, held from acquire to the end of both bodies.

use std::time::Duration;

use h2::Reason;
use pool_common::Lease;

use crate::connection::Connection;
use crate::error::Closed;
use crate::manager::Manager;
use crate::patience::Patience;

/// A lease with a stream on it. Given back on drop.
pub(crate) struct Slot {
    lease: Lease<Manager>,
    /// The wait for the response head.
    pub(crate) patience: Patience,
}

impl Slot {
    /// `limit` is the longest wait for the response head.
    pub(crate) fn new(lease: Lease<Manager>, limit: Option<Duration>) -> Self {
        lease.observed().stream_opened();
        Self { lease, patience: Patience::new(limit) }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.lease
    }

    /// The connection, and how long to wait for it.
    pub(crate) fn parts(&mut self) -> (&Connection, &mut Patience) {
        (&self.lease, &mut self.patience)
    }

    /// The lease of it.
    pub(crate) fn lease(&self) -> &Lease<Manager> {
        &self.lease
    }

    /// Whether the connection had served another lease before this one.
    pub(crate) fn is_reused(&self) -> bool {
        self.lease.is_reused()
    }

    /// Updates the state of the connection from the error of the stream. Returns why the connection ended, if
    /// it has.
    pub(crate) fn note(&mut self, error: &h2::Error) -> Option<Closed> {
        // The driver says the same to the pool, but perhaps later than a repeat of this request
        // asks.
        let takes_no_more = error.is_go_away() || error.is_io();
        // As net/http: the next stream may meet the same disagreement between the two sides.
        let calls_us_wrong =
            error.is_reset() && error.is_remote() && error.reason() == Some(Reason::PROTOCOL_ERROR);
        if takes_no_more || calls_us_wrong {
            self.retire();
        }
        self.lease.cause_so_far()
    }

    /// The connection takes no new leases from the moment this one ends.
    pub(crate) fn retire(&mut self) {
        self.lease.mark_broken();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.patience.abandon(&self.lease);
        self.lease.observed().stream_ended();
    }
}
