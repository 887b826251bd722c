//! The changes of a borrower to the session of a connection, learned from the server's replies.
//!
//! A command that was sent proves nothing: the server may have refused a `MULTI`, queued a
//! `SELECT`, or aborted the `EXEC`. So each command waits in a queue together with its [`Effect`],
//! and the effect happens here when the reply says that it happened. redigo sets its flags when a
//! command is sent and knows four of them (`WATCH`, `MULTI`, subscriptions, `MONITOR`); in redigo the
//! other changes in the table below leak to the next borrower.

use crate::{
    effect::{Effect, SubscriptionKind},
    pipeline::Pipeline,
    value::{ServerError, Value},
};

/// The state of a session, as far as it matters to the next borrower of the connection.
///
/// | left behind | when the connection is returned |
/// |---|---|
/// | `MULTI` | `DISCARD` |
/// | `WATCH` | `UNWATCH` |
/// | subscriptions | `UNSUBSCRIBE`, `PUNSUBSCRIBE`, `SUNSUBSCRIBE`, those that are needed |
/// | another database | `SELECT` back |
/// | `CLIENT SETNAME`, `TRACKING`, `NO-EVICT`, `NO-TOUCH`, `READONLY` | set back |
/// | `ASKING` | spent on a `PING` |
/// | replies not read yet | read away, within bounds |
/// | `MONITOR`, `CLIENT REPLY OFF`, `SCRIPT DEBUG`, replication | the connection is discarded |
/// | `AUTH`, `HELLO` with arguments, `RESET`, `QUIT`, even refused | the connection is discarded |
/// | a reply `READONLY`, `MASTERDOWN`, `ERR max number of clients reached` or `MOVED` to the address that was dialed | the connection is discarded |
/// | nothing but `LOADING` for 1 s or longer | the connection is discarded |
#[derive(Clone, Debug)]
pub struct Session {
    /// The database the key asks for.
    home: u32,
    database: u32,
    multi: bool,
    /// Commands queued since `MULTI`, and those among them that will have an effect.
    queued: usize,
    queued_effects: Vec<(usize, Effect)>,
    watching: bool,
    channels: u32,
    patterns: u32,
    shards: u32,
    renamed: bool,
    tracking: bool,
    no_evict: bool,
    no_touch: bool,
    read_only: bool,
    asking: bool,
    monitoring: bool,
    /// `MONITOR` is on its way.
    will_monitor: bool,
    /// The protocol version is 3.
    resp3: bool,
    unfit: Option<&'static str>,
}

impl Session {
    /// The session of a fresh connection in database `home`.
    pub(crate) fn new(home: u32) -> Self {
        Self {
            home,
            database: home,
            multi: false,
            queued: 0,
            queued_effects: Vec::new(),
            watching: false,
            channels: 0,
            patterns: 0,
            shards: 0,
            renamed: false,
            tracking: false,
            no_evict: false,
            no_touch: false,
            read_only: false,
            asking: false,
            monitoring: false,
            will_monitor: false,
            resp3: false,
            unfit: None,
        }
    }

    /// The session after a handshake that succeeded: the same protocol version, and all else as the
    /// key asks for.
    pub(crate) fn after_handshake(&self) -> Self {
        Self { resp3: self.resp3, ..Self::new(self.home) }
    }

    /// Whether nothing has to be undone before the next borrower.
    pub fn is_neutral(&self) -> bool {
        self.unfit.is_none()
            && self.database == self.home
            && !(self.multi || self.watching || self.is_subscribed())
            && !(self.renamed || self.tracking || self.no_evict || self.no_touch)
            && !(self.read_only || self.asking)
    }

