//! The metrics and their names: the table of the module's page, in code.

use ::metrics::Unit;

use crate::policy::Policy;
use crate::stats::{Stats, Status};

/// The naming convention under which a pool reports, and the pool's name.
///
/// Given to [`Builder::metrics`](crate::Builder::metrics).
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) convention: Convention,
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
}

impl Metrics {
    /// The names for database clients (`db.client.connection.*`), for a pool called `name`. The
    /// name should be unique in the program.
    pub fn db(name: impl Into<String>) -> Self {
        Self { convention: Convention::Db, name: name.into(), labels: Vec::new() }
    }

    /// The names for HTTP clients (`http.client.*`), for a pool called `name`. The name should be
    /// unique in the program.
    pub fn http_client(name: impl Into<String>) -> Self {
        Self { convention: Convention::HttpClient, name: name.into(), labels: Vec::new() }
    }

    /// Adds a label to every metric of this pool, `server.address` for example. Default none.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    Db,
    HttpClient,
}

/// A name in each convention.
#[derive(Clone, Copy)]
pub(super) struct Name {
    db: &'static str,
    http_client: &'static str,
}

impl Name {
    const fn new(db: &'static str, http_client: &'static str) -> Self {
        Self { db, http_client }
    }

    /// Our own name, since no convention has one.
    const fn own(name: &'static str) -> Self {
        Self::new(name, name)
    }

    pub(super) fn under(self, convention: Convention) -> &'static str {
        match convention {
            Convention::Db => self.db,
            Convention::HttpClient => self.http_client,
        }
    }
}

/// The label that holds the pool's name.
pub(super) fn pool_label(metric: &str) -> &'static str {
    if metric.starts_with("db.") { "db.client.connection.pool.name" } else { "pool.name" }
}

/// The label of a close's cause.
pub(super) const CAUSE: &str = "pool.close.cause";

/// A metric: its name, unit and description.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    pub(super) name: Name,
    pub(super) unit: Unit,
    pub(super) about: &'static str,
}

impl Measure {
    const fn count(name: Name, about: &'static str) -> Self {
        Self { name, unit: Unit::Count, about }
    }

    const fn seconds(name: Name, about: &'static str) -> Self {
        Self { name, unit: Unit::Seconds, about }
    }
}

/// A number that can be read from a `T` at any time.
pub(super) struct Row<T> {
    pub(super) measure: Measure,
    /// Distinguishes rows of one measure.
    pub(super) label: Option<(Name, Name)>,
    pub(super) read: fn(&T) -> u64,
}

const fn row<T>(measure: Measure, read: fn(&T) -> u64) -> Row<T> {
    Row { measure, label: None, read }
}

const fn labelled<T>(measure: Measure, key: Name, value: Name, read: fn(&T) -> u64) -> Row<T> {
    Row { measure, label: Some((key, value)), read }
}

const CONNECTIONS: Measure = Measure::count(
    Name::new("db.client.connection.count", "http.client.open_connections"),
    "Connections in the state that the label names",
);
const STATE: Name = Name::new("db.client.connection.state", "http.connection.state");

/// Numbers that go up and down.
pub(super) const GAUGES: &[Row<Status>] = &[
    labelled(CONNECTIONS, STATE, Name::own("idle"), |status| status.idle.into()),
    labelled(CONNECTIONS, STATE, Name::new("used", "active"), |status| status.leased.into()),
    row(
        Measure::count(
            Name::new("db.client.connection.pending_requests", "pool.connection.pending_requests"),
            "Callers waiting for a connection",
        ),
        |status| status.waiting.into(),
    ),
    row(Measure::count(Name::own("pool.connection.dialing"), "Dials in progress"), |status| {
        status.dialing.into()
    }),
    row(Measure::count(Name::own("pool.connection.closing"), "Closes in progress"), |status| {
        status.closing.into()
    }),
    row(
        Measure::count(
            Name::own("pool.connection.draining"),
            "Shared connections that take no new leases and wait for theirs to end",
        ),
        |status| status.draining.into(),
    ),
    row(Measure::count(Name::own("pool.leases"), "Leases in use"), |status| status.leases.into()),
];

