//! The command that proves that a connection is in step, chosen by the user's permissions.
//!
//! A check and a reset end with a question whose answer cannot be the late reply to another command.
//! `PING` with a random word is the best one, since every server knows it. A user of an access control list (Redis
//! 6 and later) may not be allowed to run it. Then `ECHO` serves as well, and `HELLO` without
//! arguments, which every user may run. Without that, each check would cost a dial and each reset the
//! connection, and no error would say why.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::{
    key::Key,
    pipeline::Pipeline,
    value::{ServerError, ServerErrorKind, Value},
};

/// A question, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// `PING` with a word.
    Ping,
    /// `ECHO` with a word.
    Echo,
    /// `HELLO`, answered with properties of the server. The answer has no random word, but no other
    /// command has an answer like it.
    Hello,
}

pub(crate) type Word = [u8; 16];

impl Probe {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Echo => "ECHO",
            Self::Hello => "HELLO",
        }
    }

    pub(crate) fn ask(self, word: &Word, commands: &mut Pipeline) {
        match self {
            Self::Ping | Self::Echo => commands.add(&[self.name().as_bytes(), word]),
            Self::Hello => commands.add(&[self.name()]),
        };
    }

    pub(crate) fn is_answered_by(self, reply: &Value, word: &Word) -> bool {
        let is_server =
            |key: Option<&Value>| key.and_then(Value::as_bytes).is_some_and(|key| key == "server");
        match (self, reply) {
            (Self::Ping | Self::Echo, Value::Bulk(echo)) => echo[..] == *word,
            // The answer to a subscriber in RESP2.
            (Self::Ping, Value::Array(items)) => match &items[..] {
                [Value::Bulk(pong), Value::Bulk(echo)] => pong == "pong" && echo[..] == *word,
                _ => false,
            },
            (Self::Hello, Value::Map(entries)) => is_server(entries.first().map(|(key, _)| key)),
            (Self::Hello, Value::Array(items)) => is_server(items.first()),
            _ => false,
        }
    }

    fn next(self) -> Option<Self> {
        match self {
            Self::Ping => Some(Self::Echo),
            Self::Echo => Some(Self::Hello),
            Self::Hello => None,
        }
    }
}

/// The known permissions of the user, shared by the connections of a manager, so that each fact is
/// learned and logged once. With several users the strictest permissions apply to all, which works for
/// each of them.
#[derive(Debug, Default)]
pub(crate) struct Permissions {
    /// How many probes are not allowed.
    forbidden: AtomicU8,
    undo_told: AtomicBool,
}

impl Permissions {
    pub(crate) fn probe(&self) -> Probe {
        match self.forbidden.load(Ordering::Relaxed) {
            0 => Probe::Ping,
            1 => Probe::Echo,
            _ => Probe::Hello,
        }
    }

    /// Whether `reply` says that the user may not run `probe`, and there is another probe. Logs it the
    /// first time.
    pub(crate) fn forbids(&self, probe: Probe, reply: &Value, key: &Key) -> bool {
        let Some(next) = probe.next() else { return false };
        if !matches!(reply, Value::Error(error) if error.kind() == ServerErrorKind::NoPermission) {
            return false;
        }
        if self.forbidden.fetch_max(next as u8, Ordering::Relaxed) < next as u8 {
            tracing::warn!(
                target: "resp_pool", %key, user = user_of(key), command = probe.name(),
                instead = next.name(),
                "the user may not run the command that checks connections, another is used",
            );
        }
        true
    }

    /// A reset failed because the server does not let the user run a command that it needs.
    pub(crate) fn undo_refused(&self, refusal: &ServerError, key: &Key) {
        if !self.undo_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "resp_pool", %key, user = user_of(key), %refusal,
                "the user may not run a command that brings sessions back to neutral; every \
                 connection that needs it is closed when it is returned",
            );
        }
    }
}

fn user_of(key: &Key) -> &str {
    key.username().unwrap_or("default")
}

/// Sixteen hexadecimal digits that no earlier command can have sent.
pub(crate) fn random_word() -> Word {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u64(..);
    std::array::from_fn(|index| DIGITS[(random >> (4 * index)) as usize & 15])
}
