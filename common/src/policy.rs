//! The policy: one plain field for each question a connection pool has to answer.
//!
//! Two strategies differ exactly where their policies differ. The named policies are in
//! [`profile`](crate::profile); every field can also be set by name, see [`knob`](crate::knob).

mod choices;
mod limits;
mod precomputed;
mod validate;

use std::time::Duration;

pub use choices::{
    AfterFailedCheck, AfterFailedDial, AtLimit, Check, Dial, DialForWaiters, Expiry, Floor,
    IdleOrder, IdleOverflow, OrphanDial, Retry, WaiterOrder,
};
pub use limits::Limits;
pub(crate) use precomputed::Precomputed;

/// Every decision of a pool, as data.
///
/// `None` means "no limit". [`Policy::default`] is our own choice, for exclusive and shared
/// connections: newest first, bounded, checked by a peek, one deadline over everything, a lifetime with
/// jitter. Its dials race connections that come back; there are never more dials than waiting callers,
/// and they start no faster than connections prove to be needed.
///
/// A policy is checked when a pool is built, see [`validate`](Policy::validate).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Policy {
    /// Which idle connection goes out first. Default newest first.
    pub idle_order: IdleOrder,
    /// Cap on the leases of one shared connection, below what the peer allows. Default none.
    pub max_leases_per_connection: Option<u32>,

    /// Most connections open (idle + leased + dialing) for one key. Default 100.
    ///
    /// A running pool is paused with 0, here or in `max_open`: see
    /// [`Pool::set_limits`](crate::Pool::set_limits).
    pub max_open_per_key: Option<u32>,
    /// Most connections open over all keys. Default none.
    ///
    /// When the pool is full, a key without room gets it in turn. Idle connections of other keys are
    /// closed for it, as many as it needs. If none is idle, each caller that was waiting before gets a
    /// turn; then the next connection of another key that comes back is closed.
    pub max_open: Option<u32>,
    /// Most connections idle for one key; `Some(0)` keeps none. Default none.
    pub max_idle_per_key: Option<u32>,
    /// Most connections idle over all keys; above it the longest idle one of any key is closed. Default
    /// none.
    pub max_idle: Option<u32>,
    /// Which connection is closed at `max_idle_per_key`. Default the returned one.
    pub idle_overflow: IdleOverflow,

    /// Idle connections kept ready for each key, from its first acquire or
    /// [`warm_up`](crate::Pool::warm_up) on. Default 0.
    ///
    /// With [`Floor::Kept`] a key is not forgotten while its peer can be dialed. A key loses its floor
    /// when its peer cannot be dialed, and no caller asks for the key, for an hour
    /// ([`PATIENCE`](crate::state::PATIENCE)); the next caller brings the floor back. If keys
    /// come and go, leave it at 0.
    ///
    /// `idle_timeout` applies to these connections too: they are closed and replaced.
    ///
    /// A refill closes no other connection: if `max_idle` leaves no room, the floor is refilled when a
    /// dial or a close ends and makes room. `max_idle` keeps room for leased connections, which may
    /// come back.
    pub min_idle: u32,
    /// Whether that floor is refilled. Default kept.
    pub floor: Floor,

    /// Wait or fail when there is neither a connection nor room. Default wait. During an outage see
    /// [`wait_for_ready`](Policy::wait_for_ready).
    pub at_limit: AtLimit,
    /// Longest an acquire may take: queue, dial, handshake and check together. Default 30 s.
    pub acquire_timeout: Option<Duration>,
    /// Most callers that may wait for one key; the next caller fails at once. When connections are
    /// shared, waiters that the dials in progress will serve do not count: a dial is expected to serve
    /// as many as the last connection of the key did, and before the first connection all of them,
    /// unless dials fail. Default none.
    pub max_waiters: Option<u32>,
    /// Which waiter is served first. Default arrival.
    pub waiter_order: WaiterOrder,

    /// Which task dials for an acquire that finds no connection. Default racing.
    pub dial: Dial,
    /// With [`Dial::Caller`]: which task dials for waiters. Default the waiter.
    pub dial_for_waiters: DialForWaiters,
    /// What becomes of a dial that lost its waiter. Default stopped.
    pub orphan_dial: OrphanDial,
    /// With [`Dial::Racing`]: whether a new waiter takes over a dial that lost its waiter, instead
    /// of starting another. Default yes.
    pub adopt_dials: bool,
    /// Most dials in progress for one key. Default none.
    pub max_dials_per_key: Option<u32>,
    /// Most dials in progress over all keys, dials for floors included. It protects this process, whose
    /// handshakes cost CPU and sockets, when many keys start cold at once. Keys take turns. None of the
    /// surveyed pools bounds this over keys (go-redis, with one key, has MaxConcurrentDials). Default
    /// none.
    pub max_dials: Option<u32>,
    /// Most dials of one key that start within a second, dials for the floor included. It protects the
    /// peer, which may count or slow down logins, so it applies to each key. A second begins with the
    /// first dial after the last second has ended. Callers wait for the next second; a connection that
    /// comes back meanwhile serves them. None of the surveyed pools has it. Default none.
    pub max_dials_per_second: Option<u32>,
    /// A damped cold start: a key has no more dials in progress than it has connections, idle or
    /// leased, but always one. So an empty pool opens 1, 2, 4, ... connections. A caller that a
    /// returned connection can serve costs no new one, and callers that need n connections get them
    /// after log2(n) more dial times. A dial that takes longer than this step holds back no caller any
    /// more: it counts as a connection, so that a slow or hanging dial costs one step instead of its
    /// whole time. With [`AfterFailedDial::Tell`] a failed dial counts as a connection too; with the
    /// other choices, failures pause dials.
    ///
    /// A caller that is held back waits, even with [`Dial::Caller`]. It is served by a connection that
    /// comes back, or gets permission to dial (with [`DialForWaiters::Opener`] one caller after another).
    /// It does not count for `max_waiters` or `at_limit` while the limits have room for it. Dials for
    /// the floor are not held back. Default 100 ms; none starts all dials at once.
    pub dial_ramp: Option<Duration>,
    /// Hedging: a dial that takes longer than usual holds up no caller that could have a second dial. A
    /// dial is overdue after this time, or after twice the time that dials of its key have taken lately,
    /// whichever is longer. Then a second dial (a hedge) starts for the waiter, if the limits have room,
    /// and the first of the two to succeed serves the waiter; no later caller takes the overdue dial
    /// over. At most two dials for each waiter are in progress. A caller that dials in its own task
    /// ([`Dial::Caller`]) gets no hedge.
    ///
    /// Default 100 ms. With none each waiter depends on its dial for up to `dial_timeout`, as in the
    /// surveyed pools. The idea comes from RFC 8305, and from hedged requests (Dean and Barroso, "The
    /// Tail at Scale").
    pub dial_hedge: Option<Duration>,
    /// Longest a dial may take, handshakes included. Default 10 s.
    pub dial_timeout: Duration,

    /// Whether an idle connection is looked at, without waiting, before it is lent, and now and then
    /// between leases where the manager asks for it
    /// ([`Manager::idle_look_interval`](crate::Manager::idle_look_interval)). Default yes.
    pub peek: bool,
    /// When an idle connection is checked by a round trip. Default never.
    pub check: Check,
    /// How long a connection has to be idle for [`Check::IfIdleLonger`]. Default 60 s.
    pub check_after: Duration,
    /// Longest a check may take. Default 5 s.
    pub check_timeout: Duration,
    /// Whether a check that failed or took too long is evidence against the other connections that were
    /// idle at that time. A failed peek never is, because looking at the next connection costs nothing.
    /// Default distrust.
    pub after_failed_check: AfterFailedCheck,
    /// After this many connections in a row have failed their peek or check, an acquire dials even
    /// if more are idle. Default none: the acquire goes on to the next connection, unless
    /// `after_failed_check` makes it dial after the first failed check.
    pub max_failed_checks: Option<u32>,

    /// How long a connection may stay idle. Default 90 s. For a connection whose peer allows less see
    /// [`Lease::set_idle_limit`](crate::Lease::set_idle_limit).
    pub idle_timeout: Option<Duration>,
    /// Whether `idle_timeout` applies only to connections above `min_idle`, as with HikariCP's
    /// `idleTimeout`. Otherwise the connections of an unused floor are closed and dialed again after
    /// each timeout. An idle limit that the connection reports, and its lifetime, apply in any case. Use
    /// this with a `peek` or a `check`. Default no.
    pub idle_timeout_spares_floor: bool,
    /// How old a connection may become; a leased connection ends when it is returned. Default 30 min. A
    /// lifetime below `lifetime_jitter` needs a shorter jitter; without a lifetime the jitter has to be
    /// zero.
    pub max_lifetime: Option<Duration>,
    /// How often a connection may be lent. An exclusive connection is closed after its last lease; a
    /// shared one takes no new lease from then on. For servers whose sessions grow with each request, or
    /// to spread load over new backends (Envoy's `max_requests_per_connection`, pg-pool's `maxUses`).
    /// Default none.
    pub max_uses: Option<u32>,
    /// Each connection's lifetime is moved by up to this much, either way. Default 3 min.
    pub lifetime_jitter: Duration,
    /// When expired connections are closed. Default by timer.
    pub expiry: Expiry,
    /// Pause between sweeps, with [`Expiry::Sweep`]. Default 10 s.
    pub sweep_interval: Duration,

    /// Which callers a failed dial fails, and when the next dial may start. Default back-off.
    ///
    /// When a shared connection has ended that never allowed a lease (an HTTP/2 server without streams),
    /// the next dial of its key waits whatever is chosen here, at least 100 ms and then as the pauses below
    /// grow. Callers wait meanwhile.
    pub after_failed_dial: AfterFailedDial,
    /// How many dials in a row have to fail first. Default 3.
    pub back_off_after: u32,
    /// First pause. Default 100 ms.
    pub back_off_base: Duration,
    /// The factor of each further pause; at least 1. With 1.25 a pause lasts 100 ms (the first
    /// pause) plus a quarter of the outage so far; with 1.6 it would be 60 % of the outage. Default 1.25.
    pub back_off_factor: f64,
    /// Longest pause, jitter included. Default 1 s: a peer that is back serves callers again within a
    /// second, and a peer that stays down is dialed about once a second.
    pub back_off_max: Duration,
    /// Each pause but the first is moved by up to this share, either way; 0 to 1. Default 0.2.
    pub back_off_jitter: f64,
    /// With [`AfterFailedDial::BackOff`]: an acquire that finds dials paused waits, if the pause ends
    /// within this time and within half of the time that the acquire has left. It is then served, or
    /// told that the next dial failed as well. An acquire that finds a longer pause fails at once with
    /// [`Error::BackingOff`](crate::Error::BackingOff). Default 1 s. With none every acquire fails at once.
    pub wait_out_pauses: Option<Duration>,
    /// With [`AfterFailedDial::BackOff`]: whether acquires wait through every pause and every failed
    /// dial, for as long as `acquire_timeout` allows. Default no. Set it if callers should wait while the
    /// server restarts. A caller that dials in its own task ([`Dial::Caller`]) is told when that dial
    /// fails: no other dial runs for it.
    pub wait_for_ready: bool,

    /// Longest a reset may take when a connection comes back. Default 1 s.
    pub reset_timeout: Duration,
    /// Longest the close of a connection may take. Default 1 s.
    pub close_timeout: Duration,

    /// Which failed requests are sent again, by the clients of this workspace. Default never.
    pub retry: Retry,
    /// Attempts of one request, the first included. Default 3.
    pub retry_attempts: u32,
    /// Shortest delay before a further attempt, with [`Retry::Attempts`]. Default 10 ms.
    pub retry_back_off_min: Duration,
    /// Longest delay before a further attempt. Default 1 s.
    pub retry_back_off_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle_order: IdleOrder::NewestFirst,
            max_leases_per_connection: None,
            max_open_per_key: Some(100),
            max_open: None,
            max_idle_per_key: None,
            max_idle: None,
            idle_overflow: IdleOverflow::CloseReturned,
            min_idle: 0,
            floor: Floor::Kept,
            at_limit: AtLimit::Wait,
            acquire_timeout: Some(Duration::from_secs(30)),
            max_waiters: None,
            waiter_order: WaiterOrder::Arrival,
            dial: Dial::Racing,
            dial_for_waiters: DialForWaiters::Waiter,
            orphan_dial: OrphanDial::Stopped,
            adopt_dials: true,
            max_dials_per_key: None,
            max_dials: None,
            max_dials_per_second: None,
            dial_ramp: Some(Duration::from_millis(100)),
            dial_hedge: Some(Duration::from_millis(100)),
            dial_timeout: Duration::from_secs(10),
            peek: true,
            check: Check::Never,
            check_after: Duration::from_secs(60),
            check_timeout: Duration::from_secs(5),
            after_failed_check: AfterFailedCheck::Distrust,
            max_failed_checks: None,
            idle_timeout: Some(Duration::from_secs(90)),
            idle_timeout_spares_floor: false,
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            max_uses: None,
            lifetime_jitter: Duration::from_secs(3 * 60),
            expiry: Expiry::Timer,
            sweep_interval: Duration::from_secs(10),
            after_failed_dial: AfterFailedDial::BackOff,
            back_off_after: 3,
            back_off_base: Duration::from_millis(100),
            back_off_factor: 1.25,
            back_off_max: Duration::from_secs(1),
            back_off_jitter: 0.2,
            wait_out_pauses: Some(Duration::from_secs(1)),
            wait_for_ready: false,
            reset_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(1),
            retry: Retry::Never,
            retry_attempts: 3,
            retry_back_off_min: Duration::from_millis(10),
            retry_back_off_max: Duration::from_secs(1),
        }
    }
}
