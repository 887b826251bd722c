//! Every field of a [`Policy`] by name, as text: for command lines, reports and experiments that
//! change one knob of a known strategy.

use std::time::Duration;

use crate::policy::{
    AfterFailedCheck, AfterFailedDial, AtLimit, Check, Dial, DialForWaiters, Expiry, Floor,
    IdleOrder, IdleOverflow, OrphanDial, Policy, Retry, WaiterOrder,
};

/// A field of a policy: its name, the question it answers, the values it accepts.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// The field's name in [`Policy`].
    pub name: &'static str,
    /// The question of the policy table it belongs to.
    pub question: Question,
    /// What it decides, in a few words.
    pub about: &'static str,
    /// What it accepts.
    pub accepts: Accepts,
    get: fn(&Policy) -> String,
    set: fn(&mut Policy, &str) -> Option<()>,
}

/// The questions every connection pool has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Question {
    /// Which idle connection goes out first?
    IdleOrder,
    /// How many may be open?
    OpenLimit,
    /// How many may be idle?
    IdleLimit,
    /// How many are kept ready?
    Floor,
    /// What happens at the limit?
    AtLimit,
    /// Which waiter is served first?
    WaiterOrder,
    /// Which task dials, and when?
    Dial,
    /// What becomes of a dial that lost its caller?
    OrphanDial,
    /// Is a connection checked before it is lent?
    Check,
    /// When is a connection too old?
    Age,
    /// What follows a failed dial?
    AfterFailedDial,
    /// How long may the end of a lease take?
    Return,
    /// Which requests are sent again?
    Retry,
}

impl Question {
    /// The question in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::IdleOrder => "which idle connection goes out first",
            Self::OpenLimit => "how many may be open",
            Self::IdleLimit => "how many may be idle",
            Self::Floor => "how many are kept ready",
            Self::AtLimit => "what happens at the limit",
            Self::WaiterOrder => "who is served first",
            Self::Dial => "who dials",
            Self::OrphanDial => "what becomes of a dial that lost its caller",
            Self::Check => "is a connection checked before it is lent",
            Self::Age => "when is a connection too old",
            Self::AfterFailedDial => "what follows a failed dial",
            Self::Return => "how long may the end of a lease take",
            Self::Retry => "which requests are sent again",
        }
    }
}

/// The values a knob accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// A whole number.
    Count,
    /// A whole number, or `none`.
    Limit,
    /// A decimal number.
    Number,
    /// A duration such as `250ms`, `90s` or `30min`.
    Span,
    /// A duration, or `none`.
    SpanLimit,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
}

impl std::fmt::Display for Accepts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count => f.write_str("a whole number"),
            Self::Limit => f.write_str("a whole number, or none"),
            Self::Number => f.write_str("a decimal number"),
            Self::Span => f.write_str("a duration such as 250ms, 90s or 30min"),
            Self::SpanLimit => f.write_str("a duration such as 250ms, 90s or 30min, or none"),
            Self::Flag => f.write_str("true or false"),
            Self::Words(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// Why a knob was not set. The message names the accepted values, or the knob that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KnobError {
    /// There is no such knob.
    #[error("unknown knob '{name}'; did you mean {nearest}?")]
    Unknown {
        /// The name given.
        name: String,
        /// The knob with the most similar name.
        nearest: &'static str,
    },
    /// The knob does not accept the value.
    #[error("knob {name} does not accept '{value}'; it takes {accepts}")]
    Value {
        /// The knob.
        name: &'static str,
        /// The value given.
        value: String,
        /// What it accepts.
        accepts: String,
    },
}

