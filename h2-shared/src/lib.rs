//! HTTP/2 connections shared by many requests, over [`pool_common`]'s pool.
//!
//! One connection per origin carries as many requests at a time as the peer allows. A request
//! leases a *stream slot*, not a connection: the slot is taken at acquire and given back when the
//! request body and the response body have both ended. Slots follow the peer's
//! MAX_CONCURRENT_STREAMS, also while it changes, and our own cap. When all slots are taken the
//! policy opens a further connection, or the request waits in arrival order; the first connection
//! with room fills up before the next, so that surplus ones become idle and expire. A GOAWAY takes
//! a connection out of use at once and lets its streams finish; what the peer did not process is
//! sent again elsewhere.
//!
//! # Example
//!
//! ```
//! # async fn example(addr: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
//! use http_body_util::{BodyExt, Empty};
//!
//! let client = h2_shared::Client::new();
//! let uri = format!("http://{addr}/");
//! let request = http::Request::get(uri).body(Empty::<bytes::Bytes>::new())?;
//! let response = client.request(request).await?;
//! assert_eq!(response.status(), 200);
//! let text = response.into_body().collect().await?.to_bytes();
//! println!("{} bytes over {:?}", text.len(), client.pool().status());
//! # Ok(())
//! # }
//! # let server = pool_common::testing::servers::NghttpdServer::start(&[]);
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(example(server.addr())).unwrap();
//! ```
//!
//! # https and Unix sockets
//!
//! With the feature `rustls`, `https` URIs work, and HTTP/2 is agreed on in the handshake (ALPN);
//! [`ClientBuilder::tls`](ClientBuilder) says whom to trust. [`unix_uri`] makes the URI for a server that
//! listens on a Unix socket.
//!
//! # Proxies, and connections that are kept apart
//!
//! With the feature `proxy`, [`ClientBuilder::proxy`](ClientBuilder) takes a [`Proxy`](pool_common::connect): rules by
//! which hosts are reached through HTTP proxies, always in a tunnel (`CONNECT`).
//!
//! ```
//! # #[cfg(feature = "proxy")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use pool_common::connect::Proxy;
//!
//! let proxy = Proxy::builder()
//!     .https("http://user:password@proxy.example:3128")
//!     .no_proxy("localhost, .internal.example, 10.0.0.0/8")
//!     .build()?; // or Proxy::from_env()?
//! let client = h2_shared::Client::builder().proxy(proxy).build()?;
//! # Ok(()) }
//! # #[cfg(not(feature = "proxy"))]
//! # fn main() {}
//! ```
//!
//! A [`Partition`] among the extensions of a request keeps its connections apart from those of other requests
//! to the same origin.
//!
//! # Redirects, decompression and other layers
//!
//! With the feature `tower`, [`Client`] is a `tower_service::Service`, and the layers of [tower] and
//! [tower-http] go on top of it:
//!
//! ```
//! # #[cfg(feature = "tower")]
//! # async fn example(addr: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use h2_shared::{Body, Client};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! let client = ServiceBuilder::new()
//!     .layer(tower_http::follow_redirect::FollowRedirectLayer::new())
//!     .layer(tower_http::decompression::DecompressionLayer::new())
//!     .service(Client::new());
//! let request = http::Request::get(format!("http://{addr}/")).body(Body::default())?;
//! let response = client.oneshot(request).await?;
//! let text = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
//! # assert_eq!(text, "hello\n");
//! # Ok(())
//! # }
//! # #[cfg(feature = "tower")]
//! # {
//! # let server = pool_common::testing::servers::NghttpdServer::start(&[]);
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(example(server.addr())).unwrap();
//! # }
//! ```
//!
//! The service is always ready; see [`Client`] for how the pool limits requests then.
//!
//! tower-http's `FollowRedirect` drops the extensions of a request at its first redirect. So a layer that sets
//! a [`Partition`] or a [`TotalTimeout`](pool_common::exchange::TotalTimeout) belongs *below* it, next to the client.
//! There `TotalTimeout::after` is a limit for each hop; tower's `Timeout` on top ends all of them.
//!
//! [tower]: https://docs.rs/tower
//! [tower-http]: https://docs.rs/tower-http
//!
//! # gRPC
//!
//! With the feature `tonic`, [`GrpcTransport`] makes a client the transport of tonic's
//! generated clients: with deadlines that hold, status codes for all errors, and a default origin.
//!
//! # How many connections
//!
//! As few as the streams fit on: the first connection of an origin fills up before the next is dialed,
//! and one dial at a time serves all callers that wait for it. By default at most 100 connections are
//! open for each origin; a request beyond the streams of all of them waits for one, for at most 30 s.
//! The knobs are `max_open_per_key`, `max_leases_per_connection` (streams of ours on one connection)
//! and `acquire_timeout`.
//!
//! # Building a client
//!
//! [`Client::builder`] wraps the pool's own builder. It takes a policy, or a change of the default one;
//! a [`Config`], or a change of it; a connector; and what any pool can be given: clock, seed,
//! observer, leak detection, and with the feature `metrics` a name to report under.
//!
//! ```
//! # fn main() -> Result<(), h2_shared::BuildError> {
//! # use std::time::Duration;
//! let client = h2_shared::Client::builder()
//!     .change_policy(|policy| policy.max_open_per_key = Some(20))
//!     .change_config(|config| config.response_timeout = Some(Duration::from_secs(5)))
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
//!          dial, preface, SETTINGS      GOAWAY, PROTOCOL_ERROR, PING overdue
//!   (no connection) ────────────▶ open ──────────────────────────▶ draining
//!                                  │           last stream ended,   │
//!                                  │       no answer to the PING,   │
//!                                  │      or the connection broke   │
//!                                  │ the connection broke           ▼
//!                                  └─────────────────────────────▶ closed
//! ```
//!
//! Without keep-alive PINGs a silent peer is found by its first missed deadline: a request that
//! waits for three quarters of its `response_timeout` or `body_timeout` without a byte on its
//! connection causes one PING, and if the deadline passes in silence, too, and the peer had 100 ms
//! to answer, the connection takes no more requests. It is closed, with the streams that are left,
//! when the silence goes on for `keep_alive_timeout`. The same follows when a caller drops a request
//! after at least 100 ms of silence; of such connections an origin loses at most one in five minutes.
//!
//! # Who works this way
//!
//! Real pools of this kind: [`net/http`](https://pkg.go.dev/net/http) (its HTTP/2 transport),
//! gRPC's channel with [several connections per
//! subchannel](https://github.com/grpc/proposal/blob/master/A105-max-concurrent-streams-connection-scaling.md),
//! and every browser.
//!
//! # Costs
//!
//! One task per connection moves its frames; a request runs in its caller's task and allocates
//! nothing unless it has a body. Flow control, header compression and framing are the
//! [`h2`] crate's.
//!
//! # When not to use it
//!
//! Streams of one connection share one TCP connection: a lost packet holds all of them up, and
//! large bodies slow small ones down. Where the server speaks HTTP/1 well and latency under load
//! matters most, many exclusive connections can be faster. Server push and CONNECT are not
//! supported.

#![forbid(unsafe_code)]
// docs.rs says which feature adds what.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod builder;
mod client;
mod config;
mod connection;
mod driver;
mod error;
mod exchange;
mod frames;
#[cfg(feature = "tonic")]
mod grpc;
mod head;
mod keep_alive;
mod key;
mod manager;
mod observed;
mod patience;
mod pseudo;
mod retry;
#[cfg(feature = "tower")]
mod service;
mod slot;
#[cfg(feature = "tonic")]
mod status;
mod transport;
mod upload;

pub use body::Body;
pub use builder::{BuildError, ClientBuilder};
pub use client::Client;
pub use config::{Config, InvalidConfig};
pub use connection::Connection;
pub use error::{Closed, ConnectError, Error, InvalidRequest};
#[cfg(feature = "tonic")]
pub use grpc::{GrpcBody, GrpcFuture, GrpcTransport};
pub use h2::Reason;
#[doc(inline)]
pub use key::{Key, Scheme, unix_uri};

pub use manager::Manager;
pub use observed::Phase;
#[doc(inline)]
pub use pool_common::connect::Partition;
#[cfg(feature = "tower")]
pub use service::ResponseFuture;
