//! The places where the lock meets a waker, in one order of events after another.
//!
//! These run the real pool on shuttle's scheduler: every lock is a place where another thread may
//! go on, and a model in which nobody can is reported as a deadlock, which is what a lost wake-up
//! comes to. Without `--cfg shuttle` this is an empty crate:
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p pool-common --test models --release`
//!
//! `MODEL_RUNS=n` says how many orders are tried by each scheduler, `MODEL_SEED=n` which;
//! `MODEL_SCHEDULE=...` plays the one that a failure has printed.

#![cfg(shuttle)]

mod closing;
mod dials;
mod looks;
mod queue;
mod shared;
mod world;
