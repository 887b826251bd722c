//! The scenarios, each a value.

use std::time::Duration;

use super::demand::{Budget, Demand, GiveUp, Rate};
use super::{Figure, Play, Scenario, Short, Variant};
use crate::fault::{Cut, Event, Fault, Who};
use crate::names::Protocol;

const EVERYWHERE: &[Protocol] = &Protocol::ALL;
/// Protocols whose connections are lent to one caller at a time.
const EXCLUSIVE: &[Protocol] = &[Protocol::Http1, Protocol::Resp, Protocol::Framed];
/// Protocols whose connections begin with a greeting of the server, so that a dial can be slow. Plain
/// HTTP/1 has none: a server cannot make the dial of a TCP connection slow, only its first reply.
const GREETED: &[Protocol] = &[Protocol::Http2, Protocol::Resp, Protocol::Framed];
const HTTP2: &[Protocol] = &[Protocol::Http2];

/// The most requests in flight in an open loop, unless the user chooses.
const IN_FLIGHT: usize = 1000;
/// Callers of the fault scenarios wait no longer than this, as those of a real service do.
const PATIENCE: Duration = Duration::from_millis(500);

/// The values that most scenarios share.
const BASE: Scenario = Scenario {
    name: "",
    about: "",
    teaches: "",
    figure: Figure::Cpu,
    protocols: EVERYWHERE,
    only: &[],
    play: Play::Requests,
    variants: &[],
    demand: Demand::Closed,
    writes_percent: 0,
    gives_up: None,
    patience: None,
    cold: false,
    events: |_| Vec::new(),
    budget: Budget::Same,
    set: &[],
    callers: 50,
    connections: 50,
    duration: Duration::from_secs(2),
    rounds: 5,
    short: None,
    target: true,
};

/// An open loop on which something goes wrong, or may.
const OPEN: Scenario = Scenario { callers: IN_FLIGHT, patience: Some(PATIENCE), rounds: 1, ..BASE };

