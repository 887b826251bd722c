//! The peer goes away and comes back: nobody helps the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::{DialError, Error, Exclusive, Policy, Pool, Stage};
use tokio::time::{Instant, sleep};

use super::scenarios::{Lend, SECOND, ends_at_zero, limited};
use crate::support::fake::{Connection, Fake, Peer, Refused, Way, pool, until};

/// How long a dial takes to fail while the peer refuses.
const REFUSAL: Duration = Duration::from_millis(200);
/// A new caller comes this often.
const PACE: Duration = Duration::from_millis(100);
/// Half of it the peer refuses dials, half of it they hang.
const OUTAGE: Duration = Duration::from_secs(15 * 60);

/// Callers: how many came, and how many of them still wait in their acquire.
#[derive(Default)]
struct Demand {
    came: AtomicU32,
    pending: AtomicU32,
}

/// Counts a caller for as long as it waits.
struct Pending<'a>(&'a AtomicU32);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A caller: it finds out that its connection is dead by getting no answer.
async fn call<L: Lend>(pool: Pool<Fake<L>>, demand: Arc<Demand>) {
    demand.came.fetch_add(1, SeqCst);
    demand.pending.fetch_add(1, SeqCst);
    let pending = Pending(&demand.pending);
    let lease = pool.acquire(&1).await;
    drop(pending);
    if let Ok(mut lease) = lease {
        if lease.is_dead() {
            sleep(SECOND).await;
            lease.mark_broken();
        } else {
            sleep(PACE / 5).await;
        }
    }
}

/// The most dials that the policy's own rule against hammering allows in an outage, if it has one.
fn most_rounds(policy: &Policy) -> Option<f64> {
    let outage = OUTAGE.as_secs_f64();
    let (base, longest) = (policy.back_off_base.as_secs_f64(), policy.back_off_max.as_secs_f64());
    let rounds = match policy.after_failed_dial {
        AfterFailedDial::Tell => return None,
        AfterFailedDial::FailFast => outage / base,
        AfterFailedDial::BackOff => {
            let growing = (longest / base).ln() / policy.back_off_factor.ln();
            growing.ceil() + outage / (longest * (1.0 - policy.back_off_jitter))
        }
    };
    Some(f64::from(policy.back_off_after) + rounds.ceil())
}

pub async fn an_outage_is_survived_without_help<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 16));
    let policy = pool.policy().clone();
    let demand = Arc::new(Demand::default());
    let steady = tokio::spawn({
        let (pool, demand) = (pool.clone(), Arc::clone(&demand));
        async move {
            let mut callers = tokio::task::JoinSet::new();
            loop {
                callers.spawn(call(pool.clone(), Arc::clone(&demand)));
                while callers.try_join_next().is_some() {}
                sleep(PACE).await;
            }
        }
    });
    sleep(Duration::from_secs(10)).await;
    assert!(pool.stats().leased > 90);

    peer.die();
    peer.set(&peer.connect, Way::SlowlyFails(REFUSAL));
    let (attempts, came) = (peer.attempts.load(SeqCst), demand.came.load(SeqCst));
    let started = Instant::now();
    while started.elapsed() < OUTAGE {
        if started.elapsed() >= OUTAGE / 2 {
            peer.set(&peer.connect, Way::Never);
        }
        // Out of step with those who come, who leave, and whose dials end.
        sleep(Duration::from_millis(97)).await;
        let status = pool.status();
        let dialing = peer.dialing.load(SeqCst);
        let waiting = demand.pending.load(SeqCst);
        assert_eq!(dialing, status.dialing);
        let probes = u32::from(policy.after_failed_dial == AfterFailedDial::FailFast);
        // One for each caller, and a hedge where the policy has them.
        let each = if policy.dial_hedge.is_some() { 2 } else { 1 };
        assert!(dialing <= each * waiting + probes, "{waiting} wait: {status:?}");
    }
    let attempts = peer.attempts.load(SeqCst) - attempts;
    let came = demand.came.load(SeqCst) - came;
    assert!(attempts <= came + 16, "{attempts} dials for {came} callers");
    if let Some(rounds) = most_rounds(&policy) {
        // In a round those dial who come before its first failure is known.
        let each = f64::from(policy.max_open_per_key.expect("limited"));
        let most = rounds * each.min(3.0) + 16.0;
        assert!(f64::from(attempts) <= most, "{attempts} dials, {most} allowed by the pauses");
    }

    peer.set(&peer.connect, Way::Ok);
    let dead_checks = peer.dead_checks.load(SeqCst);
    // It may be told that dials are paused, but does not pay for one dead connection after another.
    let _first = pool.acquire(&1).await.map(drop);
    assert!(peer.dead_checks.load(SeqCst) <= dead_checks + 1);
    // The longest pause of any profile is two minutes and a fifth.
    sleep(Duration::from_secs(150)).await;
    let recovered = pool.stats().leased;
    drop(pool.acquire(&1).await.expect("the pool has recovered"));
    sleep(SECOND * 10).await;
    assert!(pool.stats().leased > recovered + 90, "demand is served again");
    steady.abort();
    let _ = steady.await;
    ends_at_zero(pool, &peer).await;
}

