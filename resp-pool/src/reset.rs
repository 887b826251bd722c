//! The check and the reset of a connection.

use crate::{
    connection::Connection,
    error::{Error, ProtocolError},
    incoming::Incoming,
    probe::{Probe, random_word},
    value::{ServerError, ServerErrorKind, Value},
    wire::{Look, Stray, Wait},
};

/// How much a reset has read and dropped, and its bounds.
struct Drain {
    frames: usize,
    most_frames: usize,
    most_bytes: u64,
    /// The first reply that says that the user may not do something.
    forbidden: Option<ServerError>,
}

impl Connection {
    /// Sends `PING` with a random word and compares the answer, so that a late answer to another
    /// request cannot pass for ours. For a user that may not run `PING` it is `ECHO`, or
    /// else `HELLO`; the first connection that learns this logs it.
    ///
    /// # Errors
    /// As for [`query`](Self::query); [`ProtocolError::WrongEcho`] ends the connection.
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn ping(&mut self) -> Result<(), Error> {
        loop {
            let probe = self.permissions.probe();
            let word = random_word();
            let reply = match probe {
                Probe::Ping | Probe::Echo => self.call(&[probe.name().as_bytes(), &word]).await?,
                Probe::Hello => self.call(&[probe.name()]).await?,
            };
            if self.permissions.forbids(probe, &reply, &self.key) {
                continue;
            }
            let result = match reply {
                reply if probe.is_answered_by(&reply, &word) => Ok(()),
                Value::Error(error) => Err(Error::Server(error)),
                _ => Err(Error::Protocol(ProtocolError::WrongEcho)),
            };
            return self.note(result);
        }
    }

    /// Brings the session back to neutral: reads and drops the replies that are owed, undoes the changes
    /// of the session, and proves with a `PING` that the connection is in step. One round trip, and one
    /// more when replies were owed. Messages that were not received are dropped.
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
            // Even after a refusal: a session that stays changed must not be lent again.
            self.session.set_unfit("a reset failed");
        }
        self.note(result)
    }

    async fn bring_back(&mut self) -> Result<(), Error> {
        let mut drain = Drain {
            frames: 0,
            most_frames: self.settings.drain_replies,
            most_bytes: self.wire.total_consumed().saturating_add(self.settings.drain_bytes),
            forbidden: None,
        };
        self.pushes.clear();
        // Only the replies that are still owed tell what the session is.
        self.drain(&mut drain).await?;
        self.refuse_unfit()?;
        drain.forbidden = None;

        let key = self.key.clone();
        let name = key.client_name().unwrap_or_default();
        let database = key.database().to_string();
        let mut undo = self.session.undo(name, &database);
        loop {
            let probe = self.permissions.probe();
            let word = random_word();
            probe.ask(&word, &mut undo);
            self.expected.extend(undo.effects());
            self.wire.out().extend_from_slice(undo.encoded());
            match self.drain(&mut drain).await? {
                Some(reply) if probe.is_answered_by(&reply, &word) => break,
                Some(reply) if self.permissions.forbids(probe, &reply, &key) => undo.clear(),
                _ => return Err(Error::Protocol(ProtocolError::WrongEcho)),
            }
        }
        self.refuse_unfit()?;
        if !self.session.is_neutral() {
            if let Some(refusal) = &drain.forbidden {
                self.permissions.undo_refused(refusal, &key);
            }
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
    async fn drain(&mut self, drain: &mut Drain) -> Result<Option<Value>, Error> {
        self.wire.flush(self.settings.write_timeout).await?;
        let mut last = None;
        let mut wait = Wait::after(self.settings.read_timeout);
        while !self.expected.is_empty() {
            self.wire.breathe(&mut wait).await?;
            match self.next_incoming()? {
                Some(incoming) => {
                    drain.frames += 1;
                    if drain.frames > drain.most_frames
                        || self.wire.total_consumed() > drain.most_bytes
                    {
                        return Err(Error::Protocol(ProtocolError::TooMuchToDrain));
                    }
                    if let Incoming::Reply(reply) = incoming {
                        if let Value::Error(error) = &reply
                            && error.kind() == ServerErrorKind::NoPermission
                        {
                            drain.forbidden.get_or_insert_with(|| error.clone());
                        }
                        last = Some(reply);
                        wait = Wait::after(self.settings.read_timeout);
                    }
                }
                // Even before a large reply is complete.
                None if self.wire.total_read() > drain.most_bytes => {
                    return Err(Error::Protocol(ProtocolError::TooMuchToDrain));
                }
                None => self.wire.fill(&mut wait).await?,
            }
        }
        Ok(last)
    }
}
