//! For the tests of this workspace (feature `testing`): real servers on free ports, certificates for them,
//! and captured log lines.

pub mod certificates;
#[cfg(feature = "runtime")]
pub mod logs;
pub mod servers;
