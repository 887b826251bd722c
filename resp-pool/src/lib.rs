//! Redis over a pool of connections: RESP2 and RESP3, in the style of redigo and go-redis.
//!
//! A connection is lent to one borrower at a time, for one command or for as long as a lease is
//! held. What the borrower changed in its session (a transaction, watched keys, subscriptions,
//! another database, ...) is learned from the server's replies, and undone when the connection
//! comes back; what cannot be undone, or does not answer in step, is closed. A connection is marked
//! before the first byte of a request and cleared after the last byte of its reply, so that
//! no caller reads the reply to another caller's request. Everything else (which connection goes out
//! first, which callers wait, who dials, when a connection is too old, what is sent again) is the
//! [`Policy`] of `pool-common`, where redigo and go-redis are two points
//! among many.
//!
//! # Example
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use resp_pool::{Client, Pipeline};
//!
//! // redis://user:password@host:port/database; a Config has more to set.
//! let client = Client::open("redis://127.0.0.1:6379/0")?;
//! client.set("greeting", "hello").await?;
//! let greeting: Option<String> = client.get("greeting").await?;
//!
//! let mut lease = client.acquire().await?; // one connection, until it is dropped
//! lease.watch(&["counter"]).await?;
//! let mut increment = Pipeline::new();
//! increment.add(&["INCR", "counter"]);
//! let done = lease.transaction(&increment).await?.is_some(); // None: somebody else was faster
//! # Ok(()) }
//! ```
//!
//! A server on a Unix socket: `Client::open("redis+unix:///run/redis/redis.sock?db=0")`.
//!
//! With TLS: `rediss://host`, with the feature `rustls`, and whom to trust in
//! [`ClientBuilder::tls`](ClientBuilder).
//!
//! # Which call for what
//!
//! | what is sent | how |
//! |---|---|
//! | one command | [`Client::query`] with [`cmd`] or an array of strings; [`get`](Client::get), [`set`](Client::set), [`del`](Client::del), [`incr`](Client::incr) |
//! | several in one write | [`Client::pipeline`] |
//! | several as a transaction | [`Client::transaction`] |
//! | several in a row on one connection, `WATCH` | [`Client::acquire`], then the same calls on the [`Connection`] |
//! | a subscription | [`Client::acquire`], then [`subscribe`](Connection::subscribe) and [`receive_message`](Connection::receive_message) |
//!
//! A reply becomes any type that is [`FromValue`]: `Option<_>` where it may be null, [`Value`] for
//! whatever comes.
//!
//! # How many connections
//!
//! By default at most 100 are open for a server and database, idle and leased ones included; so a
//! lease that waits for messages takes one of them. The next caller waits for one, for at most 30 s.
//! The knobs are `max_open_per_key` and `acquire_timeout`.
//!
//! # Building a client
//!
//! [`Client::builder`] wraps the pool's own builder. It takes a policy, or a change of the default one;
//! a [`Config`], or a change of it; a connector; and what any pool can be given: clock, seed,
//! observer, leak detection, and with the feature `metrics` a name to report under.
//! [`check_with`](ClientBuilder::check_with) replaces the check before lending.
//!
//! ```
//! # fn main() -> Result<(), resp_pool::BuildError> {
//! # use std::time::Duration;
//! let client = resp_pool::Client::builder()
//!     .change_policy(|policy| policy.max_open_per_key = Some(20))
//!     .change_config(|config| config.settings.read_timeout = Some(Duration::from_secs(1)))
//!     .leak_detection(Duration::from_secs(60))
//!     .build()?;
//! # Ok(()) }
//! ```
//!
//! Start your policy from [`Client::default_policy`], not from `Policy::default()`, which repeats
//! nothing: callers would meet each connection that the peer closed while it was idle. A client with
//! such a policy logs a warning. `Client::from(pool)` makes a client of a pool that was built by hand,
//! of this crate's [`Manager`].
//!
//! # When a call fails
//!
//! [`Error::may_have_executed`] says whether sending it again may run it twice, and
//! [`Error::is_timeout`] whether a time limit passed.
//!
//! # The life of a connection
//!
//! ```text
//!            dial, AUTH / HELLO / SETNAME / SELECT in one write
//!                               │
//!              check            v         acquire
//!           PING nonce ┌────> idle ─────────────> leased ──┐ query: mark, write,
//!                 │    │        ^                   │  ^───┘ read, clear
//!                 └────┘        │ neutral and quiet │ returned
//!                               ├───────────────────┤
//!                               │                   │ session changed or
//!                               │ nonce came back   v replies owed
//!                               └──────────────── reset: read away, DISCARD,
//!                                                   │ UNWATCH, UNSUBSCRIBE,
//!                                                   │ SELECT, PING nonce
//!      given up halfway, out of step, unread bytes, │
//!      closed by the server, cannot be undone       v
//!      ─────────────────────────────────────────> closed
//! ```
//!
//! # Who works this way
//!
//! - [redigo](https://github.com/gomodule/redigo): a stack of idle connections, a test on borrow,
//!   a session that is reset on return (four kinds of state, tracked when a command is *sent*).
//! - [go-redis](https://github.com/redis/go-redis): a bounded pool, a peek at the socket before
//!   reuse, timeouts of 5 s, commands repeated with a jittered delay
//!   ([`Retry::Attempts`](pool_common::policy::Retry::Attempts)).
//!
//! # Choices
//!
//! - **Check on borrow**: the policy says never, always or when idle for longer than a time; the
//!   check itself is a `PING` with a random word, or [yours](ClientBuilder::check_with). For a user
//!   that may not run `PING` it is `ECHO` or `HELLO`, which is logged once.
//! - **Peek before lending** (policy `peek`): anything unread or a closed socket costs the
//!   connection. The socket itself is asked, unless a read saw it empty less than 10 us ago, and
//!   again before a command is written
//!   ([`Socket`](pool_common::connect::Socket)).
//! - **Wrong server**: a reply that says that the server is a replica (`READONLY`), has lost its
//!   primary (`MASTERDOWN`), keeps loading (`LOADING` for 1 s) or is another node retires the
//!   connection, under every retry rule and for leases as well. So a pool follows a failover as its
//!   connections are used, and does not keep the old primary until their lifetime ends.
//! - **Again**: no retry rule repeats a write that may have been carried out. go-redis does; with its
//!   profile, too, only commands that read are repeated after their reply was lost, and pipelines
//!   and transactions only when nothing of them had been sent.
//! - **Time**: a reply may take [`read_timeout`](Settings::read_timeout), 5 s unless told otherwise
//!   (redigo waits forever); a blocking command brings [its own](Command::timeout). All attempts of
//!   one command together take no longer than one may: `acquire_timeout` + `write_timeout` +
//!   `read_timeout` ([`Client::query`]). In a [`pipeline`](Client::pipeline) each reply has its own
//!   `read_timeout`, and no further attempt lasts beyond that total.
//! - **Giving up**: a call that is dropped halfway closes its connection. A dropped `BLPOP` leaves the
//!   next element in the list, where clients that keep or share the connection lose it
//!   ([`Client::query`]).
//! - **Size**: nesting, lengths and memory are bounded by [`Limits`]; nothing is allocated because a
//!   peer announced it, and an error says which limit, with its value. Frames are decoded by the
//!   `redis-protocol` crate once our [`Scanner`] has seen them whole, without copying the strings in
//!   them.
//! - **Errors**: an error reply ([`Error::Server`]) or one that does not convert
//!   ([`Error::Conversion`]) leaves the connection usable. A server's text is shown with its control
//!   characters escaped, up to 1 KiB; one that may repeat a password is withheld.
//!
//! # When not to use it
//! For throughput over a few connections shared by many callers, a pipelined client does with a
//! quarter of the CPU time. Redis Cluster and Sentinel redirections are reported, not followed.
//! Streamed RESP3 types are not there yet.
#![forbid(unsafe_code)]
// docs.rs says which feature adds what.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod builder;
mod client;
mod codec;
mod command;
mod command_table;
mod config;
mod connection;
mod effect;
mod error;
mod from_value;
mod handshake;
mod incoming;
mod key;
mod limits;
mod manager;
mod pipeline;
mod probe;
mod pubsub;
mod pushes;
mod reset;
mod retry;
mod scan;
mod session;
mod text;
mod transaction;
mod value;
mod wire;
mod wrong_server;

pub use builder::{BuildError, ClientBuilder};
pub use client::Client;
pub use codec::decode;
pub use command::{Argument, Command, Request, cmd};
pub use config::{Config, Settings};
pub use connection::Connection;
pub use effect::SubscriptionKind;
pub use error::{ConversionError, Error, InvalidConfig, ProtocolError, Stage};
pub use from_value::FromValue;
pub use key::{Key, Protocol, Secret};
pub use limits::{Limits, ScanError};
pub use manager::{CheckFuture, Manager};
pub use pipeline::Pipeline;
pub use pubsub::Message;
pub use scan::{ATTRIBUTE, Frame, PUSH, Scanner};
pub use session::Session;
pub use value::{ServerError, ServerErrorKind, Value};

#[doc(inline)]
pub use pool_common::connect::Partition;

pub use pool_common::Policy;

/// A borrowed [`Connection`]. Dropping it gives the connection back, after a reset if its session was
/// changed; [`release`](pool_common::Lease::release) waits for that reset.
pub type Lease = pool_common::Lease<Manager>;
