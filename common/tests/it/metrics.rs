//! What a pool reports through the `metrics` crate, as a recorder hears it.

mod heard;
mod names;
mod panics;
mod story;
mod sums;