const LEASES: Measure = Measure::count(Name::own("pool.leases.granted"), "Leases granted");
const REUSED: Name = Name::own("pool.lease.reused");

/// Numbers that only grow.
pub(super) const COUNTERS: &[Row<Stats>] = &[
    labelled(LEASES, REUSED, Name::own("true"), |stats| stats.reused),
    labelled(LEASES, REUSED, Name::own("false"), |stats| stats.leased - stats.reused),
    row(Measure::count(Name::own("pool.dials"), "Dials started"), |stats| stats.dials),
    row(
        Measure::count(Name::own("pool.dials.failed"), "Dials that failed or were given up"),
        |stats| stats.dials_failed,
    ),
    row(Measure::count(Name::own("pool.acquires.waited"), "Acquires that had to wait"), |stats| {
        stats.waited
    }),
    row(
        Measure::count(
            Name::own("pool.acquires.gave_up"),
            "Waits that ended because the caller left, timeouts included",
        ),
        |stats| stats.gave_up,
    ),
    row(Measure::count(Name::own("pool.acquires.refused"), "Acquires refused at once"), |stats| {
        stats.refused
    }),
];

/// One counter for each cause.
pub(super) const CLOSED: Measure =
    Measure::count(Name::own("pool.connection.closed"), "Connections closed, by cause");

/// Counted when an acquire times out; not part of [`Stats`].
pub(super) const TIMEOUTS: Measure = Measure::count(
    Name::new("db.client.connection.timeouts", "pool.connection.timeouts"),
    "Acquires that timed out",
);

pub(super) const CREATE_TIME: Measure = Measure::seconds(
    Name::new("db.client.connection.create_time", "pool.connection.create_time"),
    "How long it took to open a connection",
);
pub(super) const WAIT_TIME: Measure = Measure::seconds(
    Name::new("db.client.connection.wait_time", "pool.connection.wait_time"),
    "How long it took to get a connection from the pool",
);
pub(super) const USE_TIME: Measure = Measure::seconds(
    Name::new("db.client.connection.use_time", "pool.connection.use_time"),
    "How long a connection was lent",
);
pub(super) const DURATION: Measure = Measure::seconds(
    Name::new("pool.connection.duration", "http.client.connection.duration"),
    "How long a connection was open",
);

/// A limit of the policy. A limit that is not set is not reported.
pub(super) struct Limit {
    pub(super) measure: Measure,
    pub(super) scope: &'static str,
    pub(super) read: fn(&Policy) -> Option<u32>,
}

/// The label of a limit's scope.
pub(super) const SCOPE: &str = "pool.limit.scope";

const MAX: Measure = Measure::count(
    Name::new("db.client.connection.max", "pool.connection.max"),
    "Most connections that may be open",
);
const IDLE_MAX: Measure = Measure::count(
    Name::new("db.client.connection.idle.max", "pool.connection.idle.max"),
    "Most connections that may be idle",
);
const IDLE_MIN: Measure = Measure::count(
    Name::new("db.client.connection.idle.min", "pool.connection.idle.min"),
    "Idle connections that are kept ready",
);

pub(super) const LIMITS: [Limit; 5] = [
    Limit { measure: MAX, scope: "pool", read: |policy| policy.max_open },
    Limit { measure: MAX, scope: "key", read: |policy| policy.max_open_per_key },
    Limit { measure: IDLE_MAX, scope: "pool", read: |policy| policy.max_idle },
    Limit { measure: IDLE_MAX, scope: "key", read: |policy| policy.max_idle_per_key },
    Limit {
        measure: IDLE_MIN,
        scope: "key",
        read: |policy| (policy.min_idle > 0).then_some(policy.min_idle),
    },
];
