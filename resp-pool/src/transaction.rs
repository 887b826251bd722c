//! `MULTI` and `EXEC` around a pipeline, `WATCH` before it.

use crate::{
    command::cmd,
    connection::Connection,
    effect::Effect,
    error::{Error, ProtocolError},
    pipeline::Pipeline,
    value::Value,
};

/// Transactions on a borrowed connection.
impl Connection {
    /// Watches keys: a [`transaction`](Self::transaction) on this connection is then carried out
    /// only if no other client changed them in between.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn watch(&mut self, keys: &[&str]) -> Result<(), Error> {
        self.query(&cmd("WATCH").arg(keys)).await
    }

    /// Forgets the watched keys.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn unwatch(&mut self) -> Result<(), Error> {
        self.query(&["UNWATCH"]).await
    }

    /// Carries out the commands as one transaction: `MULTI`, the commands, `EXEC`, in one write.
    ///
    /// Returns one reply for each command (an error reply is a value: the others were carried out
    /// all the same), or `None` when a watched key had changed and nothing was carried out. Either
    /// way nothing is watched any more.
    ///
    /// # Errors
    /// [`Error::Server`] when a command was refused while queueing: nothing was carried out, and
    /// the error is the one of that command. [`Error::NoTransaction`] when the server refused the
    /// `MULTI` itself: the commands were sent with it, so they may have been carried out one by one.
    /// [`Error::Refused`] inside an open transaction, or for
    /// commands that would end or nest it. Others as for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As for [`query`](Self::query).
    pub async fn transaction(&mut self, commands: &Pipeline) -> Result<Option<Vec<Value>>, Error> {
        let refuse = |command, reason| Err(Error::Refused { command, reason });
        if self.transaction_before(&[]) {
            return refuse("a transaction", "one is open already");
        }
        let nests = |effect: &&Effect| {
            matches!(
                effect,
                Effect::Multi
                    | Effect::Exec
                    | Effect::Discard
                    | Effect::Watch
                    | Effect::Reset
                    | Effect::Quit
                    | Effect::Hello
                    | Effect::Subscription { .. }
            )
        };
        if let Some(effect) = commands.effects().iter().find(nests) {
            return refuse(effect.name(), "not inside a transaction");
        }
        let mut wrapped = Pipeline::new();
        wrapped.add(&["MULTI"]).append(commands).add(&["EXEC"]);
        let mut replies = self.pipeline(&wrapped).await?;

        let executed = replies.pop();
        if let Some(Value::Error(refusal)) = replies.first() {
            // The server goes on after a refused MULTI: each command was carried out for itself.
            return Err(Error::NoTransaction(refusal.clone()));
        }
        let refused = replies.into_iter().find_map(|reply| match reply {
            Value::Error(error) => Some(error),
            _ => None,
        });
        let outcome = match (executed, refused) {
            (Some(Value::Error(_)), Some(cause)) => Err(Error::Server(cause)),
            (Some(Value::Error(error)), None) => Err(Error::Server(error)),
            (Some(Value::Null), _) => Ok(None),
            (Some(Value::Array(replies)), None) if replies.len() == commands.len() => {
                Ok(Some(replies))
            }
            _ => Err(Error::Protocol(ProtocolError::Unsolicited)),
        };
        self.note(outcome)
    }
}
