//! The lives that a recorder makes from the events of a pool. Times are milliseconds; the window begins at
//! 1,000 and has a length of 160, so that a step is one millisecond.

use pool_common::clock::Timestamp;
use pool_common::event::{CloseCause, EventKind};
use pool_common::policy::Dial;
use pool_common::state::{Answer, ConnectionId, State, Want};
use pool_common::{Exclusive, Policy};

use super::*;

const MS: u64 = 1_000_000;
const LEASED: EventKind = EventKind::Leased { reused: false, idle_for: Duration::ZERO };
const OPENED: EventKind = EventKind::Opened(Duration::ZERO);

/// A recorder whose connections are named by numbers.
struct Told {
    lives: Lives,
    ids: Vec<ConnectionId>,
}

impl Told {
    fn new(connections: usize) -> Self {
        let lives = Lives::new(Duration::from_millis(160));
        Self { lives, ids: ids(connections) }
    }

    fn begun(connections: usize) -> Self {
        let told = Self::new(connections);
        told.lives.begin(1000 * MS);
        told
    }

    fn hear(&self, connection: usize, ms: u64, kind: EventKind) {
        self.lives.heard().hear(self.ids[connection], kind, ms * MS);
    }

    /// Dialed and opened at once.
    fn opened(&self, connection: usize, ms: u64) {
        self.hear(connection, ms, EventKind::Dialing);
        self.hear(connection, ms, OPENED);
    }

    fn leased(&self, connection: usize, from: u64, to: u64) {
        self.hear(connection, from, LEASED);
        self.hear(connection, to, EventKind::Returned);
    }

    fn closed(&self, connection: usize, ms: u64, cause: CloseCause) {
        self.hear(connection, ms, EventKind::Closing(cause));
        self.hear(connection, ms, EventKind::Closed);
    }

    fn lanes(&self) -> Lanes {
        self.lives.lanes().unwrap()
    }
}

/// Identities as a pool gives them: one dial for each key.
fn ids(count: usize) -> Vec<ConnectionId> {
    let policy = Policy { dial: Dial::Caller, dial_ramp: None, ..Policy::default() };
    let mut state: State<usize, Exclusive<()>, ()> = State::new(policy, 1).unwrap();
    (0..count)
        .map(|key| match state.acquire(&key, Want::default(), Timestamp::ZERO) {
            Answer::Dial(id) => id,
            _ => panic!("nothing is open"),
        })
        .collect()
}

#[test]
fn a_life_is_told_from_its_dial_to_its_close() {
    let told = Told::begun(1);
    told.hear(0, 1010, EventKind::Dialing);
    told.hear(0, 1012, OPENED);
    told.leased(0, 1012, 1014);
    told.hear(0, 1014, EventKind::Idle);
    told.leased(0, 1016, 1017);
    told.closed(0, 1020, CloseCause::Broken);
    let lanes = told.lanes();
    assert_eq!((lanes.step_ms, lanes.connections, lanes.failed_dials), (1.0, 1, 0));
    assert_eq!(lanes.closed, BTreeMap::from([("broken", 1)]));
    assert_eq!(
        lanes.lanes[0],
        Lane {
            id: 1,
            dial_ms: 10.0,
            open_ms: Some(12.0),
            closed_ms: Some(20.0),
            cause: Some("broken"),
            leases: 2,
            first_step: 12,
            steps: "99009000".to_owned(),
        }
    );
}

#[test]
fn short_leases_are_a_share_of_their_step() {
    let told = Told::begun(1);
    told.opened(0, 1000);
    let us = |us: u64| 1000 * MS + us * 1000;
    let hear = |at: u64, kind| told.lives.heard().hear(told.ids[0], kind, us(at));
    for (from, to) in [(0, 200), (300, 500), (1100, 1110), (2500, 4500)] {
        hear(from, LEASED);
        hear(to, EventKind::Returned);
    }
    let lane = &told.lanes().lanes[0];
    assert!(lane.steps.starts_with("415950"), "{}", lane.steps);
    assert_eq!((lane.leases, lane.closed_ms, lane.cause), (4, None, None));
}

#[test]
fn a_shared_connection_is_used_while_it_has_any_lease() {
    let told = Told::begun(1);
    told.opened(0, 1000);
    told.hear(0, 1001, LEASED);
    told.hear(0, 1002, LEASED);
    told.hear(0, 1003, EventKind::Returned);
    told.hear(0, 1005, EventKind::Returned);
    assert!(told.lanes().lanes[0].steps.starts_with("0999900"));
}

