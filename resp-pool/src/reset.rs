//! Is it still good, and how is it brought back to neutral?

use crate::{
    connection::Connection,
    error::{Error, ProtocolError},
    incoming::Incoming,
    value::Value,
    wire::{Deadline, Look, Stray},
};

impl Connection {
    /// Sends `PING` with a random word and compares the answer, so that the late answer to somebody
    /// else's request cannot pass for ours.
    ///
    /// # Errors
    /// As for [`query`](Self::query); [`ProtocolError::WrongEcho`] ends the connection.
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn ping(&mut self) -> Result<(), Error> {
        let nonce = nonce();
        let reply = self.call(&[&b"PING"[..], &nonce]).await?;
        let result = match &reply {
            Value::Bulk(echo) if echo[..] == nonce => Ok(()),
            // The answer to a subscriber in RESP2.
            Value::Array(items) if self.session.is_subscribed() => match &items[..] {
                [_, Value::Bulk(echo)] if echo[..] == nonce => Ok(()),
                _ => Err(Error::Protocol(ProtocolError::WrongEcho)),
            },
            Value::Error(error) => Err(Error::Server(error.clone())),
            _ => Err(Error::Protocol(ProtocolError::WrongEcho)),
        };
        self.note(result)
    }

    /// Brings the session back to neutral: reads away what is owed, undoes what the session says
    /// has to be undone, and proves with a `PING` of its own that the connection is in step. One
    /// round trip, and one more when replies were owed. Messages that nobody took are dropped.
    ///
    /// # Errors
    /// [`Error::NotNeutral`] when the session cannot be undone or the server refused to;
    /// [`ProtocolError::TooMuchToDrain`] beyond `drain_replies` or `drain_bytes`; and those of a
    /// request. After any of them the connection is of no further use.
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    ///
    /// Source: redigo's `activeConn.Close`, which recognises the end of the stream by an `ECHO`; a
    /// `PING` with a word does the same and Redis Sentinel knows it.
    pub async fn reset(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let result = self.bring_back().await;
        if result.is_err() {
            // Also after a refusal: a session that stays changed must not be lent again.
            self.session.set_unfit("a reset failed");
        }
        self.note(result)
    }

    async fn bring_back(&mut self) -> Result<(), Error> {
        let bounds = (
            self.settings.drain_replies,
            self.wire.total_consumed().saturating_add(self.settings.drain_bytes),
        );
        let mut frames = 0;
        self.pushes.clear();
        // Only the replies that are still owed tell what the session is.
        self.drain(&mut frames, bounds).await?;
        self.refuse_unfit()?;

        let key = self.key.clone();
        let name = key.client_name().unwrap_or_default();
        let database = key.database().to_string();
        let mut undo = self.session.undo(name, &database);
        let nonce = nonce();
        undo.add(&[&b"PING"[..], &nonce]);
        self.expected.extend(undo.effects());
        self.wire.out().extend_from_slice(undo.encoded());
        let last = self.drain(&mut frames, bounds).await?;

        match last {
            Some(Value::Bulk(echo)) if echo[..] == nonce => {}
            _ => return Err(Error::Protocol(ProtocolError::WrongEcho)),
        }
        self.refuse_unfit()?;
        if !self.session.is_neutral() {
            return Err(Error::NotNeutral("the server refused to undo it"));
        }
        if !matches!(self.wire.stray(Look::Free), Stray::Nothing) {
            return Err(Error::Protocol(ProtocolError::Unsolicited));
        }
        Ok(())
    }

    fn refuse_unfit(&self) -> Result<(), Error> {
        self.session.unfit().map_or(Ok(()), |reason| Err(Error::NotNeutral(reason)))
    }

    /// Flushes, and reads until no reply is owed. Returns the last one.
    async fn drain(
        &mut self,
        frames: &mut usize,
        (most_frames, most_bytes): (usize, u64),
    ) -> Result<Option<Value>, Error> {
        self.wire.flush(self.settings.write_timeout).await?;
        let mut last = None;
        let mut deadline = Deadline::after(self.settings.read_timeout);
        while !self.expected.is_empty() {
            self.wire.breathe(&mut deadline).await?;
            match self.next_incoming()? {
                Some(incoming) => {
                    *frames += 1;
                    if *frames > most_frames || self.wire.total_consumed() > most_bytes {
                        return Err(Error::Protocol(ProtocolError::TooMuchToDrain));
                    }
                    if let Incoming::Reply(reply) = incoming {
                        last = Some(reply);
                        deadline = Deadline::after(self.settings.read_timeout);
                    }
                }
                // Also before a large reply is whole.
                None if self.wire.total_read() > most_bytes => {
                    return Err(Error::Protocol(ProtocolError::TooMuchToDrain));
                }
                None => self.wire.fill(&mut deadline).await?,
            }
        }
        Ok(last)
    }
}

/// Sixteen hexadecimal digits that nobody can have sent before.
fn nonce() -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u64(..);
    std::array::from_fn(|index| DIGITS[(random >> (4 * index)) as usize & 15])
}
