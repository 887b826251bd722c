//! The places where the lock meets a waker, in one order of events after another.
//!
//! These run the real pool on shuttle's scheduler: at every lock another thread may run, and a
//! model in which no thread can run is reported as a deadlock, which is how a lost wake-up
//! shows. Without `--cfg shuttle` this is an empty crate:
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p pool-common --test models --release`
//!
//! `MODEL_RUNS=n` sets how many orders each scheduler tries, `MODEL_SEED=n` selects them;
//! `MODEL_SCHEDULE=...` plays the order that a failure has printed.

#![cfg(shuttle)]

mod closing;
mod dials;
mod looks;
mod queue;
mod shared;
mod world;
