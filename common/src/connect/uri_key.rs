//! The key of connections for requests to a URI.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, Uri};

use super::invalid_uri::InvalidUri;
use super::partition::Partition;
#[cfg(feature = "proxy")]
use super::proxy::ProxyServer;
use super::unix::{UNIX_SCHEME, unix_path};

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP: `http`.
    Http,
    /// TLS over TCP: `https`. Needs the feature `rustls`.
    Https,
    /// A Unix socket, whose path is the host: `http+unix`, see
    /// [`unix_uri`](super::unix_uri).
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

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::HttpUnix => UNIX_SCHEME,
        }
    }
}

/// Everything that shaped a pooled connection: scheme, host and port; for a Unix socket its path in place
/// of the host; the proxy, and the partition that the user chose.
///
/// Two requests may share a connection exactly when their keys are equal. Host names compare
/// without regard to case, and a missing port equals the scheme's default. Making a key without proxy
/// and partition copies nothing, and a clone is cheap. Source: `net/http` `connectMethodKey`.
#[derive(Clone)]
pub struct UriKey {
    scheme: Scheme,
    /// Only its host counts, which is its first `host_length` bytes.
    authority: Authority,
    host_length: u16,
    port: u16,
    /// Everything else. Most keys have none of it, and pay for no more than this.
    apart: Option<Arc<Apart>>,
}

/// What keeps connections to one place apart.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Apart {
    partition: Partition,
    #[cfg(feature = "proxy")]
    proxy: Option<ProxyServer>,
}

impl UriKey {
    /// The key for requests to `uri`, which is absolute, without proxy and partition.
    /// [`Connector::uri_key`](super::Connector::uri_key) adds them.
    ///
    /// # Errors
    /// [`InvalidUri`] if there is no scheme or host, the scheme is unknown, the port is no
    /// port, or the URI carries a user name or password.
    pub fn from_uri(uri: &Uri) -> Result<Self, InvalidUri> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            #[cfg(feature = "rustls")]
            Some("https") => Scheme::Https,
            Some(UNIX_SCHEME) => Scheme::HttpUnix,
            Some(other) => return Err(InvalidUri::UnsupportedScheme(other.to_owned())),
            None => return Err(InvalidUri::NoScheme),
        };
        let authority = uri.authority().ok_or(InvalidUri::NoHost)?;
        let key = Self::new(scheme, authority)?;
        if scheme == Scheme::HttpUnix && (key.unix_path().is_none() || key.port != 0) {
            return Err(InvalidUri::UnixHost);
        }
        Ok(key)
    }

    /// The key for plain HTTP to `authority`, which is `host` or `host:port`.
    ///
    /// # Errors
    /// As [`from_uri`](UriKey::from_uri).
    pub fn from_authority(authority: &Authority) -> Result<Self, InvalidUri> {
        Self::new(Scheme::Http, authority)
    }

    fn new(scheme: Scheme, authority: &Authority) -> Result<Self, InvalidUri> {
        if authority.as_str().contains('@') {
            return Err(InvalidUri::Credentials);
        }
        let host = authority.host();
        if host.is_empty() || host == "[]" {
            return Err(InvalidUri::NoHost);
        }
        let port = match &authority.as_str()[host.len()..] {
            "" | ":" => scheme.default_port(),
            _ => authority.port_u16().filter(|port| *port != 0).ok_or(InvalidUri::InvalidPort)?,
        };
        let host_length = u16::try_from(host.len()).map_err(|_| InvalidUri::NoHost)?;
        Ok(Self { scheme, authority: authority.clone(), host_length, port, apart: None })
    }

    /// An equal key that shares no memory with the URI from which this key was made, since that may be
    /// long: for keys that stay as long as their connection.
    #[must_use]
    pub fn detached(&self) -> Self {
        let written = self.authority.as_str();
        let authority = Authority::try_from(written).unwrap_or_else(|_| self.authority.clone());
        Self { authority, ..self.clone() }
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

    /// Port to dial; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the Unix socket to dial, if it is one.
    pub fn unix_path(&self) -> Option<PathBuf> {
        match self.scheme {
            Scheme::HttpUnix => unix_path(self.written_host()),
            Scheme::Http | Scheme::Https => None,
        }
    }

    /// The same key in another partition.
    #[must_use]
    pub fn with_partition(mut self, partition: impl Into<Partition>) -> Self {
        let partition = partition.into();
        if !partition.is_default() || self.apart.is_some() {
            self.change_apart(|apart| apart.partition = partition);
        }
        self
    }

    /// What the user keeps apart from other connections to this place.
    pub fn partition(&self) -> Partition {
        self.apart.as_ref().map(|apart| apart.partition.clone()).unwrap_or_default()
    }

    /// The same key through a proxy.
    #[cfg(feature = "proxy")]
    pub(super) fn through(mut self, proxy: ProxyServer) -> Self {
        self.change_apart(|apart| apart.proxy = Some(proxy));
        self
    }

    /// The proxy on the way.
    #[cfg(feature = "proxy")]
    pub fn proxy(&self) -> Option<&ProxyServer> {
        self.apart.as_ref()?.proxy.as_ref()
    }

    /// Whether a proxy is on the way that gets the requests of HTTP/1 itself, in absolute form, since
    /// they are not encrypted.
    pub fn is_forwarded(&self) -> bool {
        #[cfg(feature = "proxy")]
        if self.proxy().is_some() {
            return self.scheme == Scheme::Http;
        }
        false
    }

    /// The `Proxy-Authorization` for the proxy on the way.
    pub fn proxy_authorization(&self) -> Option<&HeaderValue> {
        #[cfg(feature = "proxy")]
        return self.proxy()?.authorization();
        #[cfg(not(feature = "proxy"))]
        None
    }

    fn change_apart(&mut self, change: impl FnOnce(&mut Apart)) {
        let mut apart = self.apart.as_deref().cloned().unwrap_or_default();
        change(&mut apart);
        self.apart = (apart != Apart::default()).then(|| Arc::new(apart));
    }

    /// The names of its parts, for the test that each of them keeps connections apart.
    #[cfg(all(feature = "testing", feature = "proxy", feature = "rustls", feature = "tower"))]
    pub(crate) fn settings() -> Vec<&'static str> {
        use crate::testing::field_names;
        let place = field_names!(UriKey { scheme, authority, host_length, port, apart });
        [place, field_names!(Apart { partition, proxy })].concat()
    }

    /// A URI with this key.
    #[cfg(feature = "proxy")]
    pub(super) fn to_uri(&self) -> Option<Uri> {
        let uri = Uri::builder().scheme(self.scheme.as_str()).authority(self.authority.clone());
        uri.path_and_query("/").build().ok()
    }

    /// The host as it stands in a URI.
    fn written_host(&self) -> &str {
        &self.authority.as_str()[..usize::from(self.host_length)]
    }
}

