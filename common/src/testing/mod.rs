//! For the tests of this workspace (feature `testing`): real servers on free ports.

pub mod servers;
