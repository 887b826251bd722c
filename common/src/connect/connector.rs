//! The seam between a protocol and the ways to reach a peer.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::error::{ConnectError, ConnectStage};
use super::stream::Stream;
use super::tcp::{TcpConnector, within, written};

/// Opens the connections of a client: TCP by default, or through a Unix socket, or by a connector of the
/// user's.
///
/// Every client of this workspace takes one (`ClientBuilder::connector`). A [`TcpConnector`] becomes one
/// by itself, so its settings can be handed over as they are:
///
/// ```
/// use pool_common::connect::{Connector, TcpConnector};
///
/// let from_settings: Connector = TcpConnector { nodelay: false, ..TcpConnector::default() }.into();
/// let through_a_socket = Connector::unix("/run/proxy.sock");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connector {
    tcp: TcpConnector,
    route: Route,
}

/// How the bytes get to the host of a target.
#[derive(Clone, Default)]
enum Route {
    #[default]
    Direct,
    Unix(Arc<Path>),
    #[cfg(feature = "tower")]
    Service(Arc<dyn super::service::Dial>),
}

/// Where a connection is to lead.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    place: Place<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Host { host: &'a str, port: u16 },
    Unix(&'a Path),
}

impl<'a> Target<'a> {
    /// A name or address, with a TCP port.
    pub fn host(host: &'a str, port: u16) -> Self {
        Self { place: Place::Host { host, port } }
    }

    /// The Unix socket at `path`.
    pub fn unix(path: &'a Path) -> Self {
        Self { place: Place::Unix(path) }
    }
}

/// `host:port`, or the path.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Host { host, port } => f.write_str(&written(host, port)),
            Place::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<TcpConnector> for Connector {
    fn from(tcp: TcpConnector) -> Self {
        Self { tcp, route: Route::Direct }
    }
}

impl Connector {
    /// Sends everything through the Unix socket at `path`, whatever host a request names.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self { route: Route::Unix(path.as_ref().into()), ..Self::default() }
    }

    /// Has `service` open the connections: it is called with `tcp://host:port`, and answers with
    /// a stream of tokio's traits. For SOCKS proxies, tunnels, tests. Targets that are Unix sockets are
    /// still dialed directly.
    ///
    /// The time of a dial bounds the service as it bounds TCP. On its streams the peek rule sees
    /// what one poll of the stream shows; see [`Stream::other`].
    ///
    /// ```
    /// # #[derive(Clone)] struct InMemory;
    /// # impl tower_service::Service<http::Uri> for InMemory {
    /// #     type Response = tokio::io::DuplexStream;
    /// #     type Error = std::io::Error;
    /// #     type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
    /// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
    /// #         std::task::Poll::Ready(Ok(()))
    /// #     }
    /// #     fn call(&mut self, _: http::Uri) -> Self::Future { std::future::ready(Ok(tokio::io::duplex(1).0)) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use pool_common::connect::{Connector, Target};
    ///
    /// let connector = Connector::service(InMemory); // a tower_service::Service<http::Uri>
    /// let stream = connector.connect(Target::host("service.test", 80)).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tower")]
    pub fn service<S>(service: S) -> Self
    where
        S: tower_service::Service<http::Uri> + Clone + Send + Sync + 'static,
        S::Response: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send + 'static,
    {
        Self { route: Route::Service(Arc::new(super::service::Cloned(service))), ..Self::default() }
    }

    /// Opens a connection to `target`, within the time that the pool's dial has left
    /// ([`dial_deadline`](super::dial_deadline)) or the connector's own `timeout`.
    ///
    /// # Errors
    /// [`ConnectError`] names the peer and the stage that failed, even if that is because the time was
    /// up.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever was opened.
    pub async fn connect(&self, target: Target<'_>) -> Result<Stream, ConnectError> {
        let end = self.tcp.end(Instant::now());
        self.open(target, end).await
    }

    async fn open(&self, target: Target<'_>, end: Option<Instant>) -> Result<Stream, ConnectError> {
        match (&self.route, target.place) {
            (Route::Direct, Place::Host { host, port }) => {
                Ok(self.tcp.open(host, port, end).await?.into())
            }
            (_, Place::Unix(path)) => open_unix(path, end).await,
            (Route::Unix(path), Place::Host { .. }) => open_unix(path, end).await,
            #[cfg(feature = "tower")]
            (Route::Service(service), Place::Host { .. }) => {
                let failed =
                    |error| ConnectError::new(ConnectStage::Open, target.to_string(), error);
                within(end, service.dial(&target.to_string())).await.map_err(failed)
            }
        }
    }
}

async fn open_unix(path: &Path, end: Option<Instant>) -> Result<Stream, ConnectError> {
    #[cfg(unix)]
    let opened =
        within(end, async { Ok(tokio::net::UnixStream::connect(path).await?.into()) }).await;
    #[cfg(not(unix))]
    let opened = within(end, async {
        let text = "this system has no Unix sockets";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    })
    .await;
    opened.map_err(|error: io::Error| {
        ConnectError::new(ConnectStage::Open, path.display().to_string(), error)
    })
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("Direct"),
            Self::Unix(path) => f.debug_tuple("Unix").field(path).finish(),
            #[cfg(feature = "tower")]
            Self::Service(_) => f.write_str("Service"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_that_is_not_there_is_named() {
        let connector = Connector::unix("/nowhere/at-all.sock");
        let error = connector.connect(Target::host("a", 80)).await.expect_err("there is none");
        assert_eq!((error.stage(), error.kind()), (ConnectStage::Open, io::ErrorKind::NotFound));
        assert!(error.to_string().starts_with("/nowhere/at-all.sock: "), "{error}");
    }
}
