//! The scenarios, each a value.

use std::time::Duration;

use super::demand::{Budget, Demand};
use super::{Play, Scenario};
use crate::names::Protocol;

const EVERYWHERE: &[Protocol] = &Protocol::ALL;

/// What most scenarios have in common.
const BASE: Scenario = Scenario {
    name: "",
    about: "",
    teaches: "",
    protocols: EVERYWHERE,
    play: Play::Requests,
    demand: Demand::Closed,
    writes_percent: 0,
    gives_up: None,
    events: |_| Vec::new(),
    budget: Budget::Same,
    set: &[],
    callers: 50,
    connections: 50,
    duration: Duration::from_secs(2),
    short: None,
    target: true,
};

/// Closed loop at full load: callers send, wait, send.
pub const STEADY: Scenario = Scenario {
    name: "steady",
    about: "closed loop at full load",
    teaches: "what a strategy costs when nothing goes wrong",
    short: Some((Duration::from_millis(400), 3)),
    ..BASE
};

/// The three-way test of the net/http study, with one caller.
pub const REUSE: Scenario = Scenario {
    name: "reuse",
    about: "http1, one caller: connections reused / server closes after each response / no pool: a client for each operation that refuses keep-alive",
    teaches: "what a new connection costs beside one that is reused",
    protocols: &[Protocol::Http1],
    play: Play::Reuse,
    callers: 1,
    connections: 1,
    short: Some((Duration::from_millis(150), 5)),
    // The server has to close connections when it is told to.
    target: false,
    ..BASE
};

/// More callers than connections.
pub const LIMITS: Scenario = Scenario {
    name: "limits",
    about: "50 callers, 8 connections (--callers and --connections change both)",
    teaches: "waiting in line against being refused",
    play: Play::Limits,
    connections: 8,
    short: Some((Duration::from_millis(150), 3)),
    ..BASE
};

/// Callers leave MULTI, WATCH, SUBSCRIBE and SELECT behind; the next borrower looks.
pub const SESSION: Scenario = Scenario {
    name: "session",
    about: "resp: callers leave MULTI, WATCH, SUBSCRIBE and SELECT 3 behind, the next borrower must not notice",
    teaches: "whether the next borrower gets a clean session",
    protocols: &[Protocol::Resp],
    play: Play::Session,
    connections: 8,
    short: Some((Duration::from_millis(200), 2)),
    ..BASE
};

/// All scenarios, in the order in which they run.
pub const SCENARIOS: [Scenario; 4] = [STEADY, REUSE, LIMITS, SESSION];
