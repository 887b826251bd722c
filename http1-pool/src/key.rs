//! The key: everything that shaped a connection.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use http::uri::{Authority, Uri};

use crate::error::InvalidRequest;

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP.
    Http,
}

/// The key of a pooled connection: scheme, host, port.
///
/// Two requests may share a connection exactly when their keys are equal. Host names compare
/// without regard to case, and a missing port equals the scheme's default, 80. Making a key
/// copies nothing. Source: `net/http` `connectMethodKey`.
#[derive(Clone)]
pub struct Key {
    scheme: Scheme,
    /// Only its host counts, which is its first `host_length` bytes.
    authority: Authority,
    host_length: u16,
    port: u16,
}

impl Key {
    /// The key for requests to `uri`.
    ///
    /// # Errors
    /// [`InvalidRequest`] if there is no scheme or host, the scheme is not `http`, the port is no
    /// port, or the URI carries a user name or password.
    pub fn from_uri(uri: &Uri) -> Result<Self, InvalidRequest> {
        match uri.scheme_str() {
            Some("http") => {}
            Some(other) => return Err(InvalidRequest::UnsupportedScheme(other.to_owned())),
            None => return Err(InvalidRequest::NoScheme),
        }
        let authority = uri.authority().ok_or(InvalidRequest::NoHost)?;
        Self::from_authority(authority)
    }

    /// The key for plain HTTP to `authority`, which is `host` or `host:port`.
    ///
    /// # Errors
    /// As [`from_uri`](Key::from_uri).
    pub fn from_authority(authority: &Authority) -> Result<Self, InvalidRequest> {
        if authority.as_str().contains('@') {
            return Err(InvalidRequest::Credentials);
        }
        let host = authority.host();
        if host.is_empty() || host == "[]" {
            return Err(InvalidRequest::NoHost);
        }
        let port = match &authority.as_str()[host.len()..] {
            "" | ":" => 80,
            _ => {
                authority.port_u16().filter(|port| *port != 0).ok_or(InvalidRequest::InvalidPort)?
            }
        };
        let host_length = u16::try_from(host.len()).map_err(|_| InvalidRequest::NoHost)?;
        Ok(Self { scheme: Scheme::Http, authority: authority.clone(), host_length, port })
    }

    /// An equal key that shares no memory with the URI from which this key was made, since that may be
    /// long.
    pub(crate) fn detached(&self) -> Self {
        let written = self.authority.as_str();
        let authority = Authority::from_maybe_shared(Bytes::copy_from_slice(written.as_bytes()));
        Self { authority: authority.unwrap_or_else(|_| self.authority.clone()), ..self.clone() }
    }

    /// How the bytes travel.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or address to dial; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.written_host();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Port to dial.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as it stands in a URI.
    fn written_host(&self) -> &str {
        &self.authority.as_str()[..usize::from(self.host_length)]
    }
}

// `Eq` and `Hash` take the struct apart, so that a new field cannot be forgotten.

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let Self { scheme, authority: _, host_length, port } = self;
        *port == other.port
            && *host_length == other.host_length
            && *scheme == other.scheme
            && self.written_host().eq_ignore_ascii_case(other.written_host())
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { scheme, authority: _, host_length, port } = self;
        scheme.hash(state);
        port.hash(state);
        host_length.hash(state);
        // In pieces on the stack, since hashing byte by byte is slow.
        for piece in self.written_host().as_bytes().chunks(32) {
            let mut lower = [0; 32];
            let lower = &mut lower[..piece.len()];
            lower.copy_from_slice(piece);
            lower.make_ascii_lowercase();
            state.write(lower);
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
        };
        write!(f, "{scheme}://{}:{}", self.written_host(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn key(uri: &str) -> Result<Key, InvalidRequest> {
        Key::from_uri(&uri.parse().unwrap())
    }

    #[test]
    fn equal_hosts_and_ports_share() {
        let base = key("http://example.org/a?b").unwrap();
        for same in ["http://EXAMPLE.org:80/", "HTTP://example.org", "http://example.org:/c"] {
            let other = key(same).unwrap();
            assert_eq!(base, other);
            assert_eq!(HashSet::from([base.clone(), other]).len(), 1, "{same}");
        }
        for other in ["http://example.org:81/", "http://example.com/", "http://[::1]/"] {
            assert_ne!(base, key(other).unwrap());
        }
        assert_eq!(key("http://[::1]:8080/").unwrap().host(), "::1");
        assert_eq!(key("http://[::1]:8080/").unwrap().to_string(), "http://[::1]:8080");
    }

    #[test]
    fn a_uri_that_cannot_be_dialed_is_an_error() {
        assert_eq!(key("/path"), Err(InvalidRequest::NoScheme));
        assert_eq!(key("example.org"), Err(InvalidRequest::NoScheme));
        assert_eq!(key("https://a/"), Err(InvalidRequest::UnsupportedScheme("https".into())));
        assert_eq!(key("http://a:99999/"), Err(InvalidRequest::InvalidPort));
        assert_eq!(key("http://a:0/"), Err(InvalidRequest::InvalidPort));
        let error = key("http://user:secret@a/").unwrap_err();
        assert_eq!(error, InvalidRequest::Credentials);
        assert!(!error.to_string().contains("secret"));
    }
}
