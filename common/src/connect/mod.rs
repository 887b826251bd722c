//! Dialing, for managers to build on, and what an idle connection has to be asked.

mod granted;
mod socket;
mod tcp;

pub use granted::dial_deadline;
pub(crate) use granted::granted_until;
pub use socket::Socket;
pub use tcp::{TcpConnector, has_unread};
