//! Where requests go: the embedded server, or a server of the user.

use std::net::{SocketAddr, ToSocketAddrs};

use http::{HeaderValue, Uri};
use url::Url;

use crate::ask::Ask;
use crate::error::BenchError;
use crate::names::Protocol;

/// A server to send requests to.
#[derive(Clone)]
pub struct Target {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it listens.
    pub address: SocketAddr,
    /// The name of the server in HTTP requests, with a relay in front of it and without.
    pub authority: String,
    /// The host to dial.
    pub host: String,
    /// What HTTP asks for: path and query.
    pub path: String,
    /// For redis.
    pub username: Option<String>,
    /// For redis. Never printed.
    pub password: Option<String>,
    /// For redis.
    pub database: u32,
    /// Replies return the nonce of their request.
    pub echoes: bool,
    /// A dial waits for the server's first bytes: framed exchanges an empty frame. Protocols with a greeting,
    /// or with a password, need no extra exchange.
    pub greets: bool,
    /// It is the embedded server, whose oracle can be asked.
    pub embedded: bool,
    /// The relay stands in front of it, and `address` and `host` are the relay's.
    pub relayed: bool,
    /// The requests that are sent there.
    pub ask: Ask,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("protocol", &self.protocol)
            .field("address", &self.address)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// The embedded server of `protocol` at `address`.
    pub fn embedded(protocol: Protocol, address: SocketAddr) -> Self {
        Self {
            protocol,
            address,
            authority: address.to_string(),
            host: address.ip().to_string(),
            path: "/".to_owned(),
            username: None,
            password: None,
            database: 0,
            echoes: true,
            greets: false,
            embedded: true,
            relayed: false,
            ask: Ask::default(),
        }
    }

    /// The same server behind the relay at `relay`.
    #[must_use]
    pub fn through(&self, relay: SocketAddr) -> Self {
        Self { address: relay, host: relay.ip().to_string(), relayed: true, ..self.clone() }
    }

    /// The same, but every dial waits for the first bytes of the server.
    #[must_use]
    pub fn greeting(mut self) -> Self {
        match self.protocol {
            // The embedded server takes any password, and so does a redis-server without one for its
            // user `default`, since version 6.
            Protocol::Resp if self.password.is_none() => {
                if !self.embedded {
                    self.username.get_or_insert_with(|| "default".to_owned());
                }
                self.password = Some("poolbench".to_owned());
            }
            _ => self.greets = true,
        }
        self
    }

    /// The server that a URL names: `http://`, `h2c://` or `redis://`.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for text that is not a URL, a scheme that is not supported, or a host that
    /// has no address.
    pub fn parse(text: &str) -> Result<Self, BenchError> {
        if !text.contains("://") {
            return Err(BenchError::usage(no_scheme(text)));
        }
        // The text may contain a password, so errors do not repeat it.
        let url = Url::parse(text)
            .map_err(|error| BenchError::usage(format!("--target is no URL: {error}")))?;
        let (protocol, default_port) = match url.scheme() {
            "http" => (Protocol::Http1, 80),
            "h2c" => (Protocol::Http2, 80),
            "redis" => (Protocol::Resp, 6379),
            scheme @ ("https" | "rediss") => {
                return Err(BenchError::usage(format!(
                    "--target {scheme}:// is not supported yet; use http://, h2c:// or redis://"
                )));
            }
            scheme => {
                return Err(BenchError::usage(format!(
                    "--target has an unknown scheme '{scheme}'; use http://, h2c:// or redis://"
                )));
            }
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| BenchError::usage("--target names no host"))?
            .to_owned();
        let port = url.port().unwrap_or(default_port);
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let address = (plain, port)
            .to_socket_addrs()
            .map_err(|error| {
                BenchError::usage(format!("cannot reach --target {host}:{port}: {error}"))
            })?
            .next()
            .ok_or_else(|| {
                BenchError::usage(format!("cannot reach --target {host}:{port}: no address"))
            })?;
        let mut path = if url.path().is_empty() { "/" } else { url.path() }.to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        let database = match (protocol, url.path().trim_matches('/')) {
            (Protocol::Resp, number) if !number.is_empty() => number.parse().map_err(|_| {
                BenchError::usage(format!("--target names no database number: '{number}'"))
            })?,
            _ => 0,
        };
        let text = |part: &str| (!part.is_empty()).then(|| percent_decoded(part));
        Ok(Self {
            protocol,
            address,
            authority: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.clone(),
            },
            host: plain.to_owned(),
            path,
            username: text(url.username()),
            password: url.password().and_then(text),
            database,
            echoes: protocol == Protocol::Resp,
            greets: false,
            embedded: false,
            relayed: false,
            ask: Ask::default(),
        })
    }

    /// The URI that an HTTP client requests.
    pub fn uri(&self) -> Uri {
        self.uri_at(&self.authority)
    }

    /// The same for a client that dials the host of its URI: through a relay it also needs the
    /// [`name`](Self::name).
    pub fn dialed_uri(&self) -> Uri {
        if self.relayed { self.uri_at(&self.address.to_string()) } else { self.uri() }
    }

    /// The `Host` of requests whose URI has the address of the relay.
    pub fn name(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.authority).ok().filter(|_| self.relayed)
    }

    fn uri_at(&self, authority: &str) -> Uri {
        format!("http://{authority}{}", self.path).parse().expect("the parts come from a valid URL")
    }

    /// Its name for output, without secrets.
    pub fn describe(&self) -> String {
        if self.embedded {
            format!("embedded {} server at {}", self.protocol, self.address)
        } else {
            let through = if self.relayed { ", through the relay" } else { "" };
            format!("{} server at {}{through}", self.protocol, self.authority)
        }
    }
}

