//! Dialing, and the peek at idle connections, for managers to build on.
//!
//! A protocol hands a [`Target`] to a [`Connector`] and gets a [`Stream`]. [`TcpConnector`] alone does for
//! protocols that only speak plain TCP.

#[cfg(feature = "uri")]
mod connect_uri;
mod connector;
mod error;
mod flushed;
mod granted;
#[cfg(feature = "uri")]
mod invalid_uri;
mod partition;
#[cfg(feature = "proxy")]
mod proxy;
mod race;
mod resolve;
#[cfg(feature = "tower")]
mod service;
mod socket;
mod stream;
mod target;
mod tcp;
#[cfg(feature = "rustls")]
mod tls;
mod unix;
#[cfg(feature = "uri")]
mod uri_key;

use std::time::Duration;

#[cfg(feature = "uri")]
pub use connect_uri::PlainProxying;
pub use connector::Connector;
pub use error::{ConnectError, ConnectStage};
pub use granted::dial_deadline;
pub(crate) use granted::granted_until;
#[cfg(feature = "uri")]
pub use invalid_uri::InvalidUri;
pub use partition::Partition;
#[cfg(feature = "proxy")]
pub use proxy::{InvalidProxy, Proxy, ProxyBuilder, ProxyServer};
pub use resolve::{Resolve, Resolver, Resolving};
pub use socket::{KernelStream, Socket};
pub use stream::Stream;
pub use target::Target;
pub use tcp::{TcpConnector, has_unread};
#[cfg(feature = "rustls")]
pub use tls::{InvalidTls, Tls, TlsBuilder};
#[cfg(feature = "uri")]
pub use unix::unix_uri;
pub use unix::{UNIX_SCHEME, unix_host, unix_path};
#[cfg(feature = "uri")]
pub use uri_key::{Scheme, UriKey};

/// How often the protocols of this workspace have idle connections looked at
/// ([`Manager::idle_look_interval`](crate::Manager::idle_look_interval)): every 250 ms. A look reads
/// only the readiness that the runtime's driver has set, which costs no system call.
pub const IDLE_LOOK: Duration = Duration::from_millis(250);

/// The libraries that [`Tls`] speaks: for their certificates, keys and configs in its settings.
#[cfg(feature = "rustls")]
pub use tokio_rustls::rustls;
