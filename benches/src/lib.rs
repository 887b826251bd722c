//! poolbench compares connection-pooling strategies side by side on real sockets.
//!
//! The program is a thin shell around this library, which is public so that tests and benches can
//! reach its parts; it promises no stable interface.
//!
//! - [`serve`]: the embedded servers and their oracle, in a separate process;
//! - [`contestants`]: ways to send a request to the server and get its reply;
//! - [`scenario`], [`ask`], [`fault`], [`catalog`], [`policies`]: the load, the requests, the faults, the
//!   contestants and their policies;
//! - [`run`]: the plan, the rounds, the turns;
//! - [`report`]: tables and files.
#![forbid(unsafe_code)]

pub mod ask;
pub mod calibrate;
pub mod catalog;
pub mod cli;
pub mod compare;
pub mod contestants;
pub mod error;
pub mod fault;
pub mod framed;
pub mod info;
pub mod measure;
pub mod merge;
pub mod names;
pub mod nonce;
pub mod place;
pub mod policies;
pub mod report;
pub mod run;
pub mod scenario;
pub mod serve;
pub mod shows;
pub mod signals;
pub mod statistics;
pub mod stdout;
pub mod target;

/// The programs of this page are compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from.md")]
mod coming_from {}