/// Suggests a URL for a target without a scheme. The text before an `@` may be a password.
fn no_scheme(text: &str) -> String {
    let place = text.rsplit('@').next().unwrap_or_default();
    let port = place.split('/').next().and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
    let place = place.escape_debug();
    match port {
        Some("6379") => format!("--target has no scheme: did you mean redis://{place}?"),
        Some("80" | "8080") => format!("--target has no scheme: did you mean http://{place}?"),
        _ => "--target has no scheme: put http://, h2c:// or redis:// before it".to_owned(),
    }
}

/// Decodes a part of a URL; malformed escapes stay as they are.
fn percent_decoded(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = part
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escape {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_protocol_address_and_the_rest() {
        let target = Target::parse("http://127.0.0.1:8080/a?b=c").unwrap();
        assert_eq!(target.protocol, Protocol::Http1);
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.path, "/a?b=c");
        assert!(!target.echoes);

        let target = Target::parse("redis://me:p%40ss@127.0.0.1/3").unwrap();
        assert_eq!(target.address.port(), 6379);
        assert_eq!(target.username.as_deref(), Some("me"));
        assert_eq!(target.password.as_deref(), Some("p@ss"));
        assert_eq!(target.database, 3);
        assert!(target.echoes);
        assert!(!format!("{target:?}").contains("p@ss"));

        let target = Target::parse("h2c://[::1]:9000").unwrap();
        assert_eq!(target.protocol, Protocol::Http2);
        assert_eq!(target.uri().path(), "/");
        assert_eq!(target.host, "::1");
    }

    #[test]
    fn a_server_behind_the_relay_keeps_its_name_and_its_secrets() {
        let relay = SocketAddr::from(([127, 0, 0, 1], 4000));
        let target = Target::parse("http://127.0.0.1:8080/a").unwrap().through(relay);
        assert_eq!(target.address, relay);
        assert_eq!(target.uri(), "http://127.0.0.1:8080/a");
        assert_eq!(target.dialed_uri(), "http://127.0.0.1:4000/a");
        assert_eq!(target.name().unwrap(), "127.0.0.1:8080");
        assert_eq!(target.describe(), "http1 server at 127.0.0.1:8080, through the relay");

        let greeted = |url| Target::parse(url).unwrap().through(relay).greeting();
        let target = greeted("redis://127.0.0.1:6379");
        assert_eq!(target.username.as_deref(), Some("default"), "a server without a password");
        let target = greeted("redis://:secret@127.0.0.1:6379");
        assert_eq!((target.username, target.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn a_missing_scheme_is_suggested_by_the_port() {
        for (text, words) in [
            ("127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("localhost:6379/2", "redis://localhost:6379/2"),
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1:80/a", "http://127.0.0.1:80/a"),
            ("127.0.0.1:9", "http://, h2c:// or redis://"),
            ("me:secret@db:6379", "redis://db:6379"),
        ] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn bad_urls_are_bad_usage_and_keep_secrets() {
        for text in [
            "127.0.0.1:80",
            "https://127.0.0.1/",
            "rediss://127.0.0.1/",
            "ftp://127.0.0.1/",
            "redis://user:secret@127.0.0.1/x",
            "redis://user:secret@",
            "http://",
        ] {
            let error = Target::parse(text).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
