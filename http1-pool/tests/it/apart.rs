//! Configurations that differ in one setting never share a connection.
//!
//! The settings of connectors, TLS, proxies and keys are listed where they are defined
//! (`pool_common::testing::settings`): a new field without a name there does not compile, and a name without
//! a case here fails the test.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Uri};
use http1_pool::{Body, Client, ClientBuilder, unix_uri};
use pool_common::connect::rustls::pki_types::CertificateDer;
use pool_common::connect::rustls::pki_types::pem::PemObject;
use pool_common::connect::rustls::{ClientConfig, RootCertStore};
use pool_common::connect::{
    Connector, Partition, Proxy, ProxyBuilder, Resolve, Resolver, Resolving, TcpConnector, Tls,
    TlsBuilder,
};
use pool_common::testing::certificates::{Authority, Identity};
use pool_common::testing::servers::NginxServer;
use pool_common::testing::settings;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Peer, Wire, fetch, within};

/// A way to one of the servers, each of which answers with its number of the connection.
#[derive(Clone)]
struct Way {
    client: Client,
    uri: Uri,
    partition: Partition,
}

/// Two ways that differ in the settings that are named.
struct Case {
    settings: &'static [&'static str],
    ways: [Way; 2],
}

struct World {
    authority: Authority,
    /// Over TLS, and over plain HTTP on the socket `plain.sock`.
    server: NginxServer,
    proxies: [Peer; 2],
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&["localhost", "127.0.0.1", "other.example"]);
        let snippet = "listen unix:secure.sock ssl; listen unix:plain.sock; \
                       location / { return 200 \"$server_addr $connection\"; }";
        let server = NginxServer::start_tls(&identity, false, snippet);
        let proxies = [Peer::start(proxy).await, Peer::start(proxy).await];
        Self { authority, server, proxies }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.server.document_root().parent().unwrap().join(name)
    }

    fn tls(&self) -> TlsBuilder {
        Tls::builder().only_added_roots().add_roots_pem(self.authority.pem())
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder().tls(self.tls().build().unwrap())
    }

    fn way(&self, builder: ClientBuilder) -> Way {
        let uri = format!("https://localhost:{}/", self.server.addr().port()).parse().unwrap();
        Way { client: builder.build().unwrap(), uri, partition: Partition::default() }
    }

    fn connectors(
        &self,
        settings: &'static [&'static str],
        one: impl Into<Connector>,
        other: impl Into<Connector>,
    ) -> Case {
        let way = |connector: Connector| self.way(self.builder().connector(connector));
        Case { settings, ways: [way(one.into()), way(other.into())] }
    }

    /// Clients whose settings of TCP differ in this way.
    fn tcp(&self, settings: &'static [&'static str], change: fn(&mut TcpConnector)) -> Case {
        // Otherwise a local address of one family would change what is dialed.
        let base = TcpConnector { local_ipv4: Some(Ipv4Addr::LOCALHOST), ..Default::default() };
        let mut changed = base.clone();
        change(&mut changed);
        assert_ne!(base, changed);
        self.connectors(settings, base, changed)
    }

    /// Clients whose settings of TLS differ in this way.
    fn tls_setting(&self, setting: &'static [&'static str], other: TlsBuilder) -> Case {
        let way = |tls: TlsBuilder| self.way(Client::builder().tls(tls.build().unwrap()));
        Case { settings: setting, ways: [way(self.tls()), way(other)] }
    }

    /// Clients with different rules for proxies, for requests of `https` or to `uri`.
    fn rules(
        &self,
        settings: &'static [&'static str],
        uri: Option<&'static str>,
        one: ProxyBuilder,
        other: ProxyBuilder,
    ) -> Case {
        let ways = [one, other].map(|rules| {
            let way = self.way(self.builder().proxy(rules.build().unwrap()));
            Way { uri: uri.map_or(way.uri, Uri::from_static), ..way }
        });
        let [one, other] = &ways;
        let key = |way: &Way| way.client.pool().manager().key(&way.uri).unwrap();
        assert_ne!(key(one), key(other), "{settings:?}");
        Case { settings, ways }
    }

    /// Requests to two URIs, of one client that reaches any host.
    fn uris(&self, settings: &'static [&'static str], one: &str, other: &str) -> Case {
        let dialer = Dialer(self.socket("plain.sock"));
        let connector = Connector::service(dialer).with_tls_by_service();
        let one =
            Way { uri: one.parse().unwrap(), ..self.way(self.builder().connector(connector)) };
        let other = Way { uri: other.parse().unwrap(), ..one.clone() };
        Case { settings, ways: [one, other] }
    }
}

/// Opens tunnels, and answers other requests itself.
async fn proxy(mut wire: Wire, number: usize) {
    while let Some(request) = wire.head().await {
        if request.target.starts_with("http://") {
            let addr = wire.stream.local_addr().unwrap();
            wire.reply(&format!("{addr} {number}")).await;
            continue;
        }
        let mut target = TcpStream::connect(&request.target).await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = copy_bidirectional(&mut wire.stream, &mut target).await;
        return;
    }
}

struct Loopback;

impl Resolve for Loopback {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }
}

/// Connects to this socket, whatever host it is asked for.
#[derive(Clone)]
struct Dialer(PathBuf);

impl tower_service::Service<Uri> for Dialer {
    type Response = UnixStream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<UnixStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await })
    }
}

