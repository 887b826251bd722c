//! Checks that refuse a request before a single byte of it is written.
//!
//! One check for every way to send: single calls, pipelines and raw sends. It looks at the session
//! and at the commands that are still on their way, whose effects the session does not know yet.

use tokio::time::Instant;

use crate::{
    command::{Request, effect_of},
    connection::Connection,
    effect::Effect,
    error::Error,
    pipeline::Pipeline,
};

impl Connection {
    /// Refuses to work on a connection that failed or was given up.
    pub(crate) fn check_usable(&self) -> Result<(), Error> {
        match (self.broken, self.in_call) {
            (true, _) => Err(Error::Broken),
            (false, true) => Err(Error::Abandoned),
            (false, false) => Ok(()),
        }
    }

    pub(crate) fn admit_request(
        &mut self,
        request: &(impl Request + ?Sized),
    ) -> Result<Effect, Error> {
        if request.is_empty() {
            return Err(Error::Refused { command: "an empty request", reason: "it has no name" });
        }
        let effect = effect_of(request);
        self.admit(&[effect])?;
        Ok(effect)
    }

    pub(crate) fn admit_pipeline(&mut self, pipeline: &Pipeline) -> Result<(), Error> {
        pipeline.check()?;
        self.admit(pipeline.effects())
    }

    fn admit(&mut self, effects: &[Effect]) -> Result<(), Error> {
        self.check_usable()?;
        let refuse = |command, reason| Err(Error::Refused { command, reason });
        if self.session.may_monitor() {
            return refuse(
                "a request after MONITOR",
                "its reply could not be told from the stream; use receive_push",
            );
        }
        for (index, effect) in effects.iter().enumerate() {
            match effect {
                Effect::None => {}
                Effect::Replication => {
                    return refuse(
                        effect.name(),
                        "this client does not follow replication streams",
                    );
                }
                // Redis 7 answers EXEC with an array that has pushes for elements, one for each
                // channel although it announced one for each command: its end cannot be
                // found.
                Effect::Subscription { .. } if self.transaction_before(&effects[..index]) => {
                    return refuse(effect.name(), "not inside a transaction");
                }
                _ => {}
            }
        }
        self.check_fresh()
    }

    /// Whether a transaction will be open after all commands on their way and `then` were carried out.
    pub(crate) fn transaction_before(&self, then: &[Effect]) -> bool {
        let mut open = self.session.in_transaction();
        for effect in self.expected.iter().chain(then) {
            match effect {
                Effect::Multi => open = true,
                Effect::Exec | Effect::Discard | Effect::Reset => open = false,
                _ => {}
            }
        }
        open
    }

    /// Between two calls no bytes may arrive, unless a command was sent that brings messages: such bytes
    /// would be taken for the reply to the next request. Costs no system call after a reply that was
    /// read a moment ago; see [`Socket`](pool_common::connect::Socket).
    fn check_fresh(&mut self) -> Result<(), Error> {
        if !self.expected.is_empty() || self.session.brings_messages() {
            self.wire.begin();
            return Ok(());
        }
        let quiet = self.wire.begin_quiet(Instant::now());
        self.broken |= quiet.is_err();
        quiet
    }
}
