//! Under construction.
#![forbid(unsafe_code)]
pub mod clock;
pub mod connect;
pub mod error;
pub mod event;
pub mod knob;
mod lease;
pub mod lending;
mod manager;
mod notifier;
pub mod policy;
mod pool;
pub mod profile;
pub mod state;
pub mod stats;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{DialError, Error, InvalidPolicy, Stage};
pub use lease::Lease;
pub use lending::{Exclusive, Lending, Shared};
pub use manager::{Connection, Manager};
pub use notifier::Notifier;
pub use policy::Policy;
pub use pool::{Builder, Pool};
pub use stats::{Stats, Status};
