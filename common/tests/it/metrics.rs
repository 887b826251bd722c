//! The reports of a pool through the `metrics` crate, as a recorder gets them.

mod heard;
mod names;
mod panics;
mod story;
mod sums;
