//! Which results are sound: whether a contestant broke, was overloaded, or lost what it promised.

use super::detail::{self, SlotRow};
use super::model::{Played, Record};
use crate::catalog::Kind;
use crate::run::slots::STEP;
use crate::run::turn::Turn;

/// A limit of which one request in this many had no reply is no limit.
const LIMIT_FAILS_AT: u64 = 100;

/// With fewer steps in which requests were wanted, nothing is said of an idle server.
const STEPS_THAT_TELL: usize = 5;
/// The server was idle where it answered nothing in so many steps in a row.
const PAUSE: usize = 3;

impl Record {
    /// Why it broke: it could not start, in one of its rounds no request had a reply although there was
    /// time or the server was idle, or it is a limit of which too many failed.
    pub fn broke(&self) -> Option<String> {
        // Without its server nothing could go well.
        let whole = || self.rounds.iter().filter(|(_, played)| played.cut.is_none());
        for (_, played) in whole() {
            if let Err(error) = &played.turn {
                return Some(error.clone());
            }
        }
        // Such a turn has no figures, and the medians would be of the others only.
        let broken = |(_, played): &&(u32, Played)| is_dead(played) && !ran_out_of_time(played);
        let dead = whole().find(broken).map(|(_, dead)| {
            let first = || dead.turn.as_ref().ok().and_then(|turn| turn.first_error.clone());
            let why = hangs(dead).or_else(first);
            why.unwrap_or_else(|| "a round without a single reply".to_owned())
        });
        dead.or_else(|| self.broke_as_limit())
    }

    /// How it was overloaded: in one of its rounds no request had a reply in time, or it is a limit of
    /// which too many had none in time. That is a result and no fault of its program.
    pub fn overloaded(&self) -> Option<String> {
        let dead = |(_, played): &&(u32, Played)| {
            played.cut.is_none() && is_dead(played) && ran_out_of_time(played)
        };
        let all = self.rounds.len();
        match self.rounds.iter().filter(dead).count() {
            0 => self.overloaded_as_limit(),
            _ if all == 1 => Some("no request had a reply in time".to_owned()),
            rounds => Some(format!("in {rounds} of {all} rounds no request had a reply in time")),
        }
    }

    /// Why nothing can be compared with this limit: too many of its requests took too long.
    fn overloaded_as_limit(&self) -> Option<String> {
        let late = self.sum(|turn| turn.timeouts() + turn.unstarted);
        let all = late + self.sum(|turn| turn.latency.len() + turn.failures() + turn.refusals());
        let is_limit = self.entry.contestant.kind == Kind::Limit;
        let over = is_limit && late > 0 && late * LIMIT_FAILS_AT >= all;
        over.then(|| format!("{late} of {all} requests had no reply in time"))
    }

    /// Why nothing can be compared with this limit: too many of its requests failed.
    fn broke_as_limit(&self) -> Option<String> {
        let whole = || {
            let rounds = self.rounds.iter().filter(|(_, played)| played.cut.is_none());
            rounds.filter_map(|(_, played)| played.turn.as_ref().ok())
        };
        let failed: u64 = whole().map(Turn::failures).sum();
        let all = failed + whole().map(|turn| turn.latency.len()).sum::<u64>();
        let broke = self.entry.contestant.kind == Kind::Limit && failed * LIMIT_FAILS_AT >= all;
        (broke && failed > 0).then(|| {
            let first = self.first_error().unwrap_or("unknown");
            format!("{failed} of {all} requests failed, first: {first}")
        })
    }

