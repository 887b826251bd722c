//! One proxy.

use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use super::super::tcp::written;

/// An HTTP proxy: where it is, and how to log in. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyServer(Arc<Server>);

#[derive(PartialEq, Eq, Hash)]
struct Server {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl ProxyServer {
    /// Reads the URI of a proxy; `host:port` will do.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        // hyper-util's matcher undoes percent-encoding and encodes the login.
        let any = Uri::from_static("http://any.invalid/");
        let Some(proxy) = Matcher::builder().all(text).build().intercept(&any) else {
            return Err("not the URI of a proxy, such as http://user:password@host:3128");
        };
        let uri = proxy.uri();
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "TLS to the proxy itself is not built in, only proxies that start with http://; \
                            Connector::service can open such connections",
                );
            }
            _ => return Err("SOCKS is not built in; Connector::service can open such connections"),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            // Otherwise the login would end at the first one.
            return Err("an @ in the user or password must be written %40");
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("the URI has no host")?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match &authority[host.len()..] {
            "" | ":" => 80,
            _ => {
                let port = uri.port_u16().filter(|port| *port != 0);
                port.ok_or("the port of the URI is not a number from 1 to 65535")?
            }
        };
        let authorization = proxy.basic_auth().cloned();
        Ok(Self(Arc::new(Server { host: bare.to_ascii_lowercase(), port, authorization })))
    }

    #[cfg(all(feature = "testing", feature = "proxy", feature = "rustls", feature = "tower"))]
    pub(super) fn settings() -> Vec<&'static str> {
        crate::testing::field_names!(Server { host, port, authorization })
    }

    /// Its name or address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The value of `Proxy-Authorization` that it gets, if it asks for a login.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.0.authorization.as_ref()
    }
}

/// `http://host:port`, without the login.
impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", written(self.host(), self.port()))
    }
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyServer({self}")?;
        f.write_str(if self.0.authorization.is_some() { ", with a login)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_is_decoded_and_sent_as_basic() {
        // Example of RFC 7617 section 2.
        let proxy = ProxyServer::parse("http://Aladdin:open%20sesame@Proxy.example").expect("good");
        let value = proxy.authorization().expect("a login");
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(value.is_sensitive());
        assert_eq!((proxy.host(), proxy.port()), ("proxy.example", 80));
        assert_eq!(format!("{proxy} {proxy:?}").matches("QWx").count(), 0);
        assert_eq!(ProxyServer::parse("a:1").expect("good").authorization(), None);
    }
}
