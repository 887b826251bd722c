//! One exchange of a request and its response, as the HTTP clients know it: what a caller may ask of a
//! single exchange, and what the client tells about it afterwards.
//!
//! Both travel in the extensions of `http` messages, so that any layer between a program and its
//! client can add them, or look at them. The types are the same for every client:
//!
//! | in the extensions of | type | |
//! |---|---|---|
//! | a request | [`TotalTimeout`] | one limit over all attempts, pauses and the bodies |
//! | a request | [`RecordExchange`] | asks for the record |
//! | a response | [`ExchangeRecord`] | which connection, how long each stage took, how many attempts |

mod record;
mod total;

pub use record::{ExchangeRecord, RecordExchange};
pub use total::{TotalDeadline, TotalTimeout};
