//! The surveyed systems, one file each: a test for every observable behaviour of their pages that is
//! about pooling, carrying the page's number. `docs/strategies/coverage.md` lists all of them, also
//! those that belong elsewhere and those where we differ.

mod database_sql;
mod fasthttp;
mod go_redis;
mod grpc;
pub mod line;
mod net_http;
mod net_http_h2;
mod redigo;
mod silenceper;
pub mod support;
mod thrift_and_tcp;
