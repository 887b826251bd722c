//! Promise 10: the cost of acquire and release does not grow with the number of idle connections,
//! keys or waiters.
//!
//! Cost is counted, not timed: each look at an entry of a collection is a step, and so is each
//! comparison of two keys. A turn may cost no more steps in a pool that holds 2,000 of something
//! than in one that holds 10.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{Action, Answer, ConnectionId, Fitness, State, WaiterId, Want};
use crate::clock::Timestamp;
use crate::collections::counted::{count, taken};
use crate::event::CloseCause;
use crate::lending::{Exclusive, Lending, Shared};
use crate::policy::{AtLimit, Dial, Expiry, IdleOrder, Policy, WaiterOrder};
use crate::profile::Profile;

const FEW: u32 = 10;
const MANY: u32 = 2_000;
/// Turns that are counted: enough for whatever is tidied up now and then.
const TURNS: u32 = 500;
/// Leases that one shared connection serves.
const CAPACITY: u32 = 4;
/// Nothing expires while it is counted.
const LONG: Duration = Duration::from_secs(100_000);

/// A key that counts how often it is compared.
#[derive(Clone, Debug)]
struct Key(u32);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        count(1);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// The other key.
const ELSEWHERE: u32 = u32::MAX;

/// Plays the shell, and remembers nothing it would have to search.
struct Pool<L> {
    state: State<Key, L, ()>,
    now: Timestamp,
    woken: Option<WaiterId>,
}

impl<L: Lending<Connection = u32>> Pool<L> {
    fn new(policy: Policy) -> Self {
        let state = State::new(policy, 7).expect("a valid policy");
        Self { state, now: Timestamp::from_nanos(1), woken: None }
    }

    /// Does what the state asks for: dials succeed at once, connections close at once.
    fn settle(&mut self) {
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Dial { id, .. } => drop(self.dialed(id)),
                Action::Close { id, .. } => self.state.closed(id, self.now),
                Action::Wake(waiter) => self.woken = Some(waiter),
                Action::StopDial(_) => unreachable!("a dial ends at once"),
            }
        }
    }

    fn dialed(&mut self, id: ConnectionId) -> Option<(ConnectionId, L)> {
        let lent = self.state.dialed(id, L::new(0), CAPACITY, self.now);
        lent.map(|lent| (lent.id, lent.handle))
    }

    fn ask(&mut self, key: u32) -> Result<(ConnectionId, L), WaiterId> {
        self.now = self.now.after(Duration::from_micros(1));
        let deadline = self.now.after(LONG);
        let answer = self.state.acquire_until(&Key(key), Want::default(), deadline, self.now);
        match answer {
            Answer::Lend(lent) => Ok((lent.id, lent.handle)),
            Answer::Dial(id) => Ok(self.dialed(id).expect("the caller dialed")),
            Answer::Wait(waiter) => Err(waiter),
            _ => panic!("it was refused"),
        }
    }

    fn acquire(&mut self, key: u32) -> (ConnectionId, L) {
        let answer = self.ask(key);
        self.settle();
        answer.unwrap_or_else(|waiter| self.collect(waiter))
    }

    fn wait(&mut self, key: u32) -> WaiterId {
        let waiter = self.ask(key).err().expect("nothing is free");
        self.settle();
        waiter
    }

    fn collect(&mut self, waiter: WaiterId) -> (ConnectionId, L) {
        match self.state.take_grant(waiter) {
            Some(Answer::Lend(lent)) => (lent.id, lent.handle),
            Some(Answer::Dial(id)) => self.dialed(id).expect("the caller dials"),
            _ => panic!("it was granted something else than a connection"),
        }
    }

    fn release(&mut self, (id, handle): (ConnectionId, L)) {
        drop(self.state.release(id, Some(handle), Fitness::Fit, self.now));
        self.settle();
    }

    fn cancel(&mut self, waiter: WaiterId) {
        drop(self.state.cancel(waiter, self.now));
        self.settle();
    }
}

