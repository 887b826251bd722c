//! The pool and the state machine as a program sees them. `tests/state` has the tests of the rules of
//! the state machine, one by one, and its fuzzer.

mod behaviours;
mod contract;
mod example;
#[cfg(feature = "metrics")]
mod metrics;
mod regressions;
mod runtimes;
mod smoke;
mod support;
