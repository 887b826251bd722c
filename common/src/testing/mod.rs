//! For the tests of this workspace (feature `testing`): real servers on free ports, and captured log
//! lines.

#[cfg(feature = "runtime")]
pub mod logs;
pub mod servers;