/// A pool of up to `size` idle connections, one lease each, all of which have died silently.
async fn full_of_dead<L: Lend>(policy: Policy, size: u32) -> (Pool<Fake<L>>, Arc<Peer>, u32) {
    let policy = Policy {
        check: Check::Always,
        // Else the last of them would expire while the first are checked.
        idle_timeout: None,
        acquire_timeout: None,
        ..limited(policy, size)
    };
    let (pool, peer) = pool::<L>(policy);
    peer.capacity.store(1, SeqCst);
    let open = pool.policy().max_open_per_key.expect("limited");
    let mut leases = Vec::new();
    for _ in 0..open {
        leases.push(pool.acquire(&1).await.expect("below the limit"));
    }
    drop(leases);
    assert_eq!(pool.status().idle, open);
    peer.die();
    (pool, peer, open)
}

pub async fn the_first_caller_after_a_silent_outage_pays_what_the_policy_says<L: Lend>(
    policy: Policy,
) {
    for after_failed_check in AfterFailedCheck::ALL {
        let policy = Policy { after_failed_check: *after_failed_check, ..policy.clone() };
        let (pool, peer, idle) = full_of_dead::<L>(policy, 8).await;
        let policy = pool.policy().clone();
        let pays_for = match after_failed_check {
            AfterFailedCheck::Distrust => 1,
            AfterFailedCheck::Next => policy.max_failed_checks.unwrap_or(idle).min(idle),
        };
        let started = Instant::now();
        let lease = pool.acquire(&1).await.expect("the peer is back");
        assert_eq!(started.elapsed(), policy.check_timeout * pays_for);
        assert_eq!(peer.checks.load(SeqCst), pays_for);
        assert!(!lease.is_dead() && !lease.is_reused(), "it was dialed");
        let stats = pool.stats();
        let suspects = match after_failed_check {
            AfterFailedCheck::Distrust => idle - 1,
            AfterFailedCheck::Next => 0,
        };
        assert_eq!(stats.closed(CloseCause::CheckFailed), u64::from(pays_for));
        assert_eq!(stats.closed(CloseCause::Suspect), u64::from(suspects));
        drop(lease);
        if *after_failed_check == AfterFailedCheck::Distrust {
            // Nobody pays again.
            for _ in 0..10 {
                let lease = pool.acquire(&1).await.expect("idle");
                assert!(!lease.is_dead());
            }
            assert_eq!(peer.dead_checks.load(SeqCst), 1);
        }
        ends_at_zero(pool, &peer).await;
    }
}

type Plain = Exclusive<Connection>;

/// Many callers at once find a connection each: as many pay, once each, and as many dial.
#[tokio::test(start_paused = true)]
async fn callers_that_come_together_pay_once_each() {
    let (pool, peer, idle) = full_of_dead::<Plain>(Policy::default(), 20).await;
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let pool = pool.clone();
        callers.spawn(async move {
            let lease = pool.acquire(&1).await.expect("the peer is back");
            assert!(!lease.is_dead());
            sleep(SECOND).await;
        });
    }
    until("they check", || peer.checks.load(SeqCst) == 5).await;
    let limit = pool.policy().check_timeout;
    callers.join_all().await;
    assert_eq!(started.elapsed(), limit + SECOND);
    assert_eq!(peer.accepted.load(SeqCst), idle + 5, "no dial that nobody waited for");
    assert_eq!(peer.dead_checks.load(SeqCst), 5);
    ends_at_zero(pool, &peer).await;
}