/// Whatever a profile says, with nothing in the way of holding many.
fn roomy(policy: Policy) -> Policy {
    Policy {
        max_open: policy.max_open.map(|_| 3 * MANY),
        max_open_per_key: Some(2 * MANY),
        max_idle: policy.max_idle.map(|_| 3 * MANY),
        max_idle_per_key: Some(2 * MANY),
        max_waiters: None,
        min_idle: policy.min_idle.min(2),
        idle_timeout: policy.idle_timeout.map(|_| LONG),
        max_lifetime: policy.max_lifetime.map(|_| LONG),
        lifetime_jitter: Duration::ZERO,
        dial_ramp: None,
        at_limit: AtLimit::Wait,
        ..policy
    }
}

/// Every profile, and what none of them combines.
fn policies() -> Vec<(String, Policy)> {
    let mut all: Vec<_> = Profile::all()
        .into_iter()
        .map(|profile| (profile.name.to_owned(), roomy(profile.policy.clone())))
        .collect();
    let base = roomy(Policy {
        max_open: Some(1),
        max_idle: Some(1),
        max_lifetime: Some(LONG),
        idle_timeout: Some(LONG),
        ..Policy::default()
    });
    for expiry in [Expiry::Timer, Expiry::Sweep, Expiry::AtAcquire, Expiry::PruneAtAcquire] {
        for idle_order in [IdleOrder::NewestFirst, IdleOrder::OldestFirst, IdleOrder::Random] {
            let name = format!("{expiry:?}, {idle_order:?}");
            all.push((name, Policy { expiry, idle_order, ..base.clone() }));
        }
    }
    for waiter_order in [WaiterOrder::Arrival, WaiterOrder::Random] {
        all.push((format!("{waiter_order:?}"), Policy { waiter_order, ..base.clone() }));
    }
    all
}

/// A turn after another, in a pool that holds so many.
type Cost<L> = fn(Pool<L>, u32) -> usize;

/// Takes the turns of `cost` in a pool that holds few, and in one that holds many.
fn assert_flat<L: Lending<Connection = u32>>(
    what: &str,
    turned: impl Fn(Policy, u32) -> Policy,
    cost: Cost<L>,
) {
    for (name, policy) in policies() {
        let [few, many] =
            [FEW, MANY].map(|held| cost(Pool::<L>::new(turned(policy.clone(), held)), held));
        // Work that is done now and then may fall into one run and not into the other.
        let allowed = few + few / 4;
        assert!(
            many <= allowed,
            "{what}, {name}, shared: {}: {TURNS} turns take {few} steps with {FEW}, {many} with {MANY}",
            L::SHARED
        );
    }
}

fn unchanged(policy: Policy, _: u32) -> Policy {
    policy
}

/// So many connections of each key, so that there are waiters.
fn limited(policy: Policy, connections: u32) -> Policy {
    Policy { max_open_per_key: Some(connections), min_idle: 0, ..policy }
}

/// This many connections over all keys: each caller takes the slow path for room.
fn limited_in_all(policy: Policy, connections: u32) -> Policy {
    Policy { max_open: Some(connections), min_idle: 0, max_idle: None, ..policy }
}

fn turns(mut turn: impl FnMut(u32)) -> usize {
    // The first turns may find things as they were left.
    (0..FEW).for_each(&mut turn);
    taken(|| (0..TURNS).for_each(turn))
}

fn idle_connections<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    let each = if L::SHARED { CAPACITY } else { 1 };
    let leases: Vec<_> = (0..held * each).map(|_| pool.acquire(0)).collect();
    leases.into_iter().for_each(|lease| pool.release(lease));
    assert!(pool.state.status().idle >= held);
    turns(|_| {
        let lease = pool.acquire(0);
        pool.release(lease);
    })
}

fn keys<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    for key in 0..held {
        let lease = pool.acquire(key);
        pool.release(lease);
    }
    assert!(pool.state.known_keys() >= held as usize);
    turns(|turn| {
        // Never the same twice, which would be found without looking.
        let lease = pool.acquire(turn.wrapping_mul(7) % held);
        pool.release(lease);
    })
}

fn leases<L: Lending<Connection = u32>>(pool: &mut Pool<L>, key: u32) -> Vec<(ConnectionId, L)> {
    let each = if L::SHARED { CAPACITY } else { 1 };
    (0..each).map(|_| pool.acquire(key)).collect()
}

