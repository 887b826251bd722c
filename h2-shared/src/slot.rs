//! A stream's place in its connection, held from acquire to the end of both bodies.

use h2::Reason;
use pool_common::Lease;

use crate::connection::H2Connection;
use crate::error::Closed;
use crate::manager::H2Manager;

/// A lease with a stream on it. Given back on drop.
pub(crate) struct Slot {
    lease: Lease<H2Manager>,
}

impl Slot {
    pub(crate) fn new(lease: Lease<H2Manager>) -> Self {
        lease.observed().stream_opened();
        Self { lease }
    }

    pub(crate) fn connection(&self) -> &H2Connection {
        &self.lease
    }

    /// Whether the connection had served somebody before this lease.
    pub(crate) fn is_reused(&self) -> bool {
        self.lease.is_reused()
    }

    /// Draws the conclusions for the connection from what the stream reported. Returns why the
    /// connection ended, if it has.
    pub(crate) fn note(&mut self, error: &h2::Error) -> Option<Closed> {
        // The driver says the same to the pool, but perhaps later than a repeat of this request
        // asks.
        let takes_no_more = error.is_go_away() || error.is_io();
        // As net/http: whatever the two of us disagree on, the next stream may meet it again.
        let calls_us_wrong =
            error.is_reset() && error.is_remote() && error.reason() == Some(Reason::PROTOCOL_ERROR);
        if takes_no_more || calls_us_wrong {
            self.retire();
        }
        self.lease.closed()
    }

    /// The connection takes no new leases from the moment this one ends.
    pub(crate) fn retire(&mut self) {
        self.lease.mark_broken();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lease.observed().stream_ended();
    }
}
