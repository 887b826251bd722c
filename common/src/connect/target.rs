//! Where a connection is to lead.

use std::fmt;
use std::path::Path;

use super::tcp::written;

/// Where a connection is to lead.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub(super) place: Place<'a>,
    /// Whether to speak TLS, and the protocols to offer in it.
    pub(super) tls: Option<&'a [&'a [u8]]>,
    /// Whether a proxy gets plain requests itself, and opens no tunnel for them.
    #[cfg(feature = "proxy")]
    pub(super) forwarded: bool,
    /// The proxy, if that is known already. Otherwise the connector's rules decide.
    #[cfg(feature = "proxy")]
    pub(super) proxy: Option<&'a super::ProxyServer>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Host { host: &'a str, port: u16 },
    Unix(&'a Path),
}

impl<'a> Target<'a> {
    /// A name or address, with a TCP port.
    pub fn host(host: &'a str, port: u16) -> Self {
        Self::new(Place::Host { host, port })
    }

    /// The Unix socket at `path`.
    pub fn unix(path: &'a Path) -> Self {
        Self::new(Place::Unix(path))
    }

    fn new(place: Place<'a>) -> Self {
        Self {
            place,
            tls: None,
            #[cfg(feature = "proxy")]
            forwarded: false,
            #[cfg(feature = "proxy")]
            proxy: None,
        }
    }

    /// The same over TLS. Offers the protocols of `alpn`, the best first; [`Stream::alpn`](super::Stream::alpn) is what the
    /// server chose. A build without the feature `rustls` cannot connect to it.
    #[must_use]
    pub fn with_tls(self, alpn: &'a [&'a [u8]]) -> Self {
        Self { tls: Some(alpn), ..self }
    }

    /// The same through `proxy`, which gets plain requests itself if they are `forwarded`.
    #[cfg(feature = "proxy")]
    pub(super) fn through(self, proxy: Option<&'a super::ProxyServer>, forwarded: bool) -> Self {
        Self { proxy, forwarded, ..self }
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
