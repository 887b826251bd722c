//! poolbench compares connection-pooling strategies side by side on real sockets.
//!
//! The program is a thin shell around this library, which is public so that tests and benches can
//! reach its parts; it promises no stable interface.
//!
//! - [`serve`]: the embedded servers and their oracle, in a separate process;
//! - [`contestants`]: ways to get a request there and its reply back;
//! - [`scenario`], [`ask`], [`fault`], [`catalog`], [`policies`]: what is played and asked, what goes wrong
//!   meanwhile, by whom, with which policy;
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
