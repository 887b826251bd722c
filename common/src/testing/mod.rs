//! For the tests of this workspace (feature `testing`): real servers on free ports, certificates for them,
//! and captured log lines.

pub mod certificates;
#[cfg(feature = "runtime")]
pub mod logs;
pub mod servers;
#[cfg(all(feature = "proxy", feature = "rustls", feature = "tower"))]
pub mod settings;

#[cfg(all(feature = "proxy", feature = "rustls", feature = "tower"))]
pub(crate) use settings::field_names;