/// The server takes so long for each reply from the beginning to the end of a turn.
fn replies_take(ms: u64) -> Event {
    Event::at(0, Fault::SlowReplies { ms })
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn per_second(rate: f64) -> Demand {
    Demand::Paced { rate: Rate::PerSecond(rate) }
}

/// Closed loop at full load: callers send, wait, send.
pub const STEADY: Scenario = Scenario {
    name: "steady",
    about: "closed loop at full load",
    teaches: "what a strategy costs when nothing goes wrong",
    short: Some(Short { duration: ms(100), rounds: 5, protocols: EVERYWHERE }),
    ..BASE
};

/// The three-way test of the net/http study, with one caller.
pub const REUSE: Scenario = Scenario {
    name: "reuse",
    about: "http1, one caller: connections reused / server closes after each response / no pool: a client for each operation that refuses keep-alive",
    teaches: "what a new connection costs beside one that is reused",
    figure: Figure::Reuse,
    protocols: &[Protocol::Http1],
    play: Play::Reuse,
    variants: &[Variant::Reused, Variant::ServerCloses, Variant::NoPool],
    callers: 1,
    connections: 1,
    // The server has to close connections when it is told to.
    target: false,
    ..BASE
};

/// More callers than connections.
pub const LIMITS: Scenario = Scenario {
    name: "limits",
    about: "50 callers, 8 connections (--callers and --connections change both)",
    teaches: "waiting in line against being refused",
    figure: Figure::Failed,
    play: Play::Limits,
    connections: 8,
    ..BASE
};

/// Callers leave MULTI, WATCH, SUBSCRIBE and SELECT behind; the next borrower looks.
pub const SESSION: Scenario = Scenario {
    name: "session",
    about: "resp: callers leave MULTI, WATCH, SUBSCRIBE and SELECT 3 behind, the next borrower must not notice",
    teaches: "whether the next borrower gets a clean session",
    figure: Figure::Cpu,
    protocols: &[Protocol::Resp],
    play: Play::Session,
    connections: 8,
    short: Some(Short { duration: ms(100), rounds: 5, protocols: &[Protocol::Resp] }),
    ..BASE
};

/// An open loop below the limit.
const PACED: Scenario = Scenario {
    name: "paced",
    about: "open loop at 60 % of what the limit does (--rate changes it)",
    teaches: "latencies as users meet them, at the same offered rate for all",
    figure: Figure::P99,
    demand: Demand::Paced { rate: Rate::OfLimit(0.6) },
    rounds: 5,
    ..OPEN
};

/// Bursts that need many connections, over a base that needs few.
const BURST: Scenario = Scenario {
    name: "burst",
    about: "50 requests at once every second over a quiet base, replies take 5 ms, each strategy with its own limits",
    teaches: "churn: what an idle limit closes after a burst, the next burst dials again",
    figure: Figure::Opened,
    protocols: EXCLUSIVE,
    demand: Demand::Bursts { size: 50, every: ms(1000), base: 100.0 },
    events: |_| vec![replies_take(5)],
    budget: Budget::Own,
    duration: ms(5000),
    short: Some(Short { duration: ms(1200), rounds: 1, protocols: &[Protocol::Http1] }),
    ..OPEN
};

/// All callers come at once, and no connection is open.
const HERD: Scenario = Scenario {
    name: "herd",
    about: "50 requests at once on a cold pool, a dial takes 50 ms, a reply 1 ms",
    teaches: "dials started against connections needed: the damped start",
    figure: Figure::Dials,
    protocols: GREETED,
    demand: Demand::AtOnce { size: 50, then: 200.0 },
    cold: true,
    events: |_| vec![Event::at(0, Fault::SlowDial { ms: 50 }), replies_take(1)],
    patience: None,
    duration: ms(1000),
    rounds: 3,
    short: Some(Short { duration: ms(600), rounds: 1, protocols: &[Protocol::Resp] }),
    ..OPEN
};

/// Dials become slow when they are needed.
const SLOW_DIAL: Scenario = Scenario {
    name: "slow-dial",
    about: "after half a second every connection is cut and dials take 200 ms for 2 s",
    teaches: "who waits for a slow dial: racing, detached and caller dials",
    figure: Figure::P99,
    protocols: GREETED,
    demand: per_second(500.0),
    events: |_| {
        vec![
            replies_take(2),
            Event::during(500, 2000, Fault::SlowDial { ms: 200 }),
            Event::at(500, Fault::Cut { how: Cut::Fin }),
        ]
    },
    duration: ms(3000),
    // Latencies of a single round cannot be told apart.
    rounds: 3,
    ..OPEN
};

/// The server closes idle connections, with FIN and later with RST.
const IDLE_CUT: Scenario = Scenario {
    name: "idle-cut",
    about: "bursts of 20 with pauses of 300 ms, the server cuts connections that are idle for 150 ms: first FIN, then RST",
    teaches: "errors shown to callers: peek, check and retry rules",
    figure: Figure::Failed,
    demand: Demand::Bursts { size: 20, every: ms(300), base: 0.0 },
    writes_percent: 30,
    events: |_| {
        let cut = |how| Fault::CutIdle { after_ms: 150, how };
        vec![
            replies_take(2),
            Event::during(1, 900, cut(Cut::Fin)),
            Event::during(901, 900, cut(Cut::Rst)),
        ]
    },
    duration: ms(1800),
    short: Some(Short { duration: ms(1800), rounds: 1, protocols: &[Protocol::Http1] }),
    ..OPEN
};

/// The server restarts.
const RESTART: Scenario = Scenario {
    name: "restart",
    about: "after 500 ms every connection is cut and new ones are refused for 1 s",
    teaches: "dials while the server is away, failures meanwhile, and the time to normal latencies",
    // Dials differ more than failures, but only our own pools count them, and a ranking by them would leave
    // out every other client. They stand beside the ranking.
    figure: Figure::Failed,
    demand: per_second(1000.0),
    writes_percent: 10,
    events: |_| {
        vec![
            replies_take(2),
            Event::during(500, 1000, Fault::Refuse),
            Event::at(501, Fault::Cut { how: Cut::Rst }),
        ]
    },
    duration: ms(4000),
    short: Some(Short { duration: ms(2700), rounds: 1, protocols: &[Protocol::Resp] }),
    ..OPEN
};

/// Connections go silent, and then the whole server.
const BLACK_HOLE: Scenario = Scenario {
    name: "black-hole",
    about: "bursts of 40 every 200 ms over 300 requests/s; after 500 ms the open connections go silent while new ones work, after 3 s everything is silent for 2 s",
    teaches: "how a peer is found that says nothing: deadline, check, ping",
    // In the 2 s in which nothing works every strategy fails alike: they are no part of the figure.
    figure: Figure::FailedWhileUp,
    // So that many connections are open when they go silent, and few more may be opened beside them.
    demand: Demand::Bursts { size: 40, every: ms(200), base: 300.0 },
    events: |_| {
        vec![
            replies_take(2),
            Event::during(500, 2500, Fault::Silence { who: Who::Old }),
            Event::during(3000, 2000, Fault::Silence { who: Who::All }),
        ]
    },
    duration: ms(7000),
    ..OPEN
};

/// A part of the connections is slow.
const STALL_ONE: Scenario = Scenario {
    name: "stall-one",
    about: "after 500 ms one connection in ten, the first one among them, takes 200 ms for a reply instead of 2, for 2 s: for a pool with a single connection that is every request",
    teaches: "whether the others wait for the slow one",
    figure: Figure::P99,
    demand: per_second(1000.0),
    connections: 20,
    events: |_| {
        vec![replies_take(2), Event::during(500, 2000, Fault::StallOne { of: 10, ms: 198 })]
    },
    duration: ms(3500),
    rounds: 3,
    ..OPEN
};

/// The whole server is slow for a while.
const SLOW_MINUTE: Scenario = Scenario {
    name: "slow-minute",
    about: "10 connections; after 500 ms a reply takes 20 ms instead of 2, for 2 s: more is asked than fits",
    teaches: "waiters, refusals and dials above capacity, and the time after it",
    figure: Figure::Failed,
    demand: per_second(1000.0),
    connections: 10,
    events: |_| vec![replies_take(2), Event::during(500, 2000, Fault::SlowReplies { ms: 18 })],
    duration: ms(4500),
    ..OPEN
};

/// Callers leave.
const CANCEL: Scenario = Scenario {
    name: "cancel",
    about: "a third of the callers give up at a random moment within 4 ms, a reply takes 2",
    teaches: "whether anything is lost or a caller gets another's data, and how many dials it costs",
    figure: Figure::Opened,
    demand: per_second(2000.0),
    writes_percent: 20,
    gives_up: Some(GiveUp { percent: 33, within: ms(4) }),
    connections: 20,
    events: |_| vec![replies_take(2)],
    ..OPEN
};

/// Connections of the same age reach the end of their lifetime together, or do not.
const LIFETIME: Scenario = Scenario {
    name: "lifetime",
    about: "50 connections of one age and a lifetime of {max_lifetime}, with and without jitter",
    teaches: "dials in 100 ms when lifetimes end together",
    figure: Figure::PeakDials,
    protocols: EXCLUSIVE,
    only: &["default", "net-http", "redigo", "go-redis", "database-sql"],
    variants: &[Variant::NoJitter, Variant::Jitter],
    demand: Demand::Bursts { size: 50, every: ms(50), base: 0.0 },
    events: |_| vec![replies_take(5)],
    set: &[("max_lifetime", "1s")],
    duration: ms(3500),
    ..OPEN
};

/// A server that allows one stream for a while.
const MAX_STREAMS: Scenario = Scenario {
    name: "max-streams",
    about: "http2: after 500 ms the server allows 1 stream on a connection, for 1 s",
    teaches: "whether further connections are opened, and what becomes of them",
    figure: Figure::Failed,
    protocols: HTTP2,
    demand: per_second(1000.0),
    events: |_| vec![replies_take(5), Event::during(500, 1000, Fault::MaxStreams { streams: 1 })],
    duration: ms(2500),
    ..OPEN
};

/// A server that announces the end of its connections again and again.
const GOAWAY: Scenario = Scenario {
    name: "goaway",
    about: "every 200 ms, nine times, the server announces the end of its connections",
    teaches: "whether anything is lost, and whether what must not run twice does",
    figure: Figure::Failed,
    demand: per_second(1000.0),
    writes_percent: 20,
    events: |_| {
        let announced = (1..=9).map(|n| Event::at(200 * n, Fault::Announce));
        std::iter::once(replies_take(2)).chain(announced).collect()
    },
    duration: ms(3000),
    ..OPEN
};

/// Two backends behind one address.
const IMBALANCE: Scenario = Scenario {
    name: "imbalance",
    about: "two backends behind one address, bursts of 8 and single requests between them; after 1 s one of them takes 20 % longer, for 1 s",
    teaches: "newest first keeps feeding the slow one, whose connections come back last; random does not look at that",
    figure: Figure::SlowShare,
    protocols: EXCLUSIVE,
    only: &["default"],
    variants: &[Variant::NewestFirst, Variant::OldestFirst, Variant::Random],
    // A burst ends with the connections of the slow backend, which come back last; four single requests
    // before the next burst show which connections are lent first. The single requests do not overlap: of
    // overlapping requests, each takes the connection of the request before it. A reply takes 10 ms so
    // that a delay of 2 ms is above the noise of a busy machine.
    demand: Demand::Bursts { size: 8, every: ms(100), base: 50.0 },
    events: |_| vec![replies_take(10), Event::during(1000, 1000, Fault::SlowBackend { ms: 2 })],
    duration: ms(3000),
    rounds: 3,
    ..OPEN
};

/// The same callers over more and more HTTP/2 connections.
pub const CONNECTIONS: Scenario = Scenario {
    name: "connections",
    about: "http2: the callers share 1, 2, 5, 10 or 50 connections, driven directly (limit) and by our default pool",
    teaches: "what further connections bring, and what they cost",
    figure: Figure::Throughput,
    protocols: HTTP2,
    only: &["limit", "default"],
    variants: &[
        Variant::Connections(1),
        Variant::Connections(2),
        Variant::Connections(5),
        Variant::Connections(10),
        Variant::Connections(50),
    ],
    rounds: 3,
    short: Some(Short { duration: ms(100), rounds: 5, protocols: HTTP2 }),
    ..BASE
};

/// All scenarios, in the order in which they run.
pub const SCENARIOS: [Scenario; 19] = [
    STEADY,
    CONNECTIONS,
    REUSE,
    LIMITS,
    SESSION,
    PACED,
    BURST,
    HERD,
    SLOW_DIAL,
    IDLE_CUT,
    RESTART,
    BLACK_HOLE,
    STALL_ONE,
    SLOW_MINUTE,
    CANCEL,
    LIFETIME,
    MAX_STREAMS,
    GOAWAY,
    IMBALANCE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_complete_and_its_faults_end_within_it() {
        for scenario in SCENARIOS {
            assert!(
                !scenario.about.is_empty() && !scenario.teaches.is_empty(),
                "{}",
                scenario.name
            );
            let again = |seed| (scenario.events)(&mut fastrand::Rng::with_seed(seed));
            assert_eq!(again(1), again(1), "{}: the same seed, the same events", scenario.name);
            for event in again(1) {
                let end = event.at + event.lasts.unwrap_or_default();
                assert!(end <= scenario.duration + ms(10), "{}: {event:?}", scenario.name);
                assert!(!event.fault.is_moment() || event.lasts.is_none(), "{event:?}");
            }
            if let Some(short) = scenario.short {
                assert!(short.protocols.iter().all(|protocol| scenario.fits(*protocol)));
                assert!(scenario.shortest() <= short.duration, "{}", scenario.name);
            }
            assert!(scenario.shortest() <= scenario.duration, "{}", scenario.name);
        }
    }

    #[test]
    fn the_text_names_the_stalled_connection_if_it_is_the_only_one() {
        assert!(STALL_ONE.about.contains("the first one among them"), "{STALL_ONE:?}");
        assert!(STALL_ONE.about.contains("a pool with a single connection"));
    }

    #[test]
    fn a_turn_is_no_shorter_than_its_faults() {
        assert_eq!(RESTART.shortest(), ms(1800), "three good steps after 1500 ms");
        assert_eq!(IDLE_CUT.shortest(), ms(1800), "its faults last to the end");
        assert_eq!(GOAWAY.shortest(), ms(2100));
        for scenario in [STEADY, BURST, HERD, CANCEL] {
            assert_eq!(scenario.shortest(), ms(0), "{}", scenario.name);
        }
    }
}