/// At the limit the fresh one has to wait until a suspect has said goodbye.
#[tokio::test(start_paused = true)]
async fn a_suspect_keeps_its_place_until_its_goodbye_is_over() {
    let (pool, peer, idle) = full_of_dead::<Plain>(Policy::default(), 4).await;
    peer.set(&peer.close, Way::Never);
    let started = Instant::now();
    let lease = pool.acquire(&1).await.expect("the peer is back");
    let policy = pool.policy();
    assert_eq!(started.elapsed(), policy.check_timeout + policy.close_timeout);
    assert_eq!(peer.high_water.load(SeqCst), idle, "the limit was kept");
    drop(lease);
    ends_at_zero(pool, &peer).await;
}

/// What came back while the check ran has just worked.
#[tokio::test(start_paused = true)]
async fn one_that_came_back_during_the_check_is_trusted() {
    let policy = Policy { check: Check::Always, ..Policy::default() };
    let (pool, peer) = pool::<Plain>(policy);
    let busy = pool.acquire(&1).await.expect("dialed");
    let idle = [pool.acquire(&1).await, pool.acquire(&1).await];
    drop(idle);
    peer.set(&peer.check, Way::Never);
    let caller = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(|lease| lease.number) }
    });
    until("it checks", || peer.checks.load(SeqCst) == 1).await;
    sleep(SECOND).await;
    drop(busy);
    assert_eq!(caller.await.expect("no panic").expect("dialed"), 3);
    let stats = pool.stats();
    assert_eq!((stats.closed(CloseCause::Suspect), stats.closed_in_all()), (1, 2));
    assert_eq!(pool.status().idle, 2, "the trusted one, and the fresh one");
    ends_at_zero(pool, &peer).await;
}

/// A caller that leaves in the middle of a check says nothing about the peer.
#[tokio::test(start_paused = true)]
async fn a_check_that_is_given_up_accuses_nobody() {
    let (pool, peer, idle) = full_of_dead::<Plain>(Policy::default(), 4).await;
    let given_up = tokio::time::timeout(SECOND, pool.acquire(&1)).await;
    assert!(given_up.is_err());
    let stats = pool.stats();
    assert_eq!((stats.closed(CloseCause::Lost), stats.closed_in_all()), (1, 1));
    assert_eq!(pool.status().idle, idle - 1);
    ends_at_zero(pool, &peer).await;
}

/// One that the acquire's own deadline cuts does: else every caller would pay its whole patience.
#[tokio::test(start_paused = true)]
async fn a_check_that_takes_all_the_time_there_is_accuses_the_others() {
    let policy = Policy {
        check: Check::Always,
        check_timeout: 5 * SECOND,
        acquire_timeout: Some(SECOND),
        ..Policy::default()
    };
    let (pool, peer) = pool::<Plain>(policy);
    let leases = [pool.acquire(&1).await, pool.acquire(&1).await, pool.acquire(&1).await];
    drop(leases);
    peer.die();
    assert!(pool.acquire(&1).await.expect_err("no time left").is_timeout());
    assert_eq!(pool.stats().closed(CloseCause::Suspect), 2);
    let started = Instant::now();
    drop(pool.acquire(&1).await.expect("dialed"));
    assert_eq!(started.elapsed(), Duration::ZERO);
    ends_at_zero(pool, &peer).await;
}

