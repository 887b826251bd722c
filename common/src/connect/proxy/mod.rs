//! HTTP proxies: which targets are reached through which proxy.

mod environment;
mod exceptions;
mod server;
mod tunnel;

use std::fmt;
use std::io;
use std::sync::Arc;

use http::Uri;

use super::tcp::written;
use exceptions::Exceptions;
pub use server::ProxyServer;

/// Which targets are reached through which HTTP proxy. Cheap to clone.
///
/// A proxy is written `http://host:port`, or `http://user:password@host:port` if it asks for a login
/// (Basic, RFC 7617; other characters than letters and digits percent-encoded). Port 80 is the default.
/// TLS and HTTP/2 go through a tunnel that the proxy opens (`CONNECT`), plain HTTP/1 in absolute form.
///
/// ```
/// use pool_common::connect::Proxy;
///
/// let proxy = Proxy::new("http://user:p%40ss@proxy.example:3128")?;
/// let with_exceptions = Proxy::builder()
///     .https("http://proxy.example:3128")
///     .no_proxy("localhost, .internal.example, 10.0.0.0/8")
///     .build()?;
/// # Ok::<(), pool_common::connect::InvalidProxy>(())
/// ```
///
/// Nothing is read from the environment except by [`from_env`](Self::from_env). Proxies that speak TLS themselves or SOCKS are not built in; a
/// [`Connector::service`](super::Connector) can open such connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy(Arc<Rules>);

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    exceptions: Exceptions,
}

/// Collects the rules of a [`Proxy`].
#[derive(Clone, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct ProxyBuilder {
    all: Setting,
    http: Setting,
    https: Setting,
    no_proxy: Setting,
}

/// A text and the name under which it is known to the user.
#[derive(Clone, Default)]
struct Setting {
    name: &'static str,
    text: String,
}

/// A proxy that cannot be used. Repeats nothing of its URI, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proxy: {setting}: {reason}")]
pub struct InvalidProxy {
    /// The method of the builder or the variable of the environment.
    setting: &'static str,
    reason: &'static str,
}

impl Proxy {
    /// Reaches every target through the proxy at `uri`.
    ///
    /// # Errors
    /// [`InvalidProxy`] when that is not the URI of an HTTP proxy.
    pub fn new(uri: &str) -> Result<Self, InvalidProxy> {
        Self::builder().all(uri).build()
    }

    /// Rules to set one by one.
    pub fn builder() -> ProxyBuilder {
        ProxyBuilder::default()
    }