    /// Why the connection cannot be returned at all, if it cannot.
    pub fn unfit(&self) -> Option<&'static str> {
        self.unfit
    }

    /// Whether a transaction is open (`MULTI` without `EXEC` or `DISCARD`).
    pub fn in_transaction(&self) -> bool {
        self.multi
    }

    /// Whether keys are watched.
    pub fn is_watching(&self) -> bool {
        self.watching
    }

    /// Whether there is any subscription.
    pub fn is_subscribed(&self) -> bool {
        self.channels > 0 || self.patterns > 0 || self.shards > 0
    }

    /// The database that is selected now.
    pub fn database(&self) -> u32 {
        self.database
    }

    pub(crate) fn is_monitoring(&self) -> bool {
        self.monitoring
    }

    pub(crate) fn expect_monitor(&mut self) {
        self.will_monitor = true;
    }

    /// Whether the stream of `MONITOR` runs, or will run when all commands on their way are carried out.
    pub(crate) fn may_monitor(&self) -> bool {
        self.monitoring || self.will_monitor
    }

    /// Whether the server may send something between two calls.
    pub(crate) fn brings_messages(&self) -> bool {
        self.is_subscribed() || self.tracking || self.monitoring
    }

    /// Whether the protocol version is 3, learned from the form of the reply to `HELLO`.
    pub(crate) fn speaks_resp3(&self) -> bool {
        self.resp3
    }

    pub(crate) fn set_unfit(&mut self, reason: &'static str) {
        self.unfit.get_or_insert(reason);
    }

    /// A command's reply came.
    #[inline]
    pub(crate) fn apply(&mut self, effect: Effect, reply: &Value) {
        if effect != Effect::None || self.multi || self.asking {
            self.apply_slowly(effect, reply);
        }
    }

    fn apply_slowly(&mut self, effect: Effect, reply: &Value) {
        self.asking = false;
        match effect {
            // Whatever the reply is: Redis 7.0 carries out the AUTH and the SETNAME of a HELLO that
            // it then refuses for a later word, and a queued one is carried out soon enough.
            Effect::Auth => self.set_unfit("AUTH changed the user"),
            Effect::Hello => self.set_unfit("HELLO changed the protocol or the user"),
            Effect::Reset => self.set_unfit("RESET took the user and the protocol away"),
            Effect::Quit => self.set_unfit("QUIT ended the connection"),
            Effect::Monitor => self.will_monitor = false,
            _ => {}
        }
        match (effect, reply) {
            // Otherwise a refusal changes nothing, except that transactions end with some of them.
            (Effect::Exec, Value::Error(error)) => {
                if ends_transaction(error) {
                    self.end_transaction();
                }
            }
            (Effect::Discard, Value::Error(error)) => {
                if error.message().contains("without MULTI") {
                    self.end_transaction();
                }
            }
            (_, Value::Error(_)) => {}
            (Effect::Exec, reply) => {
                let effects = std::mem::take(&mut self.queued_effects);
                self.end_transaction();
                if let Value::Array(replies) = reply {
                    for (index, effect) in effects {
                        match replies.get(index) {
                            Some(reply) => self.happened(effect, reply),
                            None => self.set_unfit("EXEC answered fewer commands than were queued"),
                        }
                    }
                }
            }
            (effect, Value::Simple(text)) if self.multi && &text[..] == b"QUEUED" => {
                if effect != Effect::None {
                    self.queued_effects.push((self.queued, effect));
                }
                self.queued += 1;
            }
            (effect, reply) => self.happened(effect, reply),
        }
    }

    /// The effect took place.
    fn happened(&mut self, effect: Effect, reply: &Value) {
        if matches!(reply, Value::Error(_)) {
            return;
        }
        match effect {
            Effect::None | Effect::Exec => {}
            Effect::Multi => self.multi = true,
            Effect::Discard => self.end_transaction(),
            Effect::Watch => self.watching = true,
            Effect::Unwatch => self.watching = false,
            Effect::Select(Some(database)) => self.database = database,
            Effect::Select(None) => self.set_unfit("SELECT of an unknown database"),
            Effect::Auth | Effect::Quit => {}
            Effect::Hello => match reply {
                Value::Map(_) => self.resp3 = true,
                Value::Array(_) => self.resp3 = false,
                _ => {}
            },
            Effect::Reset => {
                self.end_transaction();
                self.resp3 = false;
            }
            Effect::Monitor => {
                self.monitoring = true;
                self.set_unfit("MONITOR cannot be left");
            }
            Effect::MuteReplies => self.set_unfit("CLIENT REPLY silenced replies"),
            Effect::Replication => self.set_unfit("the connection carries a replication stream"),
            Effect::Lasting => self.set_unfit("a setting that nothing undoes was changed"),
            Effect::ClientName(changed) => self.renamed = changed,
            Effect::Tracking(on) => self.tracking = on,
            Effect::NoEvict(on) => self.no_evict = on,
            Effect::NoTouch(on) => self.no_touch = on,
            Effect::ReadOnly(on) => self.read_only = on,
            Effect::Asking => self.asking = true,
            // Confirmed one by one, except inside a transaction, where they cannot be told apart.
            Effect::Subscription { .. } => self.set_unfit("a subscription inside a transaction"),
        }
    }

    fn end_transaction(&mut self) {
        self.multi = false;
        self.watching = false;
        self.queued = 0;
        self.queued_effects.clear();
    }

    /// How many subscriptions of one kind there are.
    pub(crate) fn subscriptions(&self, kind: SubscriptionKind) -> u32 {
        match kind {
            SubscriptionKind::Channel => self.channels,
            SubscriptionKind::Pattern => self.patterns,
            SubscriptionKind::Shard => self.shards,
        }
    }

    /// A confirmation of a subscription or its end came. `total` is the server's count after it:
    /// channels and patterns together, or shard channels.
    /// Returns whether it changed anything.
    pub(crate) fn confirm(&mut self, kind: SubscriptionKind, subscribe: bool, total: i64) -> bool {
        let known = match kind {
            SubscriptionKind::Shard => i64::from(self.shards),
            _ => i64::from(self.channels) + i64::from(self.patterns),
        };
        let count = match kind {
            SubscriptionKind::Channel => &mut self.channels,
            SubscriptionKind::Pattern => &mut self.patterns,
            SubscriptionKind::Shard => &mut self.shards,
        };
        // Subscribing twice to the same channel does not count twice.
        let before = *count;
        if subscribe && total > known {
            *count = count.saturating_add(1);
        } else if !subscribe && total < known {
            *count = count.saturating_sub(1);
        }
        *count != before
    }

    /// The commands that bring this session back to neutral, as far as commands can. `name` is the
    /// client name that the key asks for.
    pub(crate) fn undo(&self, name: &str, database: &str) -> Pipeline {
        let mut commands = Pipeline::new();
        let mut add = |needed: bool, words: &[&str]| {
            if needed {
                commands.add(words);
            }
        };
        // First end the transaction, which would keep the other commands from being carried out.
        add(self.multi, &["DISCARD"]);
        add(self.watching && !self.multi, &["UNWATCH"]);
        add(self.channels > 0, &["UNSUBSCRIBE"]);
        add(self.patterns > 0, &["PUNSUBSCRIBE"]);
        add(self.shards > 0, &["SUNSUBSCRIBE"]);
        add(self.tracking, &["CLIENT", "TRACKING", "OFF"]);
        add(self.no_evict, &["CLIENT", "NO-EVICT", "OFF"]);
        add(self.no_touch, &["CLIENT", "NO-TOUCH", "OFF"]);
        add(self.read_only, &["READWRITE"]);
        add(self.database != self.home, &["SELECT", database]);
        if self.renamed {
            commands.add_as(Effect::ClientName(false), &["CLIENT", "SETNAME", name]);
        }
        commands
    }
}