    /// Everything that makes a comparison fail, one line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut count = |number: Option<u64>, what: &str| {
            if let Some(number @ 1..) = number {
                faults.push(format!("{}: {number} {what}", self.label()));
            }
        };
        count(self.mismatches(), "replies that were not their request's");
        // In a scenario with events a client may send a read again; elsewhere nothing is sent twice.
        let repeats = self.rounds.iter().any(|(_, played)| !played.events.is_empty());
        if repeats {
            count(self.write_duplicates(), "requests that must not run twice and did");
        } else {
            count(self.duplicates(), "requests that the server executed twice");
        }
        count(self.leaked(), "sockets left open");
        count(
            self.known_sum(|played| {
                let (server, turn) = (played.told_apart()?, played.turn.as_ref().ok()?);
                Some(turn.replies.saturating_sub(server.executed + server.unchecked))
            }),
            "replies that the server never gave",
        );
        count(
            self.known_sum(|played| Some(played.server?.strangers)),
            "requests that reached the server in another's turn",
        );
        for why in self.turns().filter_map(|turn| turn.unclosed.as_ref()) {
            faults.push(format!("{}: {why}", self.label()));
        }
        if let Some(why) = self.broke() {
            faults.push(format!("{}: broke: {why}", self.label()));
        }
        faults
    }
}

/// Whether no request had a reply. A turn that was interrupted before its window had a request is not dead.
fn is_dead(played: &Played) -> bool {
    let dead = |turn: &Turn| {
        turn.replies == 0 || turn.latency.is_empty() && turn.failures() + turn.timeouts() > 0
    };
    played.turn.as_ref().is_ok_and(dead)
}

/// Whether most of its requests failed for want of time: their callers lost patience, or no caller was
/// free for them. A contestant whose callers never come back hangs, as does one that leaves the server idle,
/// and one that had no connection cannot dial, however many of their requests run out of time meanwhile.
fn ran_out_of_time(played: &Played) -> bool {
    let never_connected = played.connections().is_some_and(|counted| counted.accepted == 0);
    let late = |turn: &Turn| turn.lost == 0 && turn.timeouts() + turn.unstarted > turn.failures();
    !never_connected && hangs(played).is_none() && played.turn.as_ref().is_ok_and(late)
}

/// How a dead turn shows that its contestant hangs: requests were wanted, nothing was wrong with the
/// server, and the server had nothing to do for most of the time. An overloaded contestant keeps the
/// server busy. `None` where the server was busy, or nothing tells.
fn hangs(played: &Played) -> Option<String> {
    // A relay counts no requests, and neither does a server of the user's.
    let server = played.told_apart()?;
    let turn = played.turn.as_ref().ok()?;
    let steps = detail::slots(turn, played.series.as_ref())?;
    let nothing_ran = server.executed + server.unchecked == 0;
    let is_idle = |step: &SlotRow| nothing_ran || step.backends() == Some([0, 0]);
    let had_work = |step: &&SlotRow| step.was_wanted() && !in_a_fault(played, step.at_ms());
    let steps: Vec<bool> = steps.iter().filter(had_work).map(is_idle).collect();
    // A server that takes long for a reply answers nothing in some steps, and is busy in them.
    let pauses = steps.split(|idle| !idle).map(<[bool]>::len);
    let idle: usize = pauses.filter(|pause| *pause >= PAUSE).sum();
    let of = steps.len();
    let hangs = of >= STEPS_THAT_TELL && idle * 2 > of;
    hangs.then(|| {
        format!("it hangs: no request had a reply, and in {idle} of {of} steps of {} ms the server had nothing to do", STEP.as_millis())
    })
}

/// Whether a fault was in force in the step that began at `at_ms`. A fault that lasts for the whole window is a
/// condition of the server and does not count.
fn in_a_fault(played: &Played, at_ms: f64) -> bool {
    let step = STEP.as_secs_f64() * 1000.0;
    played.events.iter().any(|event| {
        let until = match event.until_ms {
            Some(until) => until,
            None if event.fault.is_moment() => event.at_ms,
            None => f64::INFINITY,
        };
        let always = event.at_ms <= 0.0 && until.is_infinite();
        !always && event.at_ms < at_ms + step && until > at_ms
    })
}
