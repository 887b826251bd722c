//! The state machine alone: no socket, no clock, no runtime.

mod back_off;
mod behaviour;
mod deadlines;
mod driver;
mod floor;
mod fuzz;
mod generations;
mod hanging;
mod hedge;
mod idle_limits;
mod idle_look;
mod instants;
mod knobs;
mod limits;
mod operations;
mod properties;
mod ramp;
mod random_order;
mod serve_once;
mod shrink;
mod spike;
mod storm;
mod suspects;
mod ticks;
mod turns;