#[test]
fn a_check_is_seen_however_short_it_was() {
    let told = Told::begun(2);
    for connection in 0..2 {
        told.opened(connection, 1000);
        told.hear(connection, 1002, LEASED);
        told.hear(connection, 1002, EventKind::Checking);
    }
    told.hear(0, 1002, EventKind::Checked);
    told.hear(0, 1004, EventKind::Returned);
    told.hear(1, 1006, EventKind::Returned);
    told.closed(1, 1006, CloseCause::CheckFailed);
    let lanes = told.lanes().lanes;
    assert!(lanes[0].steps.starts_with("00c90"), "{}", lanes[0].steps);
    assert_eq!((lanes[1].steps.as_str(), lanes[1].cause), ("00cccc", Some("check-failed")));
}

#[test]
fn leases_before_the_window_count_for_the_part_inside_it() {
    let told = Told::new(3);
    told.opened(0, 900);
    told.opened(1, 900);
    told.leased(1, 900, 950);
    told.closed(1, 950, CloseCause::IdleLimit);
    told.hear(2, 900, EventKind::Dialing);
    told.hear(2, 910, EventKind::DialFailed);
    told.leased(0, 920, 930);
    told.hear(0, 990, LEASED);
    told.lives.begin(1000 * MS);
    told.hear(0, 1002, EventKind::Returned);
    let lanes = told.lanes();
    assert_eq!((lanes.connections, lanes.failed_dials, lanes.closed.len()), (1, 0, 0));
    let lane = &lanes.lanes[0];
    assert_eq!((lane.dial_ms, lane.open_ms, lane.leases), (-100.0, Some(-100.0), 0));
    assert!(lane.steps.starts_with("990"), "{}", lane.steps);
    assert_eq!(lane.steps.len(), STEPS);
}

#[test]
fn events_after_the_window_do_not_count() {
    let told = Told::begun(2);
    told.opened(0, 1000);
    told.hear(0, 1150, LEASED);
    told.hear(0, 1170, EventKind::Returned);
    told.closed(0, 1171, CloseCause::PoolClosed);
    told.opened(1, 1165);
    let lanes = told.lanes();
    assert_eq!((lanes.connections, lanes.closed.len()), (1, 0));
    assert_eq!((lanes.lanes[0].closed_ms, lanes.lanes[0].leases), (None, 1));
    assert!(lanes.lanes[0].steps.ends_with("09999999999"), "{}", lanes.lanes[0].steps);
}

#[test]
fn failed_dials_have_no_lane_of_their_own() {
    let told = Told::begun(3);
    for connection in 0..2 {
        told.hear(connection, 1001, EventKind::Dialing);
        told.hear(connection, 1003, EventKind::DialFailed);
    }
    told.hear(2, 1159, EventKind::Dialing);
    let lanes = told.lanes();
    assert_eq!((lanes.failed_dials, lanes.connections), (2, 1));
    assert!(lanes.failed.unwrap().starts_with(".22."));
    let unfinished = &lanes.lanes[0];
    assert_eq!((unfinished.open_ms, unfinished.steps.as_str()), (None, ""));
    assert_eq!(Told::begun(0).lives.lanes(), None);
    assert_eq!(Told::new(0).lives.lanes(), None, "the window never began");
}

#[test]
fn of_very_many_connections_some_are_followed_over_the_whole_window() {
    let many = 5000;
    let told = Told::begun(many);
    // The first stays open, the others are closed at once.
    told.opened(0, 1000);
    for connection in 1..many {
        let ms = 1000 + connection as u64 * 150 / many as u64;
        told.opened(connection, ms);
        told.closed(connection, ms, CloseCause::IdleLimit);
        let heard = told.lives.heard();
        assert!(heard.open.len() + heard.ended.len() <= MOST);
    }
    let lanes = told.lanes();
    assert_eq!(lanes.connections, many as u64);
    assert_eq!(lanes.closed["idle-limit"], many as u64 - 1);
    assert_eq!(lanes.lanes.len(), super::super::lanes::SHOWN);
    assert_eq!(lanes.lanes[0].id, 1, "the longest life is among them");
    assert!(lanes.lanes.is_sorted_by_key(|lane| lane.id));
    let (before, after): (Vec<&Lane>, Vec<&Lane>) =
        lanes.lanes.iter().partition(|lane| lane.dial_ms < 75.0);
    assert!(before.len() >= 8 && after.len() >= 8, "{} and {}", before.len(), after.len());
}

#[test]
fn connections_that_all_stay_open_are_bounded_too() {
    let told = Told::begun(MOST * 2);
    for connection in 0..MOST * 2 {
        told.opened(connection, 1001);
    }
    let lanes = told.lanes();
    assert_eq!(lanes.connections, MOST as u64 * 2);
    assert_eq!(lanes.lanes.len(), super::super::lanes::SHOWN);
}
