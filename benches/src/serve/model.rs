//! The models a server can follow, by name.

use crate::error::BenchError;
use crate::names::{self, Protocol};

/// How the HTTP/1 server spreads connections over tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Http1Model {
    /// A task for each connection (net/http).
    #[default]
    Tasks,
    /// A pool of parked workers, the most recently parked first, with a limit (fasthttp).
    Workers,
}

/// How the framed server spreads the requests of a connection over tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FramedModel {
    /// One task reads, answers and writes.
    #[default]
    OneTask,
    /// A reader hands requests to bounded processors, which write under a lock.
    ReaderHandoff,
    /// As `ReaderHandoff`, with a separate task that writes.
    SeparateWriter,
}

/// The model of each server that has several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Models {
    /// For `--http1`.
    pub http1: Http1Model,
    /// For `--framed`.
    pub framed: FramedModel,
}

/// The names of all models: the first two are for http1, the others for framed.
pub const NAMES: [&str; 5] = ["tasks", "workers", "one-task", "reader-handoff", "separate-writer"];

impl Models {
    /// The models that `chosen` names; each name belongs to one server.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for a name that is not in [`NAMES`].
    pub fn parse(chosen: &[String]) -> Result<Self, BenchError> {
        let mut models = Self::default();
        for name in chosen {
            match name.as_str() {
                "tasks" => models.http1 = Http1Model::Tasks,
                "workers" => models.http1 = Http1Model::Workers,
                "one-task" => models.framed = FramedModel::OneTask,
                "reader-handoff" => models.framed = FramedModel::ReaderHandoff,
                "separate-writer" => models.framed = FramedModel::SeparateWriter,
                unknown => return Err(names::unknown("model", unknown, &NAMES)),
            }
        }
        Ok(models)
    }

    /// The protocol whose server the model of this name is for.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for a name that is not in [`NAMES`].
    pub fn protocol(name: &str) -> Result<Protocol, BenchError> {
        Self::parse(&[name.to_owned()])?;
        Ok(if matches!(name, "tasks" | "workers") { Protocol::Http1 } else { Protocol::Framed })
    }
}