    /// The names of the settings, for the test that each of them keeps connections apart.
    #[cfg(all(feature = "testing", feature = "proxy", feature = "rustls", feature = "tower"))]
    pub(super) fn settings() -> Vec<&'static str> {
        let rules = crate::testing::field_names!(Rules { http, https, exceptions });
        [rules, ProxyServer::settings()].concat()
    }

    /// The proxy for requests to `uri`, if there is one.
    pub(super) fn server(&self, uri: &Uri) -> Option<&ProxyServer> {
        let server = self.rule(uri.scheme_str()?)?;
        (!self.0.exceptions.hold(uri)).then_some(server)
    }

    /// As [`server`](Self::server), for a host that may stand in no URI.
    ///
    /// # Errors
    /// The host is to be reached through a proxy, which cannot be told its name.
    pub(super) fn server_for_host(
        &self,
        scheme: &str,
        host: &str,
        port: u16,
    ) -> io::Result<Option<&ProxyServer>> {
        let Some(server) = self.rule(scheme) else { return Ok(None) };
        let uri = Uri::builder().scheme(scheme).authority(written(host, port));
        match uri.path_and_query("/").build() {
            Ok(uri) => Ok(self.server(&uri)),
            Err(_) if self.0.exceptions.hold_all() => Ok(None),
            Err(_) => {
                let text = format!(
                    "the proxy {server} cannot be told this host, which stands in no URI; a name must be in \
                     ASCII (Punycode)"
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }

    /// The proxy for a scheme, without exceptions.
    fn rule(&self, scheme: &str) -> Option<&ProxyServer> {
        match scheme {
            "http" => self.0.http.as_ref(),
            "https" => self.0.https.as_ref(),
            _ => None,
        }
    }
}

impl ProxyBuilder {
    /// The proxy for targets that [`http`](Self::http) and [`https`](Self::https) leave out. Default none.
    pub fn all(mut self, uri: &str) -> Self {
        self.all = Setting { name: "all", text: uri.to_owned() };
        self
    }

    /// The proxy for `http` URIs, and for other connections without TLS. Default that of [`all`](Self::all).
    pub fn http(mut self, uri: &str) -> Self {
        self.http = Setting { name: "http", text: uri.to_owned() };
        self
    }

    /// The proxy for `https` URIs, and for other connections with TLS. Default that of [`all`](Self::all).
    pub fn https(mut self, uri: &str) -> Self {
        self.https = Setting { name: "https", text: uri.to_owned() };
        self
    }

    /// Hosts that are reached without a proxy, separated by commas or spaces. Default none.
    ///
    /// `example.org`, `.example.org` and `*.example.org` mean this domain and all below it; an address means
    /// itself, `10.0.0.0/8` the addresses of a network, and `*` every host. Only what the URI says counts:
    /// names are not looked up. Ports cannot be given. An entry that would match nothing is an error.
    pub fn no_proxy(mut self, hosts: &str) -> Self {
        self.no_proxy = Setting { name: "no_proxy", text: hosts.to_owned() };
        self
    }

    /// The rules.
    ///
    /// # Errors
    /// [`InvalidProxy`] names the setting that cannot be used.
    pub fn build(self) -> Result<Proxy, InvalidProxy> {
        let all = || self.all.server();
        let rules = Rules {
            http: self.http.server().transpose().or_else(|| all().transpose()).transpose()?,
            https: self.https.server().transpose().or_else(|| all().transpose()).transpose()?,
            exceptions: self.no_proxy.refused_with(Exceptions::new(&self.no_proxy.text))?,
        };
        Ok(Proxy(Arc::new(rules)))
    }
}

impl Setting {
    /// `None` if it was not set.
    fn server(&self) -> Result<Option<ProxyServer>, InvalidProxy> {
        match self.name {
            "" => Ok(None),
            _ => self.refused_with(ProxyServer::parse(&self.text)).map(Some),
        }
    }

    fn refused_with<T>(&self, result: Result<T, &'static str>) -> Result<T, InvalidProxy> {
        result.map_err(|reason| InvalidProxy { setting: self.name, reason })
    }
}

/// Shows no text, which may hold a password.
impl fmt::Debug for ProxyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyBuilder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        ConnectStage, Connector, Resolve, Resolver, Resolving, Target, TcpConnector,
    };
    use super::*;

    fn through(proxy: &Proxy, uri: &str) -> Option<String> {
        proxy.server(&uri.parse().expect("a URI")).map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_is_for_the_rest() {
        let both = Proxy::new("http://proxy:3128").expect("a proxy");
        for uri in ["http://a/", "https://a/"] {
            assert_eq!(through(&both, uri).as_deref(), Some("http://proxy:3128"));
        }
        assert_eq!(through(&both, "http+unix://2f61/"), None);
        let builder = Proxy::builder().all("rest:1").https("secure");
        let proxy = builder.build().expect("proxies");
        assert_eq!(through(&proxy, "http://a/").as_deref(), Some("http://rest:1"));
        assert_eq!(through(&proxy, "https://a/").as_deref(), Some("http://secure:80"));
        let one = Proxy::builder().https("http://[::1]:8080/").build().expect("a proxy");
        assert_eq!(through(&one, "https://a/").as_deref(), Some("http://[::1]:8080"));
        assert_eq!(through(&one, "http://a/"), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        for (builder, said) in [
            (Proxy::builder().all("socks5://u:secret@a:1"), ["all", "SOCKS"]),
            (Proxy::builder().http("https://u:secret@a:1"), ["http", "TLS"]),
            (Proxy::builder().https("http://u:secret@a:99999"), ["https", "URI"]),
            (Proxy::builder().https("http://u:secret@a:0"), ["https", "port"]),
            (Proxy::builder().https("http://u:p@secret@a:1"), ["https", "%40"]),
            (Proxy::builder().https(""), ["https", "URI"]),
            (Proxy::builder().https("ftp://u:secret@a"), ["https", "http://"]),
            (Proxy::builder().no_proxy("10.0.0.0/33"), ["no_proxy", "network"]),
            (Proxy::builder().no_proxy("a:80"), ["no_proxy", "port"]),
            (Proxy::builder().no_proxy("b\u{fc}cher.example"), ["no_proxy", "Punycode"]),
            (Proxy::builder().no_proxy("192.168.*"), ["no_proxy", "*"]),
        ] {
            let shown = format!("{builder:?}");
            let error = builder.build().expect_err(said[1]);
            let text = format!("{error} {shown}");
            assert!(said.iter().all(|word| text.contains(word)), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        let proxy = Proxy::new("http://user:secret@a:1").expect("a proxy");
        assert!(!format!("{proxy:?}").contains("secret"));
        assert_ne!(proxy, Proxy::new("http://user:other@a:1").expect("a proxy"));
    }

    /// Knows every name, or fails.
    struct Loopback(Option<io::ErrorKind>);

    impl Resolve for Loopback {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
            let failure = self.0;
            Box::pin(async move {
                match failure {
                    Some(kind) => Err(kind.into()),
                    None => Ok(vec![std::net::Ipv4Addr::LOCALHOST.into()]),
                }
            })
        }
    }

    #[tokio::test]
    async fn a_host_that_a_proxy_cannot_be_told_is_not_dialed_without_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let resolver = Resolver::new(Loopback(None));
        let through = |rules: ProxyBuilder| {
            let tcp = TcpConnector { resolver: resolver.clone(), ..TcpConnector::default() };
            Connector::from(tcp).with_proxy(rules.build().expect("proxies"))
        };
        let rules = || Proxy::builder().http("proxy.invalid:1");
        for host in ["b\u{fc}cher.example", "a\r\nx: y"] {
            let target = Target::host(host, port);
            let error = through(rules()).connect(target).await.expect_err(host);
            assert_eq!(
                (error.stage(), error.kind()),
                (ConnectStage::Proxy, io::ErrorKind::InvalidInput),
                "{error}"
            );
            // Without a proxy for it the host is dialed as ever.
            for direct in [rules().no_proxy("*"), Proxy::builder()] {
                through(direct).connect(target).await.expect("the name is known");
            }
        }
    }

    #[tokio::test]
    async fn a_permission_that_the_system_denies_is_no_refused_login() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound] {
            let resolver = Resolver::new(Loopback(Some(kind)));
            let proxy = Proxy::new("proxy.invalid:1").expect("a proxy");
            let tcp = TcpConnector { resolver, ..TcpConnector::default() };
            let connector = Connector::from(tcp).with_proxy(proxy);
            let error =
                connector.connect(Target::host("a", 80)).await.expect_err("no name is known");
            assert_eq!(error.stage(), ConnectStage::Proxy);
            assert!(!error.is_denied(), "{error}");
        }
    }
}
