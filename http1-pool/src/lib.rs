//! An HTTP/1 client over an exclusive connection pool: the strategy of Go's [`net/http`] and of
//! [`fasthttp`], with the pool's decisions left to a [`Policy`](pool_common::Policy).
//!
//! Each request borrows a connection for itself, from before its first byte is written until its
//! response has been read to the end, and then gives it back. Between requests a connection waits
//! in the idle list of its [`Key`], where a close by the peer or a stray byte is noticed before it
//! is lent again, and once more before a request is written
//! ([`Socket`](pool_common::connect::Socket)). All reading and writing happens in the caller's task: there is no task, lock or
//! channel between a request and its socket.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http1_pool::{Body, Client};
//!
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = server.local_addr()?;
//! # tokio::spawn(async move {
//! #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #     let (mut peer, _) = server.accept().await.unwrap();
//! #     let mut request = [0; 4096];
//! #     while peer.read(&mut request).await.unwrap() > 0 {
//! #         peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
//! #     }
//! # });
//! let client = Client::new();
//! let request = http::Request::post(format!("http://{address}/greet"))
//!     .header("content-type", "text/plain")
//!     .body(Body::from("hi"))?;
//! let response = client.request(request).await?;
//! assert_eq!(response.status(), 200);
//! let text = response.into_body().read_all(1024).await?;
//! assert_eq!(text, "hello");
//! assert_eq!(client.pool().status().idle, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # https
//!
//! With the feature `rustls`, `https` URIs work. [`ClientBuilder::tls`](ClientBuilder) takes a
//! [`Tls`](pool_common::connect) that says whom to trust, if not whom the operating system trusts, and which
//! certificate to show:
//!
//! ```no_run
//! # #[cfg(feature = "rustls")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pool_common::connect::Tls;
//!
//! let tls = Tls::builder().add_roots_pem(std::fs::read("our-ca.pem")?).build()?;
//! let client = http1_pool::Client::builder().tls(tls).build()?;
//! let response = client.get("https://internal.example/".parse()?).await?;
//! let text = response.into_body().read_all(1 << 20).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Proxies
//!
//! With the feature `proxy`, [`ClientBuilder::proxy`](ClientBuilder) takes a
//! [`Proxy`](pool_common::connect): rules by which hosts are reached through HTTP proxies. `https` goes through a
//! tunnel, inside which TLS is spoken with the server; a proxy gets plain requests in absolute form. https through
//! a proxy:
//!
//! ```
//! # #[cfg(all(feature = "proxy", feature = "rustls"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use pool_common::connect::{Proxy, Tls};
//!
//! # use pool_common::testing::{certificates::Authority, servers::{NginxServer, TinyproxyServer}};
//! # let authority = Authority::new();
//! # let server = NginxServer::start_tls(&authority.issue(&["localhost"]), false, "");
//! # let real = TinyproxyServer::start("BasicAuth user pass");
//! # let our_ca = authority.pem();
//! # /*
//! let proxy = Proxy::new("http://user:pass@proxy.example:3128")?; // or Proxy::from_env()?
//! let tls = Tls::builder().add_roots_pem(std::fs::read("our-ca.pem")?).build()?;
//! # */
//! # let proxy = Proxy::new(&format!("http://user:pass@{}", real.addr()))?;
//! # let tls = Tls::builder().add_roots_pem(our_ca).build()?;
//! let client = http1_pool::Client::builder().proxy(proxy).tls(tls).build()?;
//! # let port = server.addr().port();
//! # /*
//! let response = client.get("https://internal.example/".parse()?).await?;
//! # */
//! # let response = client.get(format!("https://localhost:{port}/").parse()?).await?;
//! assert_eq!(response.status(), 200);
//! let text = response.into_body().read_all(1 << 20).await?;
//! # assert_eq!(text, "hello\n");
//! # assert!(real.log().contains("CONNECT localhost:"));
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "proxy", feature = "rustls")))]
//! # fn main() {}
//! ```
//!
//! The error of a failed dial names the proxy, and what to do if that is known. If the proxy answers a plain request
//! itself, for instance with `407`, that answer is the response.
//!
//! # Connections that are kept apart
//!
//! A [`Partition`] among the extensions of a request keeps its connections apart from those of other requests to
//! the same origin: for tenants, or for requests that must not follow each other on a connection.
//!
//! ```
//! use http1_pool::{Body, Partition};
//!
//! let mut request = http::Request::get("http://a.example/").body(Body::empty())?;
//! request.extensions_mut().insert(Partition::from("tenant 7"));
//! # Ok::<(), http::Error>(())
//! ```
//!
//! # Unix sockets
//!
//! [`unix_uri`] makes the URI for a server that listens on a Unix socket, such as Docker's:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("http1-pool-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let socket = directory.join("docker.sock");
//! # let server = tokio::net::UnixListener::bind(&socket)?;
//! # tokio::spawn(async move {
//! #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #     let (mut peer, _) = server.accept().await.unwrap();
//! #     let read = peer.read(&mut [0; 4096]).await.unwrap();
//! #     assert!(read > 0);
//! #     peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").await.unwrap();
//! # });
//! # /*
//! let socket = "/run/docker.sock";
//! # */
//! let client = http1_pool::Client::new();
//! let containers = http1_pool::unix_uri(&socket, "/containers/json?all=1")?;
//! let response = client.get(containers).await?;
//! assert_eq!(response.status(), 200);
//! let json = response.into_body().read_all(1 << 20).await?;
//! # assert_eq!(json, "[]");
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```
//!
//! A client that reaches all its hosts through one socket has
//! [`Connector::unix`](pool_common::connect::Connector::unix) as its connector.
//!
//! # Redirects, decompression and other layers
//!
//! With the feature `tower`, [`Client`] is a `tower_service::Service`, and the layers of [tower] and
//! [tower-http] go on top of it:
//!
//! ```
//! # #[cfg(not(feature = "tower"))]
//! # fn main() {}
//! # #[cfg(feature = "tower")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use http1_pool::{Body, Client};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # let server = pool_common::testing::servers::NginxServer::start(
//! #     "location /old { return 302 http://$http_host/new; } location /new { return 200 hello; }",
//! # );
//! # let address = server.addr();
//! let client = ServiceBuilder::new()
//!     .layer(tower_http::follow_redirect::FollowRedirectLayer::new())
//!     .layer(tower_http::decompression::DecompressionLayer::new())
//!     .service(Client::new());
//! let request = http::Request::get(format!("http://{address}/old")).body(Body::empty())?;
//! let response = client.oneshot(request).await?;
//! let text = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
//! # assert_eq!(text, "hello");
//! # Ok(())
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
//! # How many connections
//!
//! By default at most 100 connections are open for each origin, idle ones included; a request beyond
//! that waits for one. See [`Client`] for the knob, and for what holds a connection.
//!
//! # Building a client
//!
//! [`Client::builder`] wraps the pool's own builder. It takes a policy, or a change of the default one;
//! a [`Config`], or a change of it; a connector; and what any pool can be given: clock, seed,
//! observer, leak detection, and with the feature `metrics` a name to report under.
//!
//! ```
//! # fn main() -> Result<(), http1_pool::BuildError> {
//! # use std::time::Duration;
//! let client = http1_pool::Client::builder()
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
//! # The life of a request
//!
//! ```text
//!   request --> acquire --> in flight --> head --> body read to its end --> idle
//!               (pool)          |           |               |
//!                               |           |               +-- dropped: read on
//!                               |           |                   a little, or close
//!                               +-----------+-- failed, cancelled, refused to
//!                                               continue: close
//! ```
//!
//! `net/http` gives each connection a reading and a writing task, fasthttp works in the caller's
//! task as is done here; the rest of what distinguishes them (which idle connection goes out
//! first, who dials, what happens at the limit, which requests are sent again) is in the policy:
//! [`pool_common::profile`] has both.
//!
//! # Strict on purpose
//!
//! On a reused connection, a message that two readers can understand in two ways becomes the response
//! to another caller's request. So these are errors, and cost the connection, though hyper accepts
//! them: a line that ends with a bare line feed; a `Content-Length` that is not one plain number, even
//! in a response without a body; `Content-Length` together with `Transfer-Encoding`; a `Transfer-Encoding` other than
//! `chunked`, or one from an HTTP/1.0 server; control characters in chunk extensions; a folded
//! `Content-Length` or `Transfer-Encoding`; a `101` that the request did not ask for. A test sends
//! the same bytes to hyper and compares. Other folded lines are joined by a space, as RFC 9112
//! section 5.2 says. An answer that does not start as HTTP/1 does is an error at once, which says
//! what it [looks like](OtherProtocol). Sizes and counts are bounded by [`Limits`], and every wait
//! on the peer by [`Config`].
//!
//! # When not to use it
//!
//! For upgrades (not built in yet), for redirects, cookies and compression
//! (another layer's work), or where one peer takes many small concurrent requests and speaks
//! HTTP/2: then one shared connection does what here takes many.
//!
//! [`net/http`]: https://pkg.go.dev/net/http#Transport
//! [`fasthttp`]: https://pkg.go.dev/github.com/valyala/fasthttp
#![forbid(unsafe_code)]
// docs.rs says which feature adds what.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod buffers;
mod builder;
mod chunked;
mod client;
mod config;
mod connection;
mod error;
mod fold;
mod foreign;
mod framing;
mod head;
mod key;
mod manager;
mod outgoing;
mod request;
mod retry;
#[cfg(feature = "tower")]
mod service;
mod upload;
mod write;

#[cfg(test)]
mod oracle;

pub use body::Body;
pub use builder::{BuildError, ClientBuilder};
pub use client::Client;
pub use config::{Config, InvalidConfig, Limits};
pub use connection::Connection;
pub use error::{BoxError, Error, InvalidRequest, ProtocolError, Stage};
pub use foreign::OtherProtocol;
#[doc(inline)]
pub use key::{Key, Scheme, unix_uri};

pub use manager::Manager;
#[doc(inline)]
pub use pool_common::connect::Partition;
#[cfg(feature = "tower")]
pub use service::ResponseFuture;