// `Eq` and `Hash` take the struct apart, so that a new field cannot be forgotten.

impl PartialEq for UriKey {
    fn eq(&self, other: &Self) -> bool {
        let Self { scheme, authority: _, host_length, port, apart } = self;
        *port == other.port
            && *host_length == other.host_length
            && *scheme == other.scheme
            && self.written_host().eq_ignore_ascii_case(other.written_host())
            && *apart == other.apart
    }
}

impl Eq for UriKey {}

impl Hash for UriKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { scheme, authority: _, host_length, port, apart } = self;
        if let Some(apart) = apart {
            apart.hash(state);
        }
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

impl fmt::Debug for UriKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UriKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        match self.unix_path() {
            Some(path) => write!(f, "{scheme}://{}", path.display())?,
            None => write!(f, "{scheme}://{}:{}", self.written_host(), self.port)?,
        }
        #[cfg(feature = "proxy")]
        if let Some(proxy) = self.proxy() {
            write!(f, " through {proxy}")?;
        }
        let partition = self.partition();
        if !partition.is_default() {
            write!(f, " in {partition:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::unix::{unix_host, unix_uri};
    use super::*;

    fn key(uri: &str) -> Result<UriKey, InvalidUri> {
        UriKey::from_uri(&uri.parse().unwrap())
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
    #[cfg(feature = "rustls")]
    fn https_and_http_do_not_share() {
        let secure = key("https://example.org/").unwrap();
        assert_eq!((secure.scheme(), secure.port()), (Scheme::Https, 443));
        assert_eq!(secure.to_string(), "https://example.org:443");
        assert_ne!(secure, key("http://example.org:443/").unwrap());
        assert_eq!(secure, key("https://example.org:443/").unwrap());
    }

    #[test]
    fn the_path_of_a_unix_socket_is_the_key() {
        let of = |path| UriKey::from_uri(&unix_uri(path, "/a").unwrap()).unwrap();
        let (one, other) = (of("/run/a.sock"), of("/run/b.sock"));
        assert_ne!(one, other);
        assert_eq!(one, of("/run/a.sock"));
        assert_eq!(one.unix_path().as_deref(), Some("/run/a.sock".as_ref()));
        assert_eq!(one.to_string(), "http+unix:///run/a.sock");
        // A host that looks the same, over TCP.
        let host = unix_host("/run/a.sock");
        assert_ne!(one, key(&format!("http://{host}/")).unwrap());
        for uri in
            ["http+unix://run/", "http+unix://2f7/", "http+unix://2f72:80/", "http+unix://2f00/"]
        {
            assert_eq!(key(uri), Err(InvalidUri::UnixHost), "{uri}");
        }
    }

    #[test]
    fn a_uri_that_cannot_be_dialed_is_an_error() {
        assert_eq!(key("/path"), Err(InvalidUri::NoScheme));
        assert_eq!(key("example.org"), Err(InvalidUri::NoScheme));
        #[cfg(not(feature = "rustls"))]
        assert_eq!(key("https://a/"), Err(InvalidUri::UnsupportedScheme("https".into())));
        assert_eq!(key("ftp://a/"), Err(InvalidUri::UnsupportedScheme("ftp".into())));
        assert_eq!(key("http://a:99999/"), Err(InvalidUri::InvalidPort));
        assert_eq!(key("http://a:0/"), Err(InvalidUri::InvalidPort));
        assert_eq!(key("http://:80/"), Err(InvalidUri::NoHost));
        assert_eq!(key("http://user@a/"), Err(InvalidUri::Credentials));
        let error = key("http://user:secret@a/").unwrap_err();
        assert_eq!(error, InvalidUri::Credentials);
        assert!(!error.to_string().contains("secret"));
    }
}
