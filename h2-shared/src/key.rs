//! What separates HTTP/2 connections: the origin.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use http::Uri;
use http::uri::{Authority, PathAndQuery};
use pool_common::connect::{UNIX_SCHEME, unix_host, unix_path};

use crate::error::Error;

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// HTTP/2 over plain TCP with prior knowledge (RFC 9113, 3.3): `http`.
    Http,
    /// TLS over TCP, with HTTP/2 agreed on in the handshake (ALPN): `https`. Needs the feature `rustls`.
    Https,
    /// HTTP/2 with prior knowledge over a Unix socket, whose path is the host: `http+unix`, see [`unix_uri`].
    HttpUnix,
}

impl Scheme {
    /// The port of a URI that names none.
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::HttpUnix => 0,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::HttpUnix => UNIX_SCHEME,
        }
    }
}

/// The URI of `target` (path and query) at the server that listens on the Unix socket `socket`:
/// `http+unix://HOST/path?query`, with the path of the socket in hexadecimal as HOST. The request's
/// authority is `localhost` unless it has a `Host` header.
///
/// ```
/// let uri = h2_shared::unix_uri("/run/api.sock", "/items?n=1")?;
/// assert_eq!(uri, "http+unix://2f72756e2f6170692e736f636b/items?n=1");
/// # Ok::<(), http::Error>(())
/// ```
///
/// # Errors
/// When `target` is not a path and query.
pub fn unix_uri(socket: impl AsRef<Path>, target: &str) -> Result<Uri, http::Error> {
    let target = PathAndQuery::try_from(target)?;
    Uri::builder().scheme(UNIX_SCHEME).authority(unix_host(socket)).path_and_query(target).build()
}

/// Everything that shaped a connection: scheme, host and port; for a Unix socket its path in place of the
/// host. Cheap to clone.
///
/// Two keys are equal when they reach the same place in the same way: the host is compared without regard
/// to case, and a missing port is the scheme's own.
#[derive(Clone)]
pub struct Key {
    scheme: Scheme,
    /// In lower case, so that keys are compared and hashed as bytes.
    authority: Authority,
    place: Place,
}

/// Where in an authority the host is, and the port. Found once: each request makes a key.
#[derive(Clone, Copy)]
struct Place {
    host_start: u16,
    host_end: u16,
    port: u16,
}

impl Key {
    /// The key of the origin that `uri` names.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] unless the URI is absolute, its scheme is `http`, `https` (feature `rustls`)
    /// or `http+unix`, and its authority holds no user name (RFC 9113, 8.3.1 forbids to send one).
    pub fn from_uri(uri: &Uri) -> Result<Self, Error> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            #[cfg(feature = "rustls")]
            Some("https") => Scheme::Https,
            Some(UNIX_SCHEME) => Scheme::HttpUnix,
            Some(_) => {
                let reason = "the scheme is not http (h2c with prior knowledge), http+unix, or with \
                              the feature rustls https";
                return Err(invalid(reason));
            }
            None => return Err(invalid("the URI is not absolute")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("the URI has no host"))?;
        let key = Self::new(scheme, authority)?;
        if scheme == Scheme::HttpUnix && (key.unix_path().is_none() || key.port() != 0) {
            let reason = "the host of an http+unix URI must be the socket's path in hexadecimal, \
                          as unix_uri makes it";
            return Err(invalid(reason));
        }
        Ok(key)
    }

    /// The key for HTTP/2 over plain TCP to `host` or `host:port`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when the host is empty, a user name is in front of it, or the port
    /// is not a number below 65,536.
    pub fn from_authority(authority: &Authority) -> Result<Self, Error> {
        Self::new(Scheme::Http, authority)
    }

    fn new(scheme: Scheme, authority: &Authority) -> Result<Self, Error> {
        let place = Place::find(authority.as_str(), scheme.default_port()).map_err(invalid)?;
        let authority = if authority.as_str().bytes().any(|b| b.is_ascii_uppercase()) {
            let lower = authority.as_str().to_ascii_lowercase();
            lower.try_into().expect("case does not make an authority invalid")
        } else {
            authority.clone()
        };
        Ok(Self { scheme, authority, place })
    }

    /// Host to dial; an IPv6 address comes without its brackets.
    pub fn host(&self) -> &str {
        &self.authority.as_str()[self.place.host_start.into()..self.place.host_end.into()]
    }

    /// Port to dial; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// How the bytes travel.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The path of the Unix socket to dial, if it is one.
    pub fn unix_path(&self) -> Option<PathBuf> {
        match self.scheme {
            Scheme::HttpUnix => unix_path(self.host()),
            Scheme::Http | Scheme::Https => None,
        }
    }
}

