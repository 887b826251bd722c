//! The state machine alone: no socket, no clock, no runtime.

mod behaviour;
mod deadlines;
mod driver;
mod limits;
mod properties;
mod ramp;
