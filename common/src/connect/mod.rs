//! Dialing, for managers to build on, and what an idle connection has to be asked.

mod granted;
mod socket;
mod tcp;

use std::time::Duration;

pub use granted::dial_deadline;
pub(crate) use granted::granted_until;
pub use socket::Socket;
pub use tcp::{TcpConnector, has_unread};

/// How often idle connections are worth a look
/// ([`Manager::idle_look_interval`](crate::Manager::idle_look_interval)): 250 ms. A look asks what the
/// runtime's driver has seen, which costs no system call.
pub const IDLE_LOOK: Duration = Duration::from_millis(250);
