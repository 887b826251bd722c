//! The current state of a pool, and its counts so far.

use std::fmt;

use crate::event::CloseCause;

/// Gauges: what the pool is doing at this moment.
///
/// `open = idle + leased + dialing + closing`; a shared connection with at least one lease counts
/// as leased.
///
/// As text: `5 open (1 idle, 3 leased, 1 dialing), 2 waiting`; the counts of closing and draining
/// connections, and of leases of shared connections, only if there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Status {
    /// Connections that hold a slot in the limits.
    pub open: u32,
    /// Connections without a lease, ready to be lent; includes shared ones whose capacity is 0 for now.
    pub idle: u32,
    /// Connections with at least one lease.
    pub leased: u32,
    /// Dials in progress.
    pub dialing: u32,
    /// Connections that are being closed.
    pub closing: u32,
    /// Shared connections that take no new leases and wait for theirs to end. They have given up their
    /// slot in the limits, so they are not part of `open`.
    pub draining: u32,
    /// Leases that callers hold.
    pub leases: u32,
    /// Callers in the wait queue.
    pub waiting: u32,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open ({} idle, {} leased", self.open, self.idle, self.leased)?;
        write!(f, ", {} dialing", self.dialing)?;
        if self.closing > 0 {
            write!(f, ", {} closing", self.closing)?;
        }
        f.write_str(")")?;
        if self.draining > 0 {
            write!(f, ", {} draining", self.draining)?;
        }
        if self.leases != self.leased {
            write!(f, ", {} leases", self.leases)?;
        }
        write!(f, ", {} waiting", self.waiting)
    }
}

/// Counters: what the pool has done since it was built. They only grow.
///
/// As text, one line: leases, dials, and closes with their causes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Leases granted.
    pub leased: u64,
    /// Leases of a connection that had been lent before.
    pub reused: u64,
    /// Acquires that had to wait for a connection, for room, or for a background dial.
    pub waited: u64,
    /// Waits that ended without a connection because the caller left (timeouts included).
    pub gave_up: u64,
    /// Acquires refused at once: at the limit, too many waiters, dials paused, pool closed.
    pub refused: u64,
    /// Dials started.
    pub dials: u64,
    /// Dials that failed, were given up, or were stopped because no caller needed them any more.
    pub dials_failed: u64,
    /// Connections opened.
    pub opened: u64,
    /// Most connections open at a time.
    pub peak_open: u32,
    /// Connections closed, by cause; see [`Stats::closed`].
    pub closed_by_cause: [u64; CloseCause::COUNT],
}

impl Stats {
    /// Connections closed for `cause`.
    pub fn closed(&self, cause: CloseCause) -> u64 {
        self.closed_by_cause[cause as usize]
    }

    /// Connections closed, whatever the cause.
    pub fn closed_in_all(&self) -> u64 {
        self.closed_by_cause.iter().sum()
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leased, reused, waited, gave_up, refused, dials, dials_failed, .. } = self;
        write!(f, "{leased} leased ({reused} reused), {waited} waited, {gave_up} gave up, ")?;
        write!(f, "{refused} refused; {dials} dials ({dials_failed} failed); ")?;
        write!(f, "{} opened, at most {} at a time; ", self.opened, self.peak_open)?;
        write!(f, "{} closed", self.closed_in_all())?;
        let causes = CloseCause::ALL.into_iter().filter(|cause| self.closed(*cause) > 0);
        for (n, cause) in causes.enumerate() {
            let before = if n == 0 { ": " } else { ", " };
            write!(f, "{before}{} {cause}", self.closed(cause))?;
        }
        Ok(())
    }
}
