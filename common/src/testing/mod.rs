//! For the tests of this workspace (feature `testing`): real servers on free ports, and what
//! is logged.

#[cfg(feature = "runtime")]
pub mod logs;
pub mod servers;