/// The returned connection goes to the next waiter, and another caller comes to wait.
fn hand_over<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    let mut lease = leases(&mut pool, 0);
    for _ in 0..held {
        pool.wait(0);
    }
    turns(|_| {
        pool.wait(0);
        pool.release(lease.pop().expect("one is out"));
        let woken = pool.woken.take().expect("a waiter is woken");
        lease.push(pool.collect(woken));
    })
}

fn give_up<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    let _leases = leases(&mut pool, 0);
    let mut waiters: Vec<_> = (0..held).map(|_| pool.wait(0)).collect();
    turns(|_| {
        // From the middle of the queue, where a search would begin at either end.
        let middle = waiters.remove(waiters.len() / 2);
        pool.cancel(middle);
        waiters.push(pool.wait(0));
    })
}

/// All who wait are woken, try again in any order, and wait again until the deadline they came
/// with. The cost of one of them, `TURNS` times.
fn all_at_once<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    const WAVES: usize = 5;
    let mut leases = leases(&mut pool, 0);
    let mut waiters: Vec<_> = (0..held).map(|_| (pool.wait(0), pool.now.after(LONG))).collect();
    let mut wave = || {
        for (id, handle) in leases.drain(..) {
            let unfit = Fitness::Unfit(CloseCause::Broken);
            drop(pool.state.release(id, Some(handle), unfit, pool.now));
        }
        pool.settle();
        for turn in 0..held {
            let (waiter, deadline) = &mut waiters[(turn.wrapping_mul(7) % held) as usize];
            let mut answer = match pool.state.take_grant(*waiter).expect("every waiter is woken") {
                Answer::Retry => {
                    let want = Want { fresh: false, again: true };
                    pool.state.acquire_until(&Key(0), want, *deadline, pool.now)
                }
                answer @ (Answer::Lend(_) | Answer::Dial(_)) => answer,
                _ => panic!("nothing fails"),
            };
            // For each waiter that is served another caller comes.
            while let Answer::Lend(_) | Answer::Dial(_) = answer {
                leases.extend(match answer {
                    Answer::Lend(lent) => Some((lent.id, lent.handle)),
                    Answer::Dial(id) => pool.dialed(id),
                    _ => None,
                });
                pool.now = pool.now.after(Duration::from_micros(1));
                *deadline = pool.now.after(LONG);
                answer = pool.state.acquire_until(&Key(0), Want::default(), *deadline, pool.now);
            }
            let Answer::Wait(id) = answer else { panic!("no caller is refused") };
            *waiter = id;
            pool.settle();
        }
    };
    wave();
    let steps = taken(|| (0..WAVES).for_each(|_| wave()));
    steps * TURNS as usize / (WAVES * held as usize)
}

/// A connection comes back, and moves to the next of the keys that have no room.
fn starved_keys<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    let mut lease = vec![pool.acquire(ELSEWHERE)];
    for key in 0..held {
        pool.wait(key);
    }
    turns(|_| {
        let last = lease.pop().expect("one is out");
        let key = pool.state.key_of(last.0).expect("it is leased").0;
        pool.release(last);
        let woken = pool.woken.take().expect("the next key has its turn");
        lease.push(pool.collect(woken));
        pool.wait(key);
    })
}

fn waiters_elsewhere<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    let _leases = leases(&mut pool, ELSEWHERE);
    for _ in 0..held {
        pool.wait(ELSEWHERE);
    }
    turns(|_| {
        let lease = pool.acquire(0);
        pool.release(lease);
    })
}

fn leased_elsewhere<L: Lending<Connection = u32>>(mut pool: Pool<L>, held: u32) -> usize {
    let _leases: Vec<_> = (0..held).map(|_| pool.acquire(ELSEWHERE)).collect();
    turns(|_| {
        let lease = pool.acquire(0);
        pool.release(lease);
    })
}

#[test]
fn the_number_of_idle_connections_costs_nothing() {
    assert_flat::<Exclusive<u32>>("idle connections", unchanged, idle_connections);
    assert_flat::<Shared<u32>>("idle connections", unchanged, idle_connections);
}

#[test]
fn the_number_of_keys_costs_nothing() {
    assert_flat::<Exclusive<u32>>("keys", unchanged, keys);
    assert_flat::<Shared<u32>>("keys", unchanged, keys);
}

