//! The client, its connections and its decoder, against scripted peers and a real redis-server.

mod connection;
mod defaults;
mod denied;
mod faults;
mod floods;
mod lending;
mod memory;
#[cfg(feature = "metrics")]
mod metrics;
mod permissions;
mod policy;
mod pool;
mod recovery;
mod replies;
mod scanner;
mod secrets;
mod session;
mod stray;
mod support;
mod time;
#[cfg(feature = "rustls")]
mod tls;
#[cfg(unix)]
mod unix;
mod wrong_server;
