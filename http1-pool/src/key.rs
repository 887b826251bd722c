//! The key: everything that shaped a connection. Both HTTP clients have the same.

#[doc(inline)]
pub use pool_common::connect::{Scheme, UriKey as Key, unix_uri};
