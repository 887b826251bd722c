//! Decides when a silent peer gets a PING, and when it is given up. Has no socket and no timer.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, FAR};

/// A connection is suspect after this part of the timeout has passed without an answer.
pub(crate) const SUSPECT_PART: u32 = 4;

/// The PING health check of one connection.
///
/// Silent for `interval`: ask. No byte for a quarter of `timeout` after that: suspect, so the driver
/// retires the connection; if it is in use, its streams may finish. No byte for the whole of
/// `timeout`: dead. Any byte starts the silence anew.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    while_idle: bool,
    last_read: Instant,
    asked: Option<Instant>,
}

/// The next action of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look again at this time, or when something happens.
    Sleep(Instant),
    /// Send a PING, then look again.
    Ask,
    /// The peer should have answered. Look again at this time.
    Suspect(Instant),
    /// The peer is gone.
    Dead,
}

impl KeepAlive {
    /// `None` when the configuration asks for no check. `patience` multiplies the interval: it is
    /// doubled each time a peer has complained about too much traffic.
    pub(crate) fn new(config: &Config, patience: u32, now: Instant) -> Option<Self> {
        let interval = config.keep_alive_interval?.saturating_mul(patience).min(FAR);
        Some(Self {
            interval,
            timeout: config.keep_alive_timeout.min(FAR),
            while_idle: config.keep_alive_while_idle,
            last_read: now,
            asked: None,
        })
    }

    /// Bytes came from the peer.
    pub(crate) fn handle_read(&mut self, now: Instant) {
        self.last_read = now;
        self.asked = None;
    }

    /// What to do at `now`; `busy` says whether streams are open.
    pub(crate) fn poll_step(&mut self, now: Instant, busy: bool) -> Step {
        if let Some(asked) = self.asked {
            let suspect_at = asked + self.timeout / SUSPECT_PART;
            let dead_at = asked + self.timeout;
            return match () {
                () if now >= dead_at => Step::Dead,
                () if now >= suspect_at => Step::Suspect(dead_at),
                () => Step::Sleep(suspect_at),
            };
        }
        let due = self.last_read + self.interval;
        if now < due {
            return Step::Sleep(due);
        }
        if !busy && !self.while_idle {
            // No PING is due. The next call notices a stream that opens later.
            return Step::Sleep(now + self.interval);
        }
        self.asked = Some(now);
        Step::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(while_idle: bool) -> (KeepAlive, Instant) {
        let config = Config {
            keep_alive_interval: Some(10 * SECOND),
            keep_alive_timeout: 8 * SECOND,
            keep_alive_while_idle: while_idle,
            ..Config::default()
        };
        let start = Instant::now();
        (KeepAlive::new(&config, 1, start).unwrap(), start)
    }

    #[test]
    fn off_by_default() {
        assert!(KeepAlive::new(&Config::default(), 1, Instant::now()).is_none());
    }

    #[test]
    fn silence_is_asked_then_suspect_then_dead() {
        let (mut check, start) = check(true);
        let at = |seconds| start + seconds * SECOND;
        assert_eq!(check.poll_step(start, true), Step::Sleep(at(10)));
        assert_eq!(check.poll_step(at(10), true), Step::Ask);
        assert_eq!(check.poll_step(at(10), true), Step::Sleep(at(12)));
        assert_eq!(check.poll_step(at(12), true), Step::Suspect(at(18)));
        assert_eq!(check.poll_step(at(18), true), Step::Dead);
    }

    #[test]
    fn any_byte_clears_the_suspicion_and_restarts_the_silence() {
        let (mut check, start) = check(true);
        let at = |seconds| start + seconds * SECOND;
        assert_eq!(check.poll_step(at(10), true), Step::Ask);
        assert_eq!(check.poll_step(at(13), true), Step::Suspect(at(18)));
        check.handle_read(at(14));
        assert_eq!(check.poll_step(at(14), true), Step::Sleep(at(24)));
    }

    #[test]
    fn an_idle_connection_is_left_alone_when_so_configured() {
        let (mut check, start) = check(false);
        let at = |seconds| start + seconds * SECOND;
        assert_eq!(check.poll_step(at(10), false), Step::Sleep(at(20)));
        assert_eq!(check.poll_step(at(20), true), Step::Ask);
    }

    #[test]
    fn a_peer_that_complained_is_asked_less_often() {
        let config = Config { keep_alive_interval: Some(SECOND), ..Config::default() };
        let start = Instant::now();
        let mut check = KeepAlive::new(&config, 4, start).unwrap();
        assert_eq!(check.poll_step(start, true), Step::Sleep(start + 4 * SECOND));
    }
}
