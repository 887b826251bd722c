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
    pub(crate) fn note(&self, error: &h2::Error) -> Option<Closed> {
        let calls_us_wrong = error.is_reset() && error.reason() == Some(Reason::PROTOCOL_ERROR);
        if calls_us_wrong && error.is_remote() {
            // As net/http: whatever the two of us disagree on, the next stream may meet it again.
            self.lease.observed().request_retire();
        }
        self.lease.closed()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lease.observed().stream_ended();
    }
}
