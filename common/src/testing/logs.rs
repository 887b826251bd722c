//! What is logged while something runs.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

/// A subscriber that stays. `tracing` remembers for each call site whether its event is wanted, and
/// while there is a single subscriber, the first thread at the call site decides this for all
/// threads, even if that thread has no subscriber. With two, every subscriber is asked.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// Collects the events of a crate, each as its fields in one line, `name=value`.
#[derive(Clone, Debug)]
pub struct Lines {
    target: &'static str,
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Lines {
    /// Collects what targets that start with `target` log at `level` or above it, on this thread,
    /// until the guard is dropped.
    pub fn listen(target: &'static str, level: Level) -> (Self, DefaultGuard) {
        LazyLock::force(&SECOND);
        let lines = Self { target, level, lines: Arc::default() };
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The warnings of `target` that are logged on this thread while `f` runs.
pub fn warnings(target: &'static str, f: impl FnOnce()) -> Vec<String> {
    let (lines, _guard) = Lines::listen(target, Level::WARN);
    f();
    lines.all()
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with(self.target)
            && *metadata.level() <= self.level
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
