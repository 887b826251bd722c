//! Subscriptions: confirmations, messages, and waiting for them.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    command::{Command, cmd},
    connection::Connection,
    effect::SubscriptionKind,
    error::{Error, ProtocolError},
    incoming::Incoming,
    value::Value,
    wire::Wait,
};

/// A message that was published to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which kind of subscription brought it.
    pub kind: SubscriptionKind,
    /// The pattern that matched, for a pattern subscription.
    pub pattern: Option<Bytes>,
    /// The channel it was published to.
    pub channel: Bytes,
    /// What was published.
    pub payload: Bytes,
}

impl Message {
    /// Reads a push (RESP3) or an array (RESP2) as a message; `None` when it is something else.
    pub fn from_value(value: &Value) -> Option<Self> {
        let bytes = |value: &Value| value.as_bytes().cloned();
        match value.as_slice()? {
            [word, channel, payload] => {
                let kind = match &word.as_bytes()?[..] {
                    b"message" => SubscriptionKind::Channel,
                    b"smessage" => SubscriptionKind::Shard,
                    _ => return None,
                };
                Some(Self {
                    kind,
                    pattern: None,
                    channel: bytes(channel)?,
                    payload: bytes(payload)?,
                })
            }
            [word, pattern, channel, payload] if &word.as_bytes()?[..] == b"pmessage" => {
                Some(Self {
                    kind: SubscriptionKind::Pattern,
                    pattern: Some(bytes(pattern)?),
                    channel: bytes(channel)?,
                    payload: bytes(payload)?,
                })
            }
            _ => None,
        }
    }
}

/// The server says that a subscription began or ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmation {
    pub(crate) kind: SubscriptionKind,
    pub(crate) subscribe: bool,
    pub(crate) total: i64,
}

pub(crate) fn confirmation(items: &[Value]) -> Option<Confirmation> {
    let [word, _, Value::Integer(total)] = items else {
        return None;
    };
    let (kind, subscribe) = match &word.as_bytes()?[..] {
        b"subscribe" => (SubscriptionKind::Channel, true),
        b"psubscribe" => (SubscriptionKind::Pattern, true),
        b"ssubscribe" => (SubscriptionKind::Shard, true),
        b"unsubscribe" => (SubscriptionKind::Channel, false),
        b"punsubscribe" => (SubscriptionKind::Pattern, false),
        b"sunsubscribe" => (SubscriptionKind::Shard, false),
        _ => return None,
    };
    Some(Confirmation { kind, subscribe, total: *total })
}

pub(crate) fn is_message(items: &[Value]) -> bool {
    match items {
        [Value::Bulk(word), _, _] => matches!(&word[..], b"message" | b"smessage"),
        [Value::Bulk(word), _, _, _] => &word[..] == b"pmessage",
        _ => false,
    }
}

/// Subscriptions of a borrowed connection. They end when it is returned.
impl Connection {
    /// Subscribes to channels; complete when every one is confirmed. Messages are kept for
    /// [`receive_message`](Self::receive_message) from then on.
    ///
    /// With RESP2 a subscribed connection takes no ordinary commands until everything is
    /// unsubscribed.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn subscribe(&mut self, channels: &[&str]) -> Result<(), Error> {
        self.subscription(cmd("SUBSCRIBE"), channels).await
    }

    /// Subscribes to patterns (`PSUBSCRIBE`); otherwise like [`subscribe`](Self::subscribe).
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn psubscribe(&mut self, patterns: &[&str]) -> Result<(), Error> {
        self.subscription(cmd("PSUBSCRIBE"), patterns).await
    }

    /// Subscribes to shard channels (`SSUBSCRIBE`, Redis 7); otherwise like
    /// [`subscribe`](Self::subscribe).
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn ssubscribe(&mut self, channels: &[&str]) -> Result<(), Error> {
        self.subscription(cmd("SSUBSCRIBE"), channels).await
    }

    /// Ends subscriptions to channels; to all of them when the list is empty.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn unsubscribe(&mut self, channels: &[&str]) -> Result<(), Error> {
        self.subscription(cmd("UNSUBSCRIBE"), channels).await
    }

    /// Ends subscriptions to patterns; to all of them when the list is empty.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn punsubscribe(&mut self, patterns: &[&str]) -> Result<(), Error> {
        self.subscription(cmd("PUNSUBSCRIBE"), patterns).await
    }

    async fn subscription(&mut self, command: Command, names: &[&str]) -> Result<(), Error> {
        self.query(&command.arg(names)).await
    }

    /// The next message, or `None` when none came within `limit`. Other pushes on the way are
    /// dropped.
    ///
    /// # Errors
    /// As for [`receive_push`](Self::receive_push).
    ///
    /// # Cancel safety
    /// Cancel-safe: no message is lost.
    pub async fn receive_message(&mut self, limit: Duration) -> Result<Option<Message>, Error> {
        let mut wait = Wait::after(Some(limit));
        while let Some(push) = self.push_before(&mut wait).await? {
            if let Some(message) = Message::from_value(&push) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next thing the server sends on its own (a message, an invalidation, a line of
    /// `MONITOR`), or `None` when nothing came within `limit`.
    ///
    /// # Errors
    /// [`Error::Refused`] while replies are owed to commands of [`send`](Self::send); [`Error::Io`]
    /// or [`Error::Protocol`] end the connection.
    ///
    /// # Cancel safety
    /// Cancel-safe: nothing that was read is lost.
    pub async fn receive_push(&mut self, limit: Duration) -> Result<Option<Value>, Error> {
        self.push_before(&mut Wait::after(Some(limit))).await
    }

    async fn push_before(&mut self, wait: &mut Wait) -> Result<Option<Value>, Error> {
        self.check_usable()?;
        if !self.expected.is_empty() {
            return Err(Error::Refused {
                command: "receiving pushes",
                reason: "replies are owed; receive them first",
            });
        }
        let result = self.wait_for_push(wait).await;
        self.note(result)
    }

    async fn wait_for_push(&mut self, wait: &mut Wait) -> Result<Option<Value>, Error> {
        if let Some(push) = self.pushes.take() {
            return Ok(Some(push));
        }
        loop {
            let step = match self.wire.breathe(wait).await {
                Err(error) => Err(error),
                Ok(()) => match self.next_incoming()? {
                    Some(Incoming::Push(push)) => return Ok(Some(push)),
                    Some(Incoming::Nothing) => Ok(()),
                    Some(Incoming::Reply(_)) => {
                        return Err(Error::Protocol(ProtocolError::Unsolicited));
                    }
                    None => self.wire.fill(wait).await,
                },
            };
            match step {
                Ok(()) => {}
                Err(Error::Timeout { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn messages_are_told_from_confirmations() {
        let message = Value::Array(vec![bulk("pmessage"), bulk("n*"), bulk("news"), bulk("hi")]);
        assert_eq!(
            Message::from_value(&message),
            Some(Message {
                kind: SubscriptionKind::Pattern,
                pattern: Some(Bytes::from_static(b"n*")),
                channel: Bytes::from_static(b"news"),
                payload: Bytes::from_static(b"hi"),
            })
        );
        let confirmed = Value::Push(vec![bulk("unsubscribe"), Value::Null, Value::Integer(0)]);
        assert_eq!(Message::from_value(&confirmed), None);
        let confirmed =
            confirmation(confirmed.as_slice().expect("a push")).expect("a confirmation");
        assert!(!confirmed.subscribe && confirmed.total == 0);
    }
}
