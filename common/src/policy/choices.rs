//! The possible answers to those questions of the policy that are answered by a word, not a number.

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
        /// The connection returned last: few connections stay hot, the others expire.
        NewestFirst = "newest-first",
        /// The connection returned first: load is spread and every connection stays warm.
        OldestFirst = "oldest-first",
        /// Of the connections that have room, the one dialed first. For shared lending: it fills one
        /// connection before the next. With exclusive lending the same as oldest first.
        FirstWithRoom = "first-with-room",
        /// Any connection, uniformly at random from the pool's seed: load is spread, whatever the order
        /// in which a backend's connections come back. Idle limits and timeouts close the
        /// longest idle one, as with the other orders.
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
    /// Is the floor `min_idle` refilled?
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
        /// The waiter that came first.
        Arrival = "arrival",
        /// Any waiter, uniformly at random from the pool's seed.
        Random = "random",
        /// A new connection is lent to as many waiters as it has room for, in order of arrival; all
        /// others are woken, try again and lose their place in the queue. A single lease that becomes
        /// free goes to the waiter that came first.
        AllAtOnce = "all-at-once",
    }
}

choices! {
    /// Which task dials for an acquire that found no connection, when there is room?
    Dial {
        /// The caller, in its own task and under its own deadline. Dropping it drops the dial.
        Caller = "caller",
        /// A task of the pool. The caller waits only for that dial, or for one whose caller left.
        Detached = "detached",
        /// A task of the pool. The dial races connections that come back; the first one serves the caller.
        Racing = "racing",
        /// A task of the pool, one dial at a time for each key, which serves every waiter it can.
        Shared = "shared",
    }
}

choices! {
    /// With [`Dial::Caller`]: which task dials when room appears while callers wait?
    DialForWaiters {
        /// The waiter itself: it is granted permission to dial.
        Waiter = "waiter",
        /// A task of the pool for each waiter; a connection that comes back may still be faster.
        Background = "background",
        /// One task of the pool, for one waiter after another.
        Opener = "opener",
    }
}

choices! {
    /// What becomes of a background dial whose waiter left, or was served by another connection?
    OrphanDial {
        /// Its connection serves another waiter or becomes idle.
        Kept = "kept",
        /// Its connection serves a waiter if there is one, else it is closed.
        Dropped = "dropped",
        /// It is stopped when its waiter was served by another connection and no caller waits without a
        /// dial. The pool stops at most as many dials as it has opened connections for waiters, so that
        /// a pool with slightly too few connections grows. A dial whose waiter left is kept: a waiter
        /// that leaves unserved has not shown that the connection was not needed. A dial for all
        /// waiters ([`Dial::Shared`]) and a dial of the opener are kept too.
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
    /// Is a failed check evidence against the other idle connections of its key?
    AfterFailedCheck {
        /// No: the acquire takes the next connection and checks it. After an outage in which every
        /// idle connection died silently, one acquire can pay `check_timeout` for each of them.
        Next = "next",
        /// Yes: all connections that were idle when the check began are closed at once. The acquire
        /// goes on to a fresh connection, if the limits allow one. Connections that came back while the
        /// check ran have just worked, and stay. A check that its caller's own deadline cut short
        /// counts as failed only when it took longer than dials usually do.
        Distrust = "distrust",
    }
}

choices! {
    /// When is an expired connection closed, one that is past `idle_timeout` or its lifetime?
    ///
    /// An expired connection is never lent, whatever the choice.
    Expiry {
        /// When it would be lent; a connection that no caller asks for stays (go-redis).
        AtAcquire = "at-acquire",
        /// At every acquire, from the longest idle one on, up to the first that has not expired (redigo).
        PruneAtAcquire = "prune-at-acquire",
        /// When it expires, by a timer (net/http).
        Timer = "timer",
        /// Every `sweep_interval` (database/sql; the reaper of go-redis v8).
        Sweep = "sweep",
    }
}

choices! {
    /// Which callers does a failed dial fail, and when may the next dial start?
    AfterFailedDial {
        /// Its own caller; the next dial may start at once.
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
        /// No request.
        Never = "never",
        /// A request whose *reused* connection died before the first byte of an answer, if the request
        /// can be replayed (net/http).
        ReusedAndReplayable = "reused-and-replayable",
        /// An idempotent request, at most `retry_attempts` attempts, without a delay (fasthttp).
        Idempotent = "idempotent",
        /// Any request, idempotent or not, at most `retry_attempts` attempts, with a jittered
        /// delay (go-redis). This holds in `http1-pool` only: `h2-shared` repeats only idempotent
        /// requests, and `resp-pool` only commands that read or were certainly not carried out. A request
        /// that the peer carried out before the connection died is carried out again; choose this only
        /// if that is acceptable. A request that cannot be replayed, such as one whose body was
        /// read from a stream, is not sent again.
        Attempts = "attempts",
        /// A request whose connection was bad before the request was sent: `retry_attempts` - 1 pooled
        /// connections, then a fresh one (database/sql).
        BadConnection = "bad-connection",
        /// A request that the peer says it did not process: GOAWAY, REFUSED_STREAM (HTTP/2).
        Unprocessed = "unprocessed",
    }
}
