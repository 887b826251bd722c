//! Several commands in one write.

use crate::{
    command::{Request, effect_of},
    effect::Effect,
    error::Error,
    from_value::FromValue,
    value::Value,
};

/// Commands that are sent together and answered together. Encoded while it is built; can be sent
/// again.
///
/// ```
/// let mut pipeline = resp_pool::Pipeline::new();
/// pipeline.add(&["INCR", "visits"]).add(&resp_pool::cmd("EXPIRE").arg("visits").arg(60));
/// assert_eq!(pipeline.len(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Pipeline {
    encoded: Vec<u8>,
    effects: Vec<Effect>,
    /// A request without even a name was added.
    holds_empty: bool,
}

impl Pipeline {
    /// No commands yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command. Its own timeout is ignored: in a pipeline the connection's `read_timeout` holds.
    /// A pipeline with an empty request in it is refused when it is sent.
    pub fn add(&mut self, request: &(impl Request + ?Sized)) -> &mut Self {
        self.add_as(effect_of(request), request)
    }

    /// Adds a command whose effect is known better than its name tells.
    pub(crate) fn add_as(
        &mut self,
        effect: Effect,
        request: &(impl Request + ?Sized),
    ) -> &mut Self {
        if request.is_empty() {
            // It would be owed a reply that never comes.
            self.holds_empty = true;
            return self;
        }
        request.encode(&mut self.encoded);
        self.effects.push(effect);
        self
    }

    /// Adds the commands of another pipeline.
    pub fn append(&mut self, other: &Self) -> &mut Self {
        self.encoded.extend_from_slice(&other.encoded);
        self.effects.extend_from_slice(&other.effects);
        self.holds_empty |= other.holds_empty;
        self
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.effects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Forgets the commands and keeps the memory.
    pub fn clear(&mut self) {
        self.encoded.clear();
        self.effects.clear();
        self.holds_empty = false;
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    pub(crate) fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Refuses commands after which replies can no longer be counted.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.holds_empty {
            return Err(Error::Refused { command: "an empty request", reason: "it has no name" });
        }
        let unfit = |effect: &&Effect| {
            matches!(effect, Effect::MuteReplies | Effect::Monitor | Effect::Replication)
        };
        match self.effects.iter().find(unfit) {
            Some(effect) => Err(Error::Refused {
                command: effect.name(),
                reason: "replies could no longer be told apart; not in a pipeline",
            }),
            None => Ok(()),
        }
    }
}

/// The replies of a pipeline as one value of the caller's type; the first error reply is the error.
pub(crate) fn convert<T: FromValue>(replies: Vec<Value>) -> Result<T, Error> {
    let refused = replies.iter().find_map(|reply| match reply {
        Value::Error(error) => Some(error.clone()),
        _ => None,
    });
    match refused {
        Some(error) => Err(Error::Server(error)),
        None => Ok(T::from_value(Value::Array(replies))
            .map_err(|error| error.answering(Some(b"a pipeline")))?),
    }
}

/// Shows the number of commands only: arguments may be secret.
impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipeline({} commands)", self.len())
    }
}
