//! What a pool reports through the `metrics` crate, as a recorder hears it.

#[path = "../contract/fake.rs"]
#[allow(dead_code)] // Shared with tests/contract, which uses all of it.
mod fake;
mod heard;
mod names;
mod panics;
mod story;
mod sums;
