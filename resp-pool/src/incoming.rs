//! Incoming frames: which is a reply, and to which command, and which the server sent on its own.

use std::time::Duration;

use crate::{
    connection::Connection,
    effect::Effect,
    error::{Error, ProtocolError},
    pubsub,
    value::Value,
    wire::Wait,
};

/// The meaning of a frame.
pub(crate) enum Incoming {
    /// The reply to the oldest command that is owed one.
    Reply(Value),
    /// A message that the server sent on its own.
    Push(Value),
    /// A confirmation that completes nothing.
    Nothing,
}

impl Connection {
    /// The next reply, for which `limit` is granted. Pushes on the way are kept.
    pub(crate) async fn next_reply(&mut self, limit: Option<Duration>) -> Result<Value, Error> {
        let mut wait = Wait::since(self.wire.take_began(), limit);
        loop {
            self.wire.breathe(&mut wait).await?;
            match self.next_incoming()? {
                Some(Incoming::Reply(reply)) => return Ok(reply),
                Some(Incoming::Push(push)) => self.keep_push(push)?,
                Some(Incoming::Nothing) => {}
                None => self.wire.fill(&mut wait).await?,
            }
        }
    }

    /// The next whole frame that has been read, sorted.
    pub(crate) fn next_incoming(&mut self) -> Result<Option<Incoming>, Error> {
        let value = self.wire.next_value().map_err(Error::Protocol)?;
        value.map(|value| self.sort(value)).transpose()
    }

    fn keep_push(&mut self, push: Value) -> Result<(), Error> {
        let (most, most_bytes) = (self.settings.max_pushes, self.settings.max_push_bytes);
        self.pushes.keep(push, most, most_bytes).map_err(Error::Protocol)
    }

    fn sort(&mut self, value: Value) -> Result<Incoming, Error> {
        match &value {
            Value::Push(items) => match pubsub::confirmation(items) {
                Some(confirmation) => self.confirm(confirmation, value),
                None => Ok(Incoming::Push(value)),
            },
            // RESP2 has no pushes: messages and confirmations are arrays. In RESP3 an array is
            // always a reply, whatever its first word.
            Value::Array(items)
                if !self.session.speaks_resp3()
                    && (self.expects_confirmation() || self.session.is_subscribed()) =>
            {
                if let Some(confirmation) = pubsub::confirmation(items) {
                    self.confirm(confirmation, value)
                } else if pubsub::is_message(items) {
                    Ok(Incoming::Push(value))
                } else {
                    self.answer(value)
                }
            }
            Value::Simple(_) if self.session.is_monitoring() && self.expected.is_empty() => {
                Ok(Incoming::Push(value))
            }
            _ => self.answer(value),
        }
    }

    /// `value` is the reply to the oldest command.
    fn answer(&mut self, value: Value) -> Result<Incoming, Error> {
        match self.expected.pop_front() {
            Some(effect) => {
                self.session.apply(effect, &value);
                self.heed(effect, &value);
                Ok(Incoming::Reply(value))
            }
            None => Err(Error::Protocol(ProtocolError::Unsolicited)),
        }
    }

    fn expects_confirmation(&self) -> bool {
        matches!(self.expected.front(), Some(Effect::Subscription { .. }))
    }

    fn confirm(
        &mut self,
        confirmation: pubsub::Confirmation,
        value: Value,
    ) -> Result<Incoming, Error> {
        let pubsub::Confirmation { kind, subscribe, total } = confirmation;
        let before = self.session.subscriptions(kind);
        let changed = self.session.confirm(kind, subscribe, total);
        match self.expected.front_mut() {
            Some(Effect::Subscription { kind: of, subscribe: to, left })
                if *of == kind && *to == subscribe =>
            {
                // An unsubscribe from everything is confirmed once for each, and once if there was
                // none.
                let remaining = left.unwrap_or(before.max(1)) - 1;
                *left = Some(remaining);
                Ok(if remaining == 0 {
                    self.expected.pop_front();
                    Incoming::Reply(value)
                } else {
                    Incoming::Nothing
                })
            }
            // The server ended a subscription on its own. It can only end existing subscriptions, which
            // bounds how many of these confirmations a peer can send.
            _ if !subscribe && changed => Ok(Incoming::Nothing),
            _ => Err(Error::Protocol(ProtocolError::Unsolicited)),
        }
    }
}