fn cases(world: &World) -> Vec<Case> {
    let Identity { certificate, key } = world.authority.issue(&["client"]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(pool_common::connect::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let [first, second] = [0, 1].map(|number: usize| world.proxies[number].addr.to_string());
    let port = world.proxies[0].addr.port();
    let through = |proxy: &str| Proxy::builder().all(proxy);
    let services = |socket| Connector::service(Dialer(world.socket(socket)));
    let tls = || world.tls();
    let unix = Connector::unix(world.socket("secure.sock"));
    let partitions = |settings, one: Partition, other: Partition| {
        let way = world.way(world.builder());
        let ways = [one, other].map(|partition| Way { partition, ..way.clone() });
        Case { settings, ways }
    };
    vec![
        world.tcp(&["TcpConnector.timeout"], |tcp| tcp.timeout = Duration::from_secs(9)),
        world.tcp(&["TcpConnector.nodelay", "Connector.tcp"], |tcp| tcp.nodelay = false),
        world.tcp(&["TcpConnector.keep_alive"], |tcp| tcp.keep_alive = None),
        world.tcp(&["TcpConnector.user_timeout"], |tcp| tcp.user_timeout = None),
        world.tcp(&["TcpConnector.resolver"], |tcp| tcp.resolver = Resolver::new(Loopback)),
        world.tcp(&["TcpConnector.local_ipv4"], |tcp| {
            tcp.local_ipv4 = Some(Ipv4Addr::new(127, 0, 0, 9));
        }),
        world.tcp(&["TcpConnector.local_ipv6"], |tcp| tcp.local_ipv6 = Some(Ipv6Addr::LOCALHOST)),
        world.tcp(&["TcpConnector.interface"], |tcp| tcp.interface = Some("lo".to_owned())),
        world.connectors(&["Connector.route", "Route.Unix"], Connector::default(), unix.clone()),
        world.connectors(&["Route.Service"], unix, services("secure.sock")),
        world.connectors(
            &["Route.speaks_tls"],
            services("secure.sock"),
            services("plain.sock").with_tls_by_service(),
        ),
        // Equal settings, too, are not the same ones.
        world.tls_setting(&["Connector.tls", "Connector.own_tls"], tls()),
        world.tls_setting(&["Settings.roots"], tls().webpki_roots()),
        world.tls_setting(&["Settings.added"], tls().add_roots_pem(Authority::new().pem())),
        world.tls_setting(&["Settings.identity"], tls().client_identity_pem(certificate, key)),
        world.tls_setting(&["Settings.server_name"], tls().server_name("other.example")),
        world.tls_setting(&["Settings.without_resumption"], tls().resumption(false)),
        world.tls_setting(&["Settings.accept_any"], tls().dangerously_accept_any_certificate()),
        world.tls_setting(&["Settings.config"], Tls::builder().rustls_config(Arc::new(config))),
        world.rules(
            &["Connector.proxy", "Rules.https", "Apart.proxy"],
            None,
            Proxy::builder(),
            Proxy::builder().https(&first),
        ),
        world.rules(
            &["Rules.http"],
            Some("http://any.invalid/"),
            through(&first),
            through(&first).http(&second),
        ),
        world.rules(
            &["Rules.exceptions"],
            None,
            through(&first),
            through(&first).no_proxy("localhost"),
        ),
        world.rules(&["Server.host"], None, through(&first), through(&format!("localhost:{port}"))),
        world.rules(&["Server.port"], None, through(&first), through(&second)),
        world.rules(
            &["Server.authorization"],
            None,
            through(&first),
            through(&format!("http://user:pass@{first}")),
        ),
        world.rules(
            &["Server.authorization"],
            Some("http://any.invalid/"),
            through(&format!("http://user:one@{first}")),
            through(&format!("http://user:two@{first}")),
        ),
        world.uris(&["UriKey.scheme"], "http://a:1/", "https://a:1/"),
        world.uris(&["UriKey.authority"], "http://a/", "http://b/"),
        world.uris(&["UriKey.host_length"], "http://a/", "http://aa/"),
        world.uris(&["UriKey.port"], "http://a/", "http://a:81/"),
        world.uris(
            &[],
            "http://a/",
            &unix_uri(world.socket("plain.sock"), "/").unwrap().to_string(),
        ),
        partitions(&["UriKey.apart"], Partition::default(), 1.into()),
        partitions(&["Apart.partition"], "1".into(), 1.into()),
    ]
}

async fn connection(way: &Way) -> String {
    let mut request = Request::get(way.uri.clone()).body(Body::empty()).unwrap();
    request.extensions_mut().insert(way.partition.clone());
    let (head, text) = fetch(&way.client, request).await.unwrap();
    assert_eq!(head.status(), 200, "{text}");
    text
}

#[tokio::test]
async fn configurations_that_differ_in_one_setting_never_share_a_connection() {
    let world = World::new().await;
    let cases = cases(&world);
    for Case { settings, ways: [one, other] } in &cases {
        let first = [connection(one).await, connection(other).await];
        let again = [connection(one).await, connection(other).await];
        assert_ne!(first[0], first[1], "{settings:?}");
        assert_eq!(first, again, "{settings:?}: each has its connection");
    }
    let covered: BTreeSet<_> = cases.iter().flat_map(|case| case.settings).copied().collect();
    let all: BTreeSet<_> = settings::names().into_iter().collect();
    assert_eq!(covered, all, "each setting has a case, and each case a setting");
    for case in &cases {
        within(async {
            case.ways[0].client.close().await;
            case.ways[1].client.close().await;
        })
        .await;
    }
}
