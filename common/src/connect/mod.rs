//! Dialing, and the peek at idle connections, for managers to build on.

mod granted;
mod socket;
mod tcp;

use std::time::Duration;

pub use granted::dial_deadline;
pub(crate) use granted::granted_until;
pub use socket::Socket;
pub use tcp::{TcpConnector, has_unread};

/// How often the protocols of this workspace have idle connections looked at
/// ([`Manager::idle_look_interval`](crate::Manager::idle_look_interval)): every 250 ms. A look reads
/// only the readiness that the runtime's driver has set, which costs no system call.
pub const IDLE_LOOK: Duration = Duration::from_millis(250);