/// How values of one type are written and read.
trait Value: Sized {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

impl Value for u32 {
    fn write(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for f64 {
    fn write(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl Value for bool {
    fn write(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for Duration {
    fn write(&self) -> String {
        humantime::format_duration(*self).to_string().replace(' ', "")
    }
    fn read(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok()
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::write)
    }
    fn read(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { T::read(text).map(Some) }
    }
}

macro_rules! words {
    ($($name:ident),+) => {$(
        impl Value for $name {
            fn write(&self) -> String { self.word().to_owned() }
            fn read(text: &str) -> Option<Self> { $name::from_word(text) }
        }
    )+};
}

words!(
    IdleOrder,
    IdleOverflow,
    Floor,
    AtLimit,
    WaiterOrder,
    Dial,
    DialForWaiters,
    OrphanDial,
    Check,
    AfterFailedCheck,
    Expiry,
    AfterFailedDial,
    Retry
);

macro_rules! knobs {
    ($($question:ident: $field:ident, $accepts:expr, $about:literal;)+) => {
        /// Every knob, in the order of the questions.
        pub const KNOBS: &[Knob] = &[$(Knob {
            name: stringify!($field),
            question: Question::$question,
            about: $about,
            accepts: $accepts,
            get: |policy| Value::write(&policy.$field),
            set: |policy, text| {
                policy.$field = Value::read(text)?;
                Some(())
            },
        },)+];

        /// Fails to compile when a field of the policy has no knob.
        const _: fn(Policy) = |policy| { let Policy { $($field: _,)+ } = policy; };
    };
}

knobs! {
    IdleOrder: idle_order, Accepts::Words(IdleOrder::WORDS), "which idle connection is lent first";
    OpenLimit: max_open_per_key, Accepts::Limit, "connections open for one key";
    OpenLimit: max_open, Accepts::Limit, "connections open over all keys";
    OpenLimit: max_leases_per_connection, Accepts::Limit, "leases of one shared connection";
    IdleLimit: max_idle_per_key, Accepts::Limit, "connections idle for one key";
    IdleLimit: max_idle, Accepts::Limit, "connections idle over all keys";
    IdleLimit: idle_overflow, Accepts::Words(IdleOverflow::WORDS), "which one is closed at the idle limit";
    Floor: min_idle, Accepts::Count, "idle connections kept ready";
    Floor: floor, Accepts::Words(Floor::WORDS), "whether the floor is refilled";
    AtLimit: at_limit, Accepts::Words(AtLimit::WORDS), "wait or fail";
    AtLimit: acquire_timeout, Accepts::SpanLimit, "longest an acquire may take";
    AtLimit: max_waiters, Accepts::Limit, "callers that may wait for one key";
    WaiterOrder: waiter_order, Accepts::Words(WaiterOrder::WORDS), "which waiter is served first";
    Dial: dial, Accepts::Words(Dial::WORDS), "who dials for an acquire that found no connection";
    Dial: dial_for_waiters, Accepts::Words(DialForWaiters::WORDS), "who dials for waiters when room appears";
    Dial: max_dials_per_key, Accepts::Limit, "dials in progress for one key";
    Dial: max_dials, Accepts::Limit, "dials in progress over all keys";
    Dial: max_dials_per_second, Accepts::Limit, "dials of one key that start within a second";
    Dial: dial_ramp, Accepts::SpanLimit, "damped cold start: one more dial for each connection, or after this time";
    Dial: dial_hedge, Accepts::SpanLimit, "a second dial for a waiter whose dial takes longer than this and than usual";
    Dial: dial_timeout, Accepts::Span, "longest a dial may take";
    OrphanDial: orphan_dial, Accepts::Words(OrphanDial::WORDS), "what becomes of a dial without a waiter";
    OrphanDial: adopt_dials, Accepts::Flag, "whether a new waiter takes over a dial without one";
    Check: peek, Accepts::Flag, "a look at an idle connection, without waiting";
    Check: check, Accepts::Words(Check::WORDS), "a round trip before lending";
    Check: check_after, Accepts::Span, "idle time after which a connection is checked";
    Check: check_timeout, Accepts::Span, "longest a check may take";
    Check: after_failed_check, Accepts::Words(AfterFailedCheck::WORDS), "whether it closes other idle connections too";
    Check: max_failed_checks, Accepts::Limit, "failed peeks or checks in a row after which an acquire dials";
    Age: idle_timeout, Accepts::SpanLimit, "longest a connection may be idle";
    Age: idle_timeout_spares_floor, Accepts::Flag, "whether min_idle connections may be idle for longer";
    Age: max_lifetime, Accepts::SpanLimit, "oldest a connection may become";
    Age: max_uses, Accepts::Limit, "how often a connection may be lent";
    Age: lifetime_jitter, Accepts::Span, "how far each lifetime is moved, either way";
    Age: expiry, Accepts::Words(Expiry::WORDS), "when expired connections are closed";
    Age: sweep_interval, Accepts::Span, "pause between sweeps";
    AfterFailedDial: after_failed_dial, Accepts::Words(AfterFailedDial::WORDS), "which callers fail, when the next dial may start";
    AfterFailedDial: back_off_after, Accepts::Count, "failures in a row before dials pause";
    AfterFailedDial: back_off_base, Accepts::Span, "first pause";
    AfterFailedDial: back_off_factor, Accepts::Number, "factor of each further pause";
    AfterFailedDial: back_off_max, Accepts::Span, "longest pause";
    AfterFailedDial: back_off_jitter, Accepts::Number, "share by which a pause is moved, either way";
    AfterFailedDial: wait_out_pauses, Accepts::SpanLimit, "longest pause that an acquire waits for instead of failing";
    AfterFailedDial: wait_for_ready, Accepts::Flag, "wait through every pause and failed dial";
    Return: reset_timeout, Accepts::Span, "longest a reset may take";
    Return: close_timeout, Accepts::Span, "longest a close may take";
    Retry: retry, Accepts::Words(Retry::WORDS), "which failed requests are sent again";
    Retry: retry_attempts, Accepts::Count, "attempts of one request, the first included";
    Retry: retry_back_off_min, Accepts::Span, "shortest delay before a further attempt";
    Retry: retry_back_off_max, Accepts::Span, "longest delay before a further attempt";
}

impl Knob {
    /// The knob with this name.
    pub fn find(name: &str) -> Option<&'static Knob> {
        KNOBS.iter().find(|knob| knob.name == name)
    }

    /// The value of this knob in `policy`, as [`Policy::set`] reads it.
    pub fn value(&self, policy: &Policy) -> String {
        (self.get)(policy)
    }
}

impl Policy {
    /// Sets a field by name: `policy.set("idle_timeout", "90s")`.
    ///
    /// This checks the value alone; [`Policy::validate`] checks it against the other fields.
    ///
    /// # Errors
    /// [`KnobError`] when there is no such field, or it does not accept the value; the policy is
    /// then unchanged.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), KnobError> {
        let knob = Knob::find(name)
            .ok_or_else(|| KnobError::Unknown { name: name.to_owned(), nearest: nearest(name) })?;
        (knob.set)(self, value).ok_or_else(|| KnobError::Value {
            name: knob.name,
            value: value.to_owned(),
            accepts: knob.accepts.to_string(),
        })
    }
}

/// The knob whose name needs the fewest single-letter edits to become `name`.
fn nearest(name: &str) -> &'static str {
    KNOBS.iter().map(|knob| knob.name).min_by_key(|known| edits(known, name)).unwrap_or_default()
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_reads_the_value_that_it_writes() {
        for knob in KNOBS {
            let mut policy = Policy::default();
            let written = knob.value(&policy);
            policy.set(knob.name, &written).expect(knob.name);
            assert_eq!(policy, Policy::default(), "{}", knob.name);
        }
    }

    #[test]
    fn setting_a_knob_changes_only_its_field() {
        let mut policy = Policy::default();
        policy.set("idle_timeout", "none").expect("a limit");
        policy.set("max_open_per_key", "7").expect("a limit");
        policy.set("waiter_order", "random").expect("a word");
        let expected = Policy {
            idle_timeout: None,
            max_open_per_key: Some(7),
            waiter_order: WaiterOrder::Random,
            ..Policy::default()
        };
        assert_eq!(policy, expected);
    }

    #[test]
    fn errors_for_a_wrong_name_or_value_tell_what_is_accepted() {
        let mut policy = Policy::default();
        let error = policy.set("max_opn", "1").expect_err("no such knob");
        assert_eq!(error.to_string(), "unknown knob 'max_opn'; did you mean max_open?");
        let error = policy.set("dial", "nobody").expect_err("no such word");
        assert_eq!(
            error.to_string(),
            "knob dial does not accept 'nobody'; it takes one of caller, detached, racing, shared"
        );
        let error = policy.set("min_idle", "-1").expect_err("no such count");
        assert!(error.to_string().contains("a whole number"), "{error}");
        let error = policy.set("back_off_factor", "NaN").expect_err("not a number");
        assert!(error.to_string().contains("decimal"), "{error}");
        assert_eq!(policy, Policy::default());
    }
}
