//! The effects of commands on the session. An effect counts once the reply confirms the command.

/// The kinds of subscription a server keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// `SUBSCRIBE`.
    Channel,
    /// `PSUBSCRIBE`.
    Pattern,
    /// `SSUBSCRIBE` (Redis 7).
    Shard,
}

/// A command's effect on the session. Recognised by name in any letter case, like the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    /// `None` when the argument is not a number we understand.
    Select(Option<u32>),
    Auth,
    Hello,
    Reset,
    Quit,
    Monitor,
    /// `CLIENT REPLY OFF` or `SKIP`: replies no longer match commands.
    MuteReplies,
    /// `CLIENT SETNAME`; false when it is ours and brings the key's name back.
    ClientName(bool),
    Tracking(bool),
    NoEvict(bool),
    NoTouch(bool),
    ReadOnly(bool),
    Asking,
    /// `SYNC`, `PSYNC`, `REPLCONF`: the connection turns into a replication stream.
    Replication,
    /// A setting that lasts and that nothing undoes for certain: `SCRIPT DEBUG`, Valkey's
    /// `CLIENT CAPA` and `CLIENT IMPORT-SOURCE`.
    Lasting,
    Subscription {
        kind: SubscriptionKind,
        subscribe: bool,
        /// Confirmations still to come; `None` before the first one of an unsubscribe from
        /// everything.
        left: Option<u32>,
    },
}

impl Effect {
    /// Looks the command up. `part` gives the arguments, of which there are `count` with the name.
    pub(crate) fn of<'a>(
        name: &[u8],
        part: impl Fn(usize) -> Option<&'a [u8]>,
        count: usize,
    ) -> Self {
        // GET, SET, DEL, INCR, PING, HGET, LPUSH and the like leave here.
        if !matches!(name.len(), 4..=12) || !may_have_effect(name) {
            return Self::None;
        }
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let argument_is = |index, word: &str| {
            part(index).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()))
        };
        let subscription = |kind, subscribe| Self::Subscription {
            kind,
            subscribe,
            left: match u32::try_from(count - 1) {
                Ok(0) | Err(_) => None,
                Ok(channels) => Some(channels),
            },
        };
        match name.len() {
            4 if is("EXEC") => Self::Exec,
            4 if is("AUTH") => Self::Auth,
            4 if is("QUIT") => Self::Quit,
            4 if is("SYNC") => Self::Replication,
            5 if is("MULTI") => Self::Multi,
            5 if is("WATCH") => Self::Watch,
            // Without arguments it only tells.
            5 if is("HELLO") && count > 1 => Self::Hello,
            5 if is("RESET") => Self::Reset,
            5 if is("PSYNC") => Self::Replication,
            6 if is("SELECT") => Self::Select(part(1).and_then(number)),
            6 if is("ASKING") => Self::Asking,
            6 if is("SCRIPT") && argument_is(1, "DEBUG") => Self::Lasting,
            6 if is("CLIENT") => {
                let on = argument_is(2, "ON");
                match () {
                    () if argument_is(1, "REPLY") && !on => Self::MuteReplies,
                    () if argument_is(1, "SETNAME") => Self::ClientName(true),
                    () if argument_is(1, "TRACKING") => Self::Tracking(on),
                    () if argument_is(1, "NO-EVICT") => Self::NoEvict(on),
                    () if argument_is(1, "NO-TOUCH") => Self::NoTouch(on),
                    () if argument_is(1, "CAPA") => Self::Lasting,
                    () if argument_is(1, "IMPORT-SOURCE") => Self::Lasting,
                    () => Self::None,
                }
            }
            7 if is("DISCARD") => Self::Discard,
            7 if is("UNWATCH") => Self::Unwatch,
            7 if is("MONITOR") => Self::Monitor,
            8 if is("READONLY") => Self::ReadOnly(true),
            8 if is("REPLCONF") => Self::Replication,
            9 if is("READWRITE") => Self::ReadOnly(false),
            9 if is("SUBSCRIBE") => subscription(SubscriptionKind::Channel, true),
            10 if is("PSUBSCRIBE") => subscription(SubscriptionKind::Pattern, true),
            10 if is("SSUBSCRIBE") => subscription(SubscriptionKind::Shard, true),
            11 if is("UNSUBSCRIBE") => subscription(SubscriptionKind::Channel, false),
            12 if is("PUNSUBSCRIBE") => subscription(SubscriptionKind::Pattern, false),
            12 if is("SUNSUBSCRIBE") => subscription(SubscriptionKind::Shard, false),
            _ => Self::None,
        }
    }

    /// A name for messages, of the effects that are refused somewhere.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MuteReplies => "CLIENT REPLY",
            Self::Monitor => "MONITOR",
            Self::Replication => "a replication command",
            Self::Multi => "MULTI",
            Self::Exec => "EXEC",
            Self::Discard => "DISCARD",
            Self::Watch => "WATCH",
            Self::Reset => "RESET",
            Self::Quit => "QUIT",
            Self::Hello => "HELLO",
            Self::Subscription { .. } => "a subscription",
            _ => "the command",
        }
    }
}

/// Whether the first letter fits any command of the table.
fn may_have_effect(name: &[u8]) -> bool {
    matches!(
        name[0].to_ascii_uppercase(),
        b'A' | b'C' | b'D' | b'E' | b'H' | b'M' | b'P' | b'Q' | b'R' | b'S' | b'U' | b'W'
    )
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::effect_of;

    #[test]
    fn commands_are_recognised_in_any_letter_case() {
        for name in ["MULTI", "multi", "MuLtI"] {
            assert_eq!(effect_of(&[name]), Effect::Multi);
        }
        assert_eq!(effect_of(&["select", "7"]), Effect::Select(Some(7)));
        assert_eq!(effect_of(&["SELECT", "x"]), Effect::Select(None));
        assert_eq!(effect_of(&["client", "reply", "off"]), Effect::MuteReplies);
        assert_eq!(effect_of(&["client", "reply", "on"]), Effect::None);
        assert_eq!(effect_of(&["CLIENT", "TRACKING", "on"]), Effect::Tracking(true));
        assert_eq!(effect_of(&["READWRITE"]), Effect::ReadOnly(false));
        assert_eq!(effect_of(&["HELLO", "2"]), Effect::Hello);
        assert_eq!(effect_of(&["HELLO"]), Effect::None);
        for harmless in ["GET", "EXPIRE", "PING", "CLIENT", "SETEX", "DISCARDED", ""] {
            assert_eq!(effect_of(&[harmless]), Effect::None, "{harmless}");
        }
    }

    #[test]
    fn a_subscription_counts_its_confirmations() {
        let kind = SubscriptionKind::Channel;
        assert_eq!(
            effect_of(&["SUBSCRIBE", "a", "b"]),
            Effect::Subscription { kind, subscribe: true, left: Some(2) }
        );
        assert_eq!(
            effect_of(&["UNSUBSCRIBE"]),
            Effect::Subscription { kind, subscribe: false, left: None }
        );
    }
}