/// Whether a refused `EXEC` left no transaction behind. Other refusals may come before the server
/// looks at it.
fn ends_transaction(error: &ServerError) -> bool {
    error.code() == "EXECABORT" || error.message().contains("without MULTI")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn simple(text: &'static str) -> Value {
        Value::Simple(Bytes::from_static(text.as_bytes()))
    }

    fn error(text: &str) -> Value {
        Value::Error(ServerError::from_line(text.as_bytes()))
    }

    #[test]
    fn effects_happen_with_the_reply_and_not_with_a_refusal() {
        let mut session = Session::new(0);
        session.apply(Effect::Multi, &error("ERR MULTI calls can not be nested"));
        session.apply(Effect::Select(Some(99)), &error("ERR DB index is out of range"));
        assert!(session.is_neutral());
        session.apply(Effect::Select(Some(3)), &simple("OK"));
        assert_eq!(session.database(), 3);
        let mut expected = Pipeline::new();
        expected.add(&["SELECT", "0"]);
        assert_eq!(session.undo("", "0").encoded(), expected.encoded());
    }

    #[test]
    fn queued_effects_happen_at_exec() {
        let mut session = Session::new(0);
        session.apply(Effect::Multi, &simple("OK"));
        session.apply(Effect::None, &simple("QUEUED"));
        session.apply(Effect::None, &error("ERR unknown command"));
        session.apply(Effect::Select(Some(2)), &simple("QUEUED"));
        assert_eq!(session.database(), 0);
        session.apply(Effect::Exec, &Value::Array(vec![simple("OK"), simple("OK")]));
        assert_eq!(session.database(), 2);
        assert!(!session.in_transaction());
    }

    #[test]
    fn an_aborted_transaction_has_no_effects_and_ends_the_watch() {
        let mut session = Session::new(0);
        session.apply(Effect::Watch, &simple("OK"));
        session.apply(Effect::Multi, &simple("OK"));
        session.apply(Effect::Select(Some(2)), &simple("QUEUED"));
        session.apply(Effect::Exec, &Value::Null);
        assert!(session.is_neutral());
    }

    #[test]
    fn an_exec_refused_for_another_reason_may_leave_the_transaction_open() {
        let mut session = Session::new(0);
        session.apply(Effect::Multi, &simple("OK"));
        session.apply(Effect::Exec, &error("LOADING the dataset"));
        assert!(session.in_transaction());
        session.apply(Effect::Discard, &error("ERR DISCARD without MULTI"));
        assert!(session.is_neutral());
    }

    #[test]
    fn subscriptions_are_counted_by_the_servers_totals() {
        let mut session = Session::new(0);
        session.confirm(SubscriptionKind::Channel, true, 1);
        session.confirm(SubscriptionKind::Channel, true, 1);
        session.confirm(SubscriptionKind::Pattern, true, 2);
        session.confirm(SubscriptionKind::Shard, true, 1);
        assert_eq!(session.subscriptions(SubscriptionKind::Channel), 1);
        assert_eq!(session.undo("", "0").len(), 3);
        session.confirm(SubscriptionKind::Channel, false, 1);
        session.confirm(SubscriptionKind::Pattern, false, 0);
        session.confirm(SubscriptionKind::Shard, false, 0);
        assert!(session.is_neutral());
    }

    #[test]
    fn a_change_that_cannot_be_undone_makes_the_session_unfit() {
        for effect in [Effect::Auth, Effect::Hello, Effect::Monitor, Effect::Reset, Effect::Quit] {
            let mut session = Session::new(0);
            session.apply(effect, &simple("OK"));
            assert!(session.unfit().is_some(), "{effect:?}");
        }
    }

    #[test]
    fn a_refused_hello_makes_the_session_unfit_and_other_refusals_do_not() {
        for effect in [Effect::Auth, Effect::Hello, Effect::Reset, Effect::Quit] {
            for reply in [error("ERR Syntax error in HELLO option 'BOGUS'"), simple("QUEUED")] {
                let mut session = Session::new(0);
                session.apply(effect, &reply);
                assert!(session.unfit().is_some(), "{effect:?} {reply:?}");
            }
        }
        for effect in [Effect::Multi, Effect::Watch, Effect::Tracking(true), Effect::Monitor] {
            let mut session = Session::new(0);
            session.apply(effect, &error("NOPERM"));
            assert!(session.is_neutral(), "{effect:?}");
        }
    }

    #[test]
    fn the_reply_to_hello_tells_the_protocol_version() {
        let mut session = Session::new(0);
        assert!(!session.speaks_resp3());
        session.apply(Effect::Hello, &Value::Map(Vec::new()));
        assert!(session.speaks_resp3());
        session.apply(Effect::Hello, &error("NOPROTO"));
        assert!(session.speaks_resp3() && session.after_handshake().speaks_resp3());
        session.apply(Effect::Hello, &Value::Array(Vec::new()));
        assert!(!session.speaks_resp3());
    }

    #[test]
    fn asking_lasts_for_one_command() {
        let mut session = Session::new(0);
        session.apply(Effect::Asking, &simple("OK"));
        assert!(!session.is_neutral());
        session.apply(Effect::None, &simple("PONG"));
        assert!(session.is_neutral());
    }
}
