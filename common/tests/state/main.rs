//! The state machine alone: no socket, no clock, no runtime.

mod behaviour;
mod deadlines;
mod driver;
mod floor;
mod fuzz;
mod generations;
mod idle_look;
mod limits;
mod operations;
mod properties;
mod ramp;
mod shrink;
mod suspects;
