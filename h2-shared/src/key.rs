//! What separates HTTP/2 connections: the origin.

use std::fmt;
use std::hash::{Hash, Hasher};

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::error::Error;

/// Port of `http://` when the URI names none.
const HTTP_PORT: u16 = 80;

/// Everything that shaped a connection: host and port. Cheap to clone.
///
/// Two keys are equal when they reach the same place: the host is compared without regard to case,
/// and a missing port is port 80. There is no scheme in it because there is one only, HTTP/2 over
/// plain TCP with prior knowledge (RFC 9113, 3.3).
#[derive(Clone)]
pub struct Key {
    authority: Authority,
    port: u16,
}

impl Key {
    /// The key of the origin that `uri` names.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] unless the URI is absolute, its scheme is `http`, and its authority
    /// holds no user name (RFC 9113, 8.3.1 forbids to send one).
    pub fn from_uri(uri: &Uri) -> Result<Self, Error> {
        let invalid = |reason| Err(Error::InvalidRequest { reason });
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(_) => return invalid("the scheme is not http (h2c with prior knowledge)"),
            None => return invalid("the URI is not absolute"),
        }
        let Some(authority) = uri.authority() else {
            return invalid("the URI has no host");
        };
        Self::from_authority(authority.clone())
    }

    /// The key of `host` or `host:port`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when the host is empty, a user name is in front of it, or the port
    /// is not a number below 65,536.
    pub fn from_authority(authority: Authority) -> Result<Self, Error> {
        let invalid = |reason| Err(Error::InvalidRequest { reason });
        if authority.as_str().contains('@') {
            return invalid("the URI holds a user name");
        }
        if authority.host().is_empty() {
            return invalid("the URI has no host");
        }
        let rest = &authority.as_str()[authority.host().len()..];
        let port = match (authority.port_u16(), rest) {
            (Some(port), _) => port,
            (None, "" | ":") => HTTP_PORT,
            (None, _) => return invalid("the port of the URI is not a port"),
        };
        Ok(Self { authority, port })
    }

    /// Host to dial; an IPv6 address comes without its brackets.
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
    }

    /// Port to dial.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port && self.host().eq_ignore_ascii_case(other.host())
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let host = self.host().as_bytes();
        let mut lower = [0; 32];
        for part in host.chunks(lower.len()) {
            let lower = &mut lower[..part.len()];
            lower.copy_from_slice(part);
            lower.make_ascii_lowercase();
            state.write(lower);
        }
        state.write_usize(host.len());
        state.write_u16(self.port);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.authority.host(), self.port)
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
    fn an_ipv6_address_loses_its_brackets_for_the_dial_only() {
        let key = key("http://[::1]:8080/").unwrap();
        assert_eq!((key.host(), key.port()), ("::1", 8080));
        assert_eq!(key.to_string(), "http://[::1]:8080");
    }

    #[test]
    fn what_cannot_be_dialed_is_refused() {
        for uri in ["https://a/", "/path", "http://user:secret@a/", "http://a:99999/"] {
            assert!(key(uri).is_err(), "{uri}");
        }
    }
}