impl Place {
    fn find(authority: &str, default_port: u16) -> Result<Self, &'static str> {
        let bytes = authority.as_bytes();
        if bytes.contains(&b'@') {
            return Err("the URI holds a user name");
        }
        let bracketed = bytes.first() == Some(&b'[');
        let (start, last) = if bracketed { (1, b']') } else { (0, b':') };
        let end = bytes.iter().position(|&b| b == last).unwrap_or(bytes.len());
        if start >= end {
            return Err("the URI has no host");
        }
        let port = match &bytes[(end + usize::from(bracketed)).min(bytes.len())..] {
            [] | [b':'] => default_port,
            [b':', digits @ ..] => parse_port(digits).ok_or("the port of the URI is not a port")?,
            _ => return Err("the port of the URI is not a port"),
        };
        let short = |at: usize| u16::try_from(at).map_err(|_| "the host of the URI is too long");
        Ok(Self { host_start: short(start)?, host_end: short(end)?, port })
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |port, byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        port.checked_mul(10)?.checked_add(digit.into())
    })
}

fn invalid(reason: &'static str) -> Error {
    Error::InvalidRequest { reason }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // Taken apart, so that a new field cannot be forgotten. Place and authority are in the methods.
        let Self { scheme, authority: _, place: _ } = self;
        *scheme == other.scheme && self.port() == other.port() && self.host() == other.host()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { scheme, authority: _, place: _ } = self;
        scheme.hash(state);
        state.write(self.host().as_bytes());
        state.write_u16(self.port());
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        if let Some(path) = self.unix_path() {
            return write!(f, "{scheme}://{}", path.display());
        }
        let open = usize::from(self.place.host_start);
        let close = usize::from(self.place.host_end) + open;
        write!(f, "{scheme}://{}:{}", &self.authority.as_str()[..close], self.port())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(uri: &'static str) -> Result<Key, Error> {
        Key::from_uri(&Uri::from_static(uri))
    }

    #[test]
    fn the_same_place_is_the_same_key() {
        let keys = ["http://A.example/x", "http://a.EXAMPLE:80/", "http://a.example:/"];
        let keys: HashSet<Key> = keys.map(|uri| key(uri).unwrap()).into();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn host_and_port_separate() {
        let keys = ["http://a/", "http://b/", "http://a:81/"];
        let keys: HashSet<Key> = keys.map(|uri| key(uri).unwrap()).into();
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn the_path_of_a_unix_socket_is_the_key() {
        let of = |path| Key::from_uri(&unix_uri(path, "/a").unwrap()).unwrap();
        let (one, other) = (of("/run/a.sock"), of("/run/b.sock"));
        let over_tcp = Key::from_uri(&format!("http://{}/", one.host()).parse().unwrap()).unwrap();
        let keys: HashSet<Key> = [one.clone(), of("/run/a.sock"), other, over_tcp].into();
        assert_eq!(keys.len(), 3);
        assert_eq!(one.unix_path().as_deref(), Some("/run/a.sock".as_ref()));
        assert_eq!(one.to_string(), "http+unix:///run/a.sock");
        for uri in ["http+unix://run/", "http+unix://2f7/", "http+unix://2f72:80/"] {
            assert!(Key::from_uri(&uri.parse().unwrap()).is_err(), "{uri}");
        }
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets_for_the_dial_only() {
        let key = key("http://[::1]:8080/").unwrap();
        assert_eq!((key.host(), key.port()), ("::1", 8080));
        assert_eq!(key.to_string(), "http://[::1]:8080");
    }

    #[test]
    fn a_uri_that_cannot_be_dialed_is_refused() {
        let uris = [
            "ftp://a/",
            #[cfg(not(feature = "rustls"))]
            "https://a/",
            "/path",
            "http://user:secret@a/",
            "http://user@a/",
            "http://a:99999/",
            "http://:80/",
        ];
        for uri in uris {
            let error = key(uri).unwrap_err();
            assert!(matches!(error, Error::InvalidRequest { .. }), "{uri}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
