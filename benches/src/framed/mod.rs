//! The plain TCP template: length-prefixed frames with a request id, one exchange at a time on a
//! connection, over the project's pool.
//!
//! With the profile `thrift` this is the Thrift client: one connection, sequence ids that are
//! checked, a connection thrown away as soon as it may be out of step.

pub mod codec;
pub mod connection;
pub mod manager;
