//! Dialing, for managers to build on.

mod tcp;

pub use tcp::{TcpConnector, has_unread};
