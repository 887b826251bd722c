//! The seam between a protocol and the ways to reach a peer.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::error::{ConnectError, ConnectStage};
use super::stream::Stream;
use super::target::{Place, Target};
use super::tcp::{TcpConnector, within};

/// Opens the connections of a client: TCP by default, or through a Unix socket, or by a connector of the
/// user's; all of these also through an HTTP proxy (feature `proxy`). Over any of them it speaks TLS to
/// targets that ask for it (feature `rustls`).
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
    #[cfg(feature = "rustls")]
    tls: super::Tls,
    /// Whether `tls` was set.
    #[cfg(feature = "rustls")]
    own_tls: bool,
    #[cfg(feature = "proxy")]
    proxy: Option<super::Proxy>,
}

/// How the bytes get to the host of a target.
#[derive(Clone, Default)]
enum Route {
    #[default]
    Direct,
    Unix(Arc<Path>),
    #[cfg(feature = "tower")]
    Service {
        service: Arc<dyn super::service::Dial>,
        speaks_tls: bool,
    },
}

impl From<TcpConnector> for Connector {
    fn from(tcp: TcpConnector) -> Self {
        Self { tcp, ..Self::default() }
    }
}

impl Connector {
    /// Sends everything through the Unix socket at `path`, whatever host a request names.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self { route: Route::Unix(path.as_ref().into()), ..Self::default() }
    }

    /// Has `service` open the connections: it is called with `tcp://host:port`, and answers with
    /// a stream of tokio's traits. For SOCKS proxies, tunnels, tests. TLS comes on top of its streams.
    /// Targets that are Unix sockets are still dialed directly.
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
        let service = Arc::new(super::service::Cloned(service));
        Self { route: Route::Service { service, speaks_tls: false }, ..Self::default() }
    }

    /// For a [`service`](Self::service) that speaks TLS itself, and so is called with `tls://host:port` where
    /// TLS is to be spoken: its streams are used as they are.
    #[cfg(feature = "tower")]
    #[must_use]
    pub fn with_tls_by_service(mut self) -> Self {
        if let Route::Service { speaks_tls, .. } = &mut self.route {
            *speaks_tls = true;
        }
        self
    }

    /// Sets how TLS is spoken. Default [`Tls::default`](super::Tls): trust what the operating system trusts.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn with_tls(mut self, tls: super::Tls) -> Self {
        self.set_tls(tls);
        self
    }

    /// As [`with_tls`](Self::with_tls), in place.
    #[cfg(feature = "rustls")]
    pub fn set_tls(&mut self, tls: super::Tls) {
        (self.tls, self.own_tls) = (tls, true);
    }

    /// Reaches targets through the proxies that `proxy` names for them. Default none. Targets that are Unix
    /// sockets have no proxy. The connection to the proxy itself is opened as the connector says: over TCP,
    /// or for [`Connector::unix`] through a socket.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn with_proxy(mut self, proxy: super::Proxy) -> Self {
        self.set_proxy(proxy);
        self
    }

    /// As [`with_proxy`](Self::with_proxy), in place.
    #[cfg(feature = "proxy")]
    pub fn set_proxy(&mut self, proxy: super::Proxy) {
        self.proxy = Some(proxy);
    }

    /// Opens connections as `newer` does. TLS and proxies stay, unless they were set for `newer`. So the
    /// methods of a builder can be called in any order.
    pub fn replace_with(&mut self, newer: Connector) {
        let older = std::mem::replace(self, newer);
        #[cfg(feature = "rustls")]
        if older.own_tls && !self.own_tls {
            self.set_tls(older.tls);
        }
        #[cfg(feature = "proxy")]
        if self.proxy.is_none() {
            self.proxy = older.proxy;
        }
        #[cfg(not(any(feature = "rustls", feature = "proxy")))]
        drop(older);
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
        #[cfg(feature = "proxy")]
        let proxied = match self.server(target)? {
            // On the heap, so that a dial without a proxy does not need the room.
            Some(proxy) => Some(Box::pin(self.open_through(&proxy, target, end)).await?),
            None => None,
        };
        #[cfg(not(feature = "proxy"))]
        let proxied = None;
        let is_proxied = proxied.is_some();
        let stream = match proxied {
            Some(stream) => stream,
            None => self.open(target, end).await?,
        };
        match target.tls {
            // A service that speaks TLS did so with the proxy at most.
            Some(alpn) if is_proxied || !self.route.speaks_tls() => {
                let secured = within(end, self.secure(stream, target, alpn)).await;
                let failed =
                    |error| ConnectError::new(ConnectStage::Tls, target.to_string(), error);
                secured.map_err(failed)
            }
            _ => Ok(stream),
        }
    }

    /// The proxies that were set.
    #[cfg(feature = "proxy")]
    pub(super) fn proxy(&self) -> Option<&super::Proxy> {
        self.proxy.as_ref()
    }

    /// The proxy for `target`, if there is one.
    ///
    /// # Errors
    /// There is one, but it cannot be told the host.
    #[cfg(feature = "proxy")]
    fn server(&self, target: Target<'_>) -> Result<Option<super::ProxyServer>, ConnectError> {
        if target.proxy.is_some() {
            return Ok(target.proxy.cloned());
        }
        let (Some(proxy), Place::Host { host, port }) = (&self.proxy, target.place) else {
            return Ok(None);
        };
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let server = proxy.server_for_host(scheme, host, port);
        let failed = |error| ConnectError::new(ConnectStage::Proxy, target.to_string(), error);
        server.map(Option::<&_>::cloned).map_err(failed)
    }

    /// Opens a connection to `proxy`, and in it a tunnel to `target` unless the proxy gets its requests itself.
    #[cfg(feature = "proxy")]
    async fn open_through(
        &self,
        proxy: &super::ProxyServer,
        target: Target<'_>,
        end: Option<Instant>,
    ) -> Result<Stream, ConnectError> {
        let failed = |error| ConnectError::new(ConnectStage::Proxy, target.to_string(), error);
        let opened = self.open(Target::host(proxy.host(), proxy.port()), end).await;
        let mut stream = opened.map_err(|error| failed(proxy.unreachable(error.io_error())))?;
        if target.tls.is_some() || !target.forwarded {
            let peer = target.to_string();
            // Two results: whether the tunnel was opened, and whether that ended within the time.
            let tunnel = async { Ok(proxy.tunnel(&mut stream, &peer).await) };
            let opened = within(end, tunnel).await.unwrap_or_else(|_| Err(proxy.silent()));
            opened.map_err(failed)?;
        }
        Ok(stream)
    }

    /// The names of the settings, for the test that each of them keeps connections apart.
    #[cfg(all(feature = "testing", feature = "proxy", feature = "rustls", feature = "tower"))]
    pub(crate) fn settings() -> Vec<&'static str> {
        // Without a wildcard, so that a new kind of route cannot be forgotten.
        let _ = |route: Route| match route {
            Route::Direct | Route::Unix(_) | Route::Service { service: _, speaks_tls: _ } => (),
        };
        [
            crate::testing::field_names!(Connector { tcp, route, tls, own_tls, proxy }),
            vec!["Route.Unix", "Route.Service", "Route.speaks_tls"],
            TcpConnector::settings(),
            super::Tls::settings(),
            super::Proxy::settings(),
        ]
        .concat()
    }

    #[cfg(feature = "rustls")]
    async fn secure(
        &self,
        stream: Stream,
        target: Target<'_>,
        alpn: &[&[u8]],
    ) -> io::Result<Stream> {
        let host = match target.place {
            Place::Host { host, .. } => Some(host),
            Place::Unix(_) => None,
        };
        // On the heap, so that a dial without TLS does not need the room.
        Box::pin(self.tls.secure(stream, host, alpn)).await
    }

    #[cfg(not(feature = "rustls"))]
    async fn secure(&self, _: Stream, _: Target<'_>, _: &[&[u8]]) -> io::Result<Stream> {
        let text = "this program was built without the feature rustls";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    async fn open(&self, target: Target<'_>, end: Option<Instant>) -> Result<Stream, ConnectError> {
        match (&self.route, target.place) {
            (Route::Direct, Place::Host { host, port }) => {
                Ok(self.tcp.open(host, port, end).await?.into())
            }
            (_, Place::Unix(path)) => open_unix(path, end).await,
            (Route::Unix(path), Place::Host { .. }) => open_unix(path, end).await,
            #[cfg(feature = "tower")]
            (Route::Service { service, speaks_tls }, Place::Host { .. }) => {
                let scheme = if *speaks_tls && target.tls.is_some() { "tls" } else { "tcp" };
                let peer = target.to_string();
                let dialed = within(end, service.dial(scheme, &peer)).await;
                dialed.map_err(|error| ConnectError::new(ConnectStage::Open, peer, error))
            }
        }
    }
}

impl Route {
    fn speaks_tls(&self) -> bool {
        #[cfg(feature = "tower")]
        if let Self::Service { speaks_tls, .. } = self {
            return *speaks_tls;
        }
        false
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
            Self::Service { .. } => f.write_str("Service"),
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

    #[test]
    #[cfg(feature = "rustls")]
    fn tls_stays_when_another_connector_that_has_none_is_set() {
        let named = |name| crate::connect::Tls::builder().server_name(name).build().expect("good");
        let mut connector = Connector::default();
        connector.set_tls(named("first.example"));
        connector.replace_with(TcpConnector { nodelay: false, ..TcpConnector::default() }.into());
        let shown = format!("{connector:?}");
        assert!(shown.contains("first.example") && shown.contains("nodelay: false"), "{shown}");
        connector.replace_with(Connector::default().with_tls(named("second.example")));
        let shown = format!("{connector:?}");
        assert!(shown.contains("second.example") && shown.contains("nodelay: true"), "{shown}");
    }
}
