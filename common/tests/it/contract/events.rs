//! The events of a pool tell the whole life of every connection, in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::event::{CloseCause, Event, EventKind};
use pool_common::policy::Check;
use pool_common::state::ConnectionId;
use pool_common::{Exclusive, Policy, Pool, Shared, profile::Profile};
use tokio::time::{sleep, timeout};

use super::scenarios::Lend;
use crate::support::fake::{Connection, Fake, Way, manager};

type Recorded = Arc<Mutex<Vec<Event<u8>>>>;

fn recorded<L: Lend>(policy: Policy) -> (Pool<Fake<L>>, Arc<crate::support::fake::Peer>, Recorded) {
    let events = Recorded::default();
    let (manager, peer) = manager::<L>();
    let pool = Pool::builder(manager)
        .policy(policy)
        .clock(Clock::tokio())
        .seed(1)
        .observer({
            let events = Arc::clone(&events);
            move |event: &Event<u8>| events.lock().expect("no panic").push(event.clone())
        })
        .build()
        .expect("a valid policy");
    (pool, peer, events)
}

/// Follows one life; panics when an event does not fit.
#[derive(Debug, Default, PartialEq)]
enum Life {
    #[default]
    Unborn,
    Dialing,
    Leases(u32),
    Closing,
    Over,
}

impl Life {
    fn next(self, kind: EventKind) -> Life {
        match (self, kind) {
            (Life::Unborn, EventKind::Dialing) => Life::Dialing,
            (Life::Dialing, EventKind::DialFailed) => Life::Over,
            (Life::Dialing, EventKind::Opened(_)) => Life::Leases(0),
            (Life::Leases(n), EventKind::Leased { .. }) => Life::Leases(n + 1),
            (Life::Leases(n), EventKind::Returned) if n > 0 => Life::Leases(n - 1),
            (Life::Leases(0), EventKind::Idle) => Life::Leases(0),
            (Life::Leases(n), EventKind::Retired) => Life::Leases(n),
            (Life::Leases(n), EventKind::Checking | EventKind::Checked) if n > 0 => Life::Leases(n),
            (Life::Leases(0), EventKind::Closing(_)) => Life::Closing,
            (Life::Closing, EventKind::Closed) => Life::Over,
            (life, kind) => panic!("{kind:?} does not follow {life:?}"),
        }
    }
}

async fn lives_are_told<L: Lend>(policy: Policy) {
    let (pool, peer, events) = recorded::<L>(Policy {
        max_open_per_key: Some(3),
        min_idle: policy.min_idle.min(2),
        ..policy
    });
    let mut rng = fastrand::Rng::with_seed(3);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let pool = pool.clone();
        let (key, hold, patience) = (rng.u8(..3), rng.u64(..9), rng.u64(1..30));
        let breaks = rng.u8(..4) == 0;
        peer.set(&peer.connect, if rng.u8(..5) == 0 { Way::Fails } else { Way::Ok });
        callers.spawn(async move {
            let acquire = pool.acquire(&key);
            if let Ok(Ok(mut lease)) = timeout(Duration::from_millis(patience), acquire).await {
                sleep(Duration::from_millis(hold)).await;
                if breaks {
                    lease.mark_broken();
                }
            }
        });
        if rng.bool() {
            sleep(Duration::from_millis(rng.u64(..4))).await;
        }
    }
    callers.join_all().await;
    pool.retire_all();
    pool.close().await;
    let stats = pool.stats();
    let mut lives: HashMap<ConnectionId, Life> = HashMap::new();
    let mut keys: HashMap<ConnectionId, u8> = HashMap::new();
    let mut counts = (0, 0, 0);
    for event in events.lock().expect("no panic").iter() {
        assert_eq!(*keys.entry(event.connection).or_insert(event.key), event.key);
        let life = lives.entry(event.connection).or_default();
        *life = std::mem::take(life).next(event.kind);
        match event.kind {
            EventKind::Leased { .. } => counts.0 += 1,
            EventKind::Opened(_) => counts.1 += 1,
            EventKind::Closed => counts.2 += 1,
            _ => {}
        }
    }
    assert!(lives.values().all(|life| *life == Life::Over), "{lives:?}");
    assert_eq!(counts, (stats.leased, stats.opened, stats.closed_in_all()));
}

#[tokio::test(start_paused = true)]
async fn every_life_is_told_from_dial_to_end() {
    for profile in Profile::all() {
        lives_are_told::<Exclusive<Connection>>(profile.policy.clone()).await;
        lives_are_told::<Shared<Connection>>(profile.policy).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_is_told_within_its_lease() {
    let policy = Policy { check: Check::Always, ..Policy::default() };
    lives_are_told::<Exclusive<Connection>>(policy.clone()).await;
    lives_are_told::<Shared<Connection>>(policy.clone()).await;

    let (pool, peer, events) = recorded::<Exclusive<Connection>>(policy);
    drop(pool.acquire(&1).await.expect("a dial"));
    peer.set(&peer.check, Way::Slow(Duration::from_millis(5)));
    drop(pool.acquire(&1).await.expect("a check that passes"));
    peer.set(&peer.check, Way::Fails);
    drop(pool.acquire(&1).await.expect("another connection"));
    let events = events.lock().expect("no panic");
    let first = events[0].connection;
    let of_first: Vec<&Event<u8>> =
        events.iter().filter(|event| event.connection == first).collect();
    let checks: Vec<usize> =
        (0..of_first.len()).filter(|index| of_first[*index].kind == EventKind::Checking).collect();
    let [passed, failed] = checks[..] else { panic!("{of_first:?}") };
    for check in [passed, failed] {
        assert!(matches!(of_first[check - 1].kind, EventKind::Leased { reused: true, .. }));
    }
    assert_eq!(of_first[passed + 1].kind, EventKind::Checked);
    let took = of_first[passed + 1].at.since(of_first[passed].at);
    assert_eq!(took, Duration::from_millis(5));
    assert_eq!(of_first[failed + 1].kind, EventKind::Returned);
    assert_eq!(of_first[failed + 2].kind, EventKind::Closing(CloseCause::CheckFailed));
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_disturbs_nobody() {
    let (manager, peer) = manager::<Exclusive<Connection>>();
    let pool = Pool::builder(manager)
        .observer(|_: &Event<u8>| panic!("an observer's bug"))
        .build()
        .expect("a valid policy");
    for _ in 0..3 {
        pool.acquire(&1).await.expect("served all the same").discard();
    }
    pool.close().await;
    assert_eq!(peer.open(), 0);
}