/// As above where a dial takes long, or callers have little time: one of them pays for the others.
#[tokio::test(start_paused = true)]
async fn one_caller_pays_for_idle_connections_that_died_silently() {
    for (dial, limit) in [(2, 80), (2, 200), (300, 500), (300, 700)] {
        let policy = Policy {
            check: Check::Always,
            acquire_timeout: Some(Duration::from_millis(limit)),
            after_failed_check: AfterFailedCheck::Distrust,
            ..Policy::default()
        };
        let (pool, peer) = pool::<Plain>(policy);
        peer.set(&peer.connect, Way::Slow(Duration::from_millis(dial)));
        let mut leases = Vec::new();
        for _ in 0..10 {
            leases.push(pool.acquire(&1).await.expect("dialed"));
        }
        drop(leases);
        sleep(SECOND).await;
        peer.die();
        assert!(pool.acquire(&1).await.expect_err("no time left").is_timeout());
        drop(pool.acquire(&1).await.expect("dialed"));
        ends_at_zero(pool, &peer).await;
    }
}

/// Many callers wait with one deadline. A sleep between two parts of them would take 1 ms.
#[tokio::test(start_paused = true)]
async fn callers_are_told_of_their_deadline_in_time_however_many_they_are() {
    let policy =
        Policy { max_open_per_key: Some(1), acquire_timeout: Some(SECOND), ..Policy::default() };
    let (pool, peer) = pool::<Plain>(policy);
    let lease = pool.acquire(&1).await.expect("dialed");
    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let pool = pool.clone();
        callers.spawn(async move {
            assert!(pool.acquire(&1).await.is_err());
            began.elapsed()
        });
    }
    while let Some(waited) = callers.join_next().await {
        let waited = waited.expect("no panic");
        assert!(waited < SECOND + Duration::from_millis(3), "{waited:?}");
    }
    drop(lease);
    ends_at_zero(pool, &peer).await;
}

/// Callers run into their own deadline a few milliseconds into a dial, and later ones well within it.
#[tokio::test(start_paused = true)]
async fn a_healthy_peer_is_not_blamed_for_the_deadlines_of_callers() {
    let limit = Duration::from_millis(110);
    let policy = Policy {
        dial: Dial::Caller,
        max_open_per_key: Some(4),
        acquire_timeout: Some(limit),
        dial_timeout: Duration::from_secs(10),
        back_off_after: 1,
        ..Policy::default()
    };
    let (pool, peer) = pool::<Exclusive<Connection>>(policy);
    peer.set(&peer.connect, Way::Slow(Duration::from_millis(20)));
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..480 {
        let pool = pool.clone();
        callers.spawn(async move {
            sleep(Duration::from_millis(n)).await;
            let lease = pool.acquire(&1).await?;
            sleep(Duration::from_millis(30)).await;
            // It serves once, so that the next caller has to dial.
            lease.discard();
            Ok(())
        });
    }
    let results: Vec<Result<(), Error<Refused>>> = callers.join_all().await;
    let mut in_dials = 0;
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        let Error::Timeout { stage, last_dial_error: None, .. } = error else { panic!("{error}") };
        let text = error.to_string();
        assert!(text.contains("110ms") && !text.contains("dial_timeout"), "{text}");
        in_dials += usize::from(*stage == Stage::Dial);
    }
    assert!(in_dials > 10, "{in_dials} deadlines came during a dial");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_blamed_in_words_that_name_what_came_first() {
    let limit = Duration::from_millis(200);
    let acquire_timeout = Some(limit);
    let slow = Policy { dial: Dial::Caller, acquire_timeout, ..Policy::default() };
    let (wait_out_pauses, dial_hedge) = (None, None);
    let policy = Policy { back_off_after: 1, wait_out_pauses, dial_hedge, ..slow };
    let (pool, peer) = pool::<Exclusive<Connection>>(policy);
    peer.set(&peer.connect, Way::Never);
    pool.acquire(&1).await.expect_err("the peer is silent");
    let error = pool.acquire(&1).await.expect_err("dials pause");
    let Error::BackingOff { last, .. } = &error else { panic!("{error}") };
    assert!(matches!(last, DialError::GivenUp(after) if *after == limit), "{last:?}");
    let words = "the caller's deadline came first, later than dials usually take (after 200ms)";
    assert_eq!(last.to_string(), words);
    let text = error.to_string();
    assert!(text.contains(words) && !text.contains("dial_timeout"), "{text}");
}
