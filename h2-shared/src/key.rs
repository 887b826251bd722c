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
    /// [`Error::InvalidRequest`] unless the URI is absolute, its scheme is `http`, and its authority
    /// holds no user name (RFC 9113, 8.3.1 forbids to send one).
    pub fn from_uri(uri: &Uri) -> Result<Self, Error> {
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(_) => return Err(invalid("the scheme is not http (h2c with prior knowledge)")),
            None => return Err(invalid("the URI is not absolute")),
        }
        match uri.authority() {
            Some(authority) => Self::from_authority(authority),
            None => Err(invalid("the URI has no host")),
        }
    }

    /// The key of `host` or `host:port`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when the host is empty, a user name is in front of it, or the port
    /// is not a number below 65,536.
    pub fn from_authority(authority: &Authority) -> Result<Self, Error> {
        let place = Place::find(authority.as_str()).map_err(invalid)?;
        let authority = if authority.as_str().bytes().any(|b| b.is_ascii_uppercase()) {
            let lower = authority.as_str().to_ascii_lowercase();
            lower.try_into().expect("case does not make an authority invalid")
        } else {
            authority.clone()
        };
        Ok(Self { authority, place })
    }

    /// Host to dial; an IPv6 address comes without its brackets.
    pub fn host(&self) -> &str {
        &self.authority.as_str()[self.place.host_start.into()..self.place.host_end.into()]
    }

    /// Port to dial.
    pub fn port(&self) -> u16 {
        self.place.port
    }
}

impl Place {
    fn find(authority: &str) -> Result<Self, &'static str> {
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
            [] | [b':'] => HTTP_PORT,
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
        self.port() == other.port() && self.host() == other.host()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
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
        let open = usize::from(self.place.host_start);
        let close = usize::from(self.place.host_end) + open;
        write!(f, "http://{}:{}", &self.authority.as_str()[..close], self.port())
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
    fn a_uri_that_cannot_be_dialed_is_refused() {
        let uris = [
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
