//! From a URI to its key and its connection: what a connector adds to them.

use http::{Extensions, Uri};

use super::connector::Connector;
use super::error::ConnectError;
use super::invalid_uri::InvalidUri;
use super::partition::Partition;
use super::stream::Stream;
use super::target::Target;
use super::uri_key::{Scheme, UriKey};

/// How a plain request of `http` goes through a proxy. Requests over TLS always go through a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainProxying {
    /// The proxy gets it, in absolute form: HTTP/1.
    Forwarded,
    /// Through a tunnel as well: HTTP/2.
    Tunneled,
}

impl Connector {
    /// The key of the connection for a request to `uri` with these extensions: with the proxy that the
    /// connector has for it, and in the [`Partition`] that is among the extensions.
    ///
    /// # Errors
    /// As [`UriKey::from_uri`].
    #[inline]
    pub fn uri_key(&self, uri: &Uri, extensions: &Extensions) -> Result<UriKey, InvalidUri> {
        let key = UriKey::from_uri(uri)?;
        // Most requests have neither, and keep their key where it is: some 30 instructions of 10,000.
        if extensions.is_empty() && !self.has_proxy() {
            return Ok(key);
        }
        Ok(self.complete_key(key, extensions))
    }

    /// As [`uri_key`](Self::uri_key), for a key that was made in another way.
    #[must_use]
    #[inline]
    pub fn complete_key(&self, key: UriKey, extensions: &Extensions) -> UriKey {
        let key = self.routed(key);
        match extensions.get::<Partition>() {
            Some(partition) => key.with_partition(partition.clone()),
            None => key,
        }
    }

    /// Opens a connection to the place that `key` names, through its proxy, or if it has none through the
    /// one that the connector has for it. Over TLS it offers the protocols of `alpn`, the best first.
    /// Returns the key of the connection that was opened, too.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_uri(
        &self,
        key: &UriKey,
        alpn: &[&[u8]],
        plain: PlainProxying,
    ) -> Result<(Stream, UriKey), ConnectError> {
        let key = self.routed(key.detached());
        let path = key.unix_path();
        let target = match &path {
            Some(path) => Target::unix(path),
            None => Target::host(key.host(), key.port()),
        };
        let target = match key.scheme() {
            Scheme::Https => target.with_tls(alpn),
            Scheme::Http | Scheme::HttpUnix => target,
        };
        #[cfg(feature = "proxy")]
        let target = target.through(key.proxy(), plain == PlainProxying::Forwarded);
        #[cfg(not(feature = "proxy"))]
        let _ = plain;
        let stream = self.connect(target).await?;
        Ok((stream, key))
    }

    #[inline]
    fn has_proxy(&self) -> bool {
        #[cfg(feature = "proxy")]
        return self.proxy().is_some();
        #[cfg(not(feature = "proxy"))]
        false
    }

    /// The key with the proxy that this connector has for it.
    #[inline]
    fn routed(&self, key: UriKey) -> UriKey {
        #[cfg(feature = "proxy")]
        if let (Some(proxy), None) = (self.proxy(), key.proxy()) {
            let server = key.to_uri().and_then(|uri| proxy.server(&uri).cloned());
            if let Some(server) = server {
                return key.through(server);
            }
        }
        key
    }
}
