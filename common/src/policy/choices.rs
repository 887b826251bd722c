//! The answers that a question of the policy can have, where they are words and not numbers.

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The words of every value, as knobs and reports write them.
            pub const WORDS: &'static [&'static str] = &[$($word,)+];

            /// The word knobs and reports use for this value.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value with this word, if there is one.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

choices! {
    /// Which idle connection goes out first?
    IdleOrder {
        /// The one returned last: few connections stay hot, the tail expires.
        NewestFirst = "newest-first",
        /// The one returned first: load is spread and every connection stays warm.
        OldestFirst = "oldest-first",
        /// The connection dialed first that has room; for shared lending, where it fills one
        /// connection before the next. With exclusive lending the same as oldest first.
        FirstWithRoom = "first-with-room",
        /// Any connection, uniformly at random from the pool's seed: load is spread, and when the
        /// connections of a backend come back does not matter. Idle limits and timeouts close the
        /// longest idle, as with the other orders.
        Random = "random",
    }
}

choices! {
    /// Which connection is closed when a return exceeds `max_idle_per_key`?
    IdleOverflow {
        /// The connection being returned (net/http, go-redis, database/sql).
        CloseReturned = "close-returned",
        /// The one that has been idle longest; the returned one stays (redigo).
        CloseOldest = "close-oldest",
    }
}

choices! {
    /// How long does the floor `min_idle` hold?
    Floor {
        /// Refilled in the background whenever fewer are idle.
        Kept = "kept",
        /// Dialed once, when the key is first used (silenceper's InitialCap).
        Once = "once",
    }
}

choices! {
    /// What happens to an acquire that finds no connection and no room to dial one?
    AtLimit {
        /// It waits, at most `acquire_timeout`.
        Wait = "wait",
        /// It fails at once.
        Fail = "fail",
    }
}

choices! {
    /// Which waiter is served first?
    WaiterOrder {
        /// The one that came first.
        Arrival = "arrival",
        /// Any, uniformly at random from the pool's seed.
        Random = "random",
        /// A new connection wakes all: as many as it has room for get it, the others try again and
        /// lose their place. A single place that becomes free goes to the one that came first.
        AllAtOnce = "all-at-once",
    }
}

choices! {
    /// Who dials for an acquire that found nothing, when there is room?
    Dial {
        /// The caller, in its own task and under its own deadline. Dropping it drops the dial.
        Caller = "caller",
        /// A task of the pool. The caller waits for that dial (or one whose caller left) only.
        Detached = "detached",
        /// A task of the pool, racing a connection that comes back meanwhile; the first wins.
        Racing = "racing",
        /// A task of the pool, one dial at a time for each key, which serves every waiter it can.
        Shared = "shared",
    }
}

choices! {
    /// With [`Dial::Caller`]: who dials when room appears while callers wait?
    DialForWaiters {
        /// The waiter itself: it is granted leave to dial.
        Waiter = "waiter",
        /// A task of the pool for each waiter; a connection that comes back may still win.
        Background = "background",
        /// One task of the pool, one dial after another.
        Opener = "opener",
    }
}

choices! {
    /// What becomes of a background dial whose waiter was served otherwise, or left?
    OrphanDial {
        /// Its connection serves another waiter or becomes idle.
        Kept = "kept",
        /// Its connection serves a waiter if there is one, else it is closed.
        Dropped = "dropped",
        /// It is stopped when its waiter was served by another connection and no caller waits without a
        /// dial. At most as many are stopped as connections were opened for waiters, so that a
        /// pool at the edge of its demand grows. Kept when its waiter left: a waiter that leaves
        /// unserved has not shown that the connection was not needed. A dial for all waiters
        /// ([`Dial::Shared`]) and the opener's are kept.
        Stopped = "stopped",
    }
}

choices! {
    /// When is an idle connection checked by a round trip before it is lent?
    Check {
        /// Never.
        Never = "never",
        /// Before each lending.
        Always = "always",
        /// When it has been idle longer than `check_after`.
        IfIdleLonger = "if-idle-longer",
    }
}

choices! {
    /// What does a failed check say of the other idle connections of its key?
    AfterFailedCheck {
        /// Nothing: the next one is taken, and checked in turn. After an outage in which every
        /// idle connection died silently, one acquire can pay `check_timeout` for each of them.
        Next = "next",
        /// Connections that were idle when the check began are suspect, too, and are closed all at
        /// once. The acquire goes on to a fresh connection, where the limits allow one. Connections
        /// that came back while the check ran have just worked, and stay. A check that its caller's own
        /// deadline cut short counts as failed only when it took longer than dials usually do.
        Distrust = "distrust",
    }
}

choices! {
    /// When is a connection closed that is past `idle_timeout` or its lifetime?
    ///
    /// An expired connection is never lent, whatever the choice.
    Expiry {
        /// When it would be lent; a connection that no caller asks for stays (go-redis).
        AtAcquire = "at-acquire",
        /// At every acquire, from the longest idle on, until one is still good (redigo).
        PruneAtAcquire = "prune-at-acquire",
        /// When its time has come, by a timer (net/http).
        Timer = "timer",
        /// Every `sweep_interval` (database/sql; the reaper of go-redis v8).
        Sweep = "sweep",
    }
}

choices! {
    /// Who hears of a failed dial, and when is the next allowed?
    AfterFailedDial {
        /// Its caller is told; the next dial may start at once.
        Tell = "tell",
        /// After `back_off_after` failures in a row every acquire that needs a dial fails at once,
        /// while the pool probes in the background (go-redis).
        FailFast = "fail-fast",
        /// After `back_off_after` failures in a row dials pause, longer each time (gRPC).
        BackOff = "back-off",
    }
}

choices! {
    /// Which failed requests does a client of this workspace send again?
    Retry {
        /// None.
        Never = "never",
        /// Those whose *reused* connection died before the first byte of an answer, if they can be
        /// replayed (net/http).
        ReusedAndReplayable = "reused-and-replayable",
        /// Idempotent ones, at most `retry_attempts` attempts, no delay (fasthttp).
        Idempotent = "idempotent",
        /// Any, whether or not it is idempotent, at most `retry_attempts` attempts, with a jittered
        /// delay (go-redis). In `http1-pool` only: `h2-shared` keeps to idempotent requests, and
        /// `resp-pool` to commands that read or were certainly not carried out. A request that the peer carried out before the connection died is carried
        /// out again: the risk is the user's. Only what cannot be replayed, such as a body that
        /// was read from a stream, is not sent again.
        Attempts = "attempts",
        /// Those whose connection was bad before they were sent: `retry_attempts` - 1 pooled
        /// connections, then a fresh one (database/sql).
        BadConnection = "bad-connection",
        /// Those the peer says it did not process: GOAWAY, REFUSED_STREAM (HTTP/2).
        Unprocessed = "unprocessed",
    }
}
