//! Dial storms: no caller comes, every dial that starts ends at once in the same way, and the pool has to
//! come to rest.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::lending::Lending;
use pool_common::policy::AfterFailedDial;
use pool_common::state::ConnectionId;

use crate::driver::Driver;

/// How the dials of a storm end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialEnd {
    Refused,
    /// The peer turns the client away.
    Denied,
    /// The runtime of the dial has ended.
    Lost,
    /// The connection says before its dial has ended that it is gone.
    Gone,
    /// The same, that it takes no new leases (GOAWAY after SETTINGS).
    Retired,
    /// The connection says while it is dialed that it may be idle for so many milliseconds.
    IdleFor(u8),
    /// A shared connection that allows no lease.
    Useless,
    /// The peer closes the connection as soon as it is open.
    HungUp,
}

impl DialEnd {
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Denied,
        Self::Lost,
        Self::Gone,
        Self::Retired,
        Self::IdleFor(0),
        Self::IdleFor(1),
        Self::Useless,
        Self::HungUp,
    ];
}

/// How long a storm is watched after the first moment, and in which steps.
const WATCHED: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(10);

/// Dials of one key that may start in each second: pauses of 50 ms for the floor, for hedges and for
/// probes. A storm has as many in each step.
const DIALS_PER_SECOND: u64 = 60;

impl<L: Lending<Connection = u32>> Driver<L> {
    /// From now on every background dial `ends` at once, but those in progress when they `hang`. Connections
    /// that are closed and dials that are stopped end at once, too. No caller comes, and none that was
    /// granted anything takes it.
    ///
    /// Without time passing, each waiter may have a few dials, and each floor may be dialed for; then
    /// all has to be quiet until a pause ends.
    pub fn storm(&mut self, ends: DialEnd, hang: bool, keys: u64) {
        let hanging = if hang { self.background.clone() } else { Vec::new() };
        let policy = self.state.policy();
        let floors = keys * (1 + u64::from(policy.min_idle));
        let waiting = u64::from(self.state.status().waiting);
        // Waiters that wait for ready dial again at once until there have been enough failures for a pause.
        let retries = match policy.after_failed_dial {
            AfterFailedDial::BackOff if policy.wait_for_ready => policy.back_off_after,
            _ => 0,
        };
        let most = 3 * waiting + 2 * floors + 4 + keys * u64::from(retries);
        let before = self.state.stats().dials;
        let dials = |driver: &Self| driver.state.stats().dials - before;
        self.end_dials(ends, &hanging, |driver| {
            let dials = dials(driver);
            assert!(dials <= most, "{dials} dials for {waiting} waiters and no time has passed");
        });
        let end = self.now.after(WATCHED);
        let most = most + 2 * keys * DIALS_PER_SECOND;
        while self.now < end {
            self.pass(STEP);
            self.end_dials(ends, &hanging, |driver| {
                let dials = dials(driver);
                assert!(dials <= most, "{dials} dials for {waiting} waiters in {WATCHED:?}");
            });
        }
    }

    fn end_dials(&mut self, ends: DialEnd, hanging: &[ConnectionId], check: impl Fn(&Self)) {
        loop {
            self.finish_stopping();
            self.finish_closing();
            check(self);
            let next = self.background.iter().copied().find(|id| !hanging.contains(id));
            let Some(id) = next else { return };
            self.end_one(id, ends);
        }
    }

    fn end_one(&mut self, id: ConnectionId, ends: DialEnd) {
        match ends {
            DialEnd::Refused => return self.dial_failed(id, Some("refused")),
            DialEnd::Denied => return self.dial_denied(id, "denied"),
            DialEnd::Lost => return self.dial_lost(id),
            DialEnd::Gone => self.state.retire(id, CloseCause::Gone, self.now),
            DialEnd::Retired => self.state.retire(id, CloseCause::Retired, self.now),
            DialEnd::IdleFor(millis) => {
                self.set_idle_limit(id, Duration::from_millis(millis.into()));
            }
            DialEnd::Useless => self.state.set_capacity(id, 0, self.now),
            DialEnd::HungUp => {}
        }
        self.dialed(id);
        if ends == DialEnd::HungUp {
            self.state.retire(id, CloseCause::Gone, self.now);
            self.settle();
        }
    }
}