#[test]
fn the_number_of_waiters_costs_a_hand_over_nothing() {
    assert_flat::<Exclusive<u32>>("hand-over", |policy, _| limited(policy, 1), hand_over);
    assert_flat::<Shared<u32>>("hand-over", |policy, _| limited(policy, 1), hand_over);
    let what = "hand-over, the pool is full";
    assert_flat::<Exclusive<u32>>(what, |policy, _| limited_in_all(policy, 1), hand_over);
    assert_flat::<Shared<u32>>(what, |policy, _| limited_in_all(policy, 1), hand_over);
}

#[test]
fn giving_up_costs_the_same_with_more_waiters() {
    assert_flat::<Exclusive<u32>>("give up", |policy, _| limited(policy, 1), give_up);
    assert_flat::<Shared<u32>>("give up", |policy, _| limited(policy, 1), give_up);
}

#[test]
fn trying_again_costs_the_same_with_more_waiters() {
    let turned = |policy, _| Policy {
        waiter_order: WaiterOrder::AllAtOnce,
        adopt_dials: true,
        ..limited(policy, 1)
    };
    assert_flat::<Exclusive<u32>>("all at once", turned, all_at_once);
    assert_flat::<Shared<u32>>("all at once", turned, all_at_once);
}

#[test]
fn the_number_of_keys_without_room_costs_a_turn_nothing() {
    let what = "keys without room";
    assert_flat::<Exclusive<u32>>(what, |policy, _| limited_in_all(policy, 1), starved_keys);
    assert_flat::<Shared<u32>>(what, |policy, _| limited_in_all(policy, 1), starved_keys);
}

/// Looks at one idle connection after another, each with others that became idle before and after.
fn idle_looks(mut pool: Pool<Exclusive<u32>>, held: u32) -> usize {
    let leases: Vec<_> = (0..held).map(|_| pool.acquire(0)).collect();
    for lease in leases {
        pool.now = pool.now.after(Duration::from_micros(1));
        pool.release(lease);
    }
    turns(|turn| {
        let (mut place, mut places) = (turn % held, 1);
        let now = pool.now;
        let lent = pool.state.take_for_look(&mut place, &mut places, now, now).expect("idle");
        let _ = pool.state.put_back(lent, false, now);
        pool.settle();
    })
}

#[test]
fn the_number_of_idle_connections_costs_a_look_at_one_of_them_nothing() {
    assert_flat("idle looks", unchanged, idle_looks);
}

#[test]
fn waiters_for_another_key_cost_nothing() {
    let what = "waiters elsewhere";
    assert_flat::<Exclusive<u32>>(what, |policy, _| limited(policy, 1), waiters_elsewhere);
    assert_flat::<Shared<u32>>(what, |policy, _| limited(policy, 1), waiters_elsewhere);
}

#[test]
fn leases_of_another_key_cost_nothing() {
    assert_flat::<Exclusive<u32>>("leases elsewhere", unchanged, leased_elsewhere);
    assert_flat::<Shared<u32>>("leases elsewhere", unchanged, leased_elsewhere);
}

/// The steps of callers that come while the pool is full of dials that hang, each of which is the only hope
/// of a waiter.
fn steps_beside_hanging_dials(keys: u32) -> usize {
    let policy =
        Policy { dial: Dial::Shared, max_open: Some(keys), dial_ramp: None, ..Policy::default() };
    let mut pool = Pool::<Shared<u32>>::new(policy);
    for key in 0..keys {
        assert!(pool.ask(key).is_err(), "it waits");
    }
    let end = pool.now.after(Duration::from_millis(200));
    while pool.state.next_deadline() <= end {
        pool.now = pool.now.max(pool.state.next_deadline());
        pool.state.handle_timeout(pool.now);
    }
    // The first one looks at each of those dials.
    assert!(pool.ask(keys).is_err(), "it waits");
    turns(|turn| {
        assert!(pool.ask(keys + 1 + turn).is_err(), "it waits");
    })
}

#[test]
fn the_number_of_dials_that_hang_costs_a_caller_without_room_nothing() {
    let [few, many] = [FEW, MANY].map(steps_beside_hanging_dials);
    assert!(many <= 2 * few, "{few} steps beside few, {many} beside many");
}
