//! Dialing TCP: several addresses raced, NODELAY, keep-alive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::dial_deadline;
use super::error::{ConnectError, ConnectStage};
use super::race::{interleaved, race};
use super::resolve::Resolver;

/// Longest dial outside of a pool if `timeout` sets no limit.
const WITHOUT_A_POOL: Duration = Duration::from_secs(5);

/// Dials TCP.
///
/// The fields are its settings; [`TcpConnector::default`] suits a pooled connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConnector {
    /// Longest that name resolution and all attempts may take together, if that is less than the time
    /// that the pool grants the dial ([`Policy::dial_timeout`](crate::Policy::dial_timeout)).
    /// Default [`Duration::MAX`]: all the time that the pool grants, and 5 s outside of a pool.
    pub timeout: Duration,
    /// Whether small writes go out at once (TCP_NODELAY). Default yes; a request in two writes
    /// without it costs a delayed acknowledgement, 40 ms.
    pub nodelay: bool,
    /// After how long without traffic the kernel asks whether the peer is still there. Default
    /// 15 s (net/http's dialer), `None` for never.
    pub keep_alive: Option<Duration>,
    /// How long written bytes may stay unacknowledged before the kernel gives the connection up
    /// (TCP_USER_TIMEOUT, Linux only). Default 30 s, `None` for the kernel's own quarter of an hour.
    pub user_timeout: Option<Duration>,
    /// Looks names up. Default: the resolver of the system.
    pub resolver: Resolver,
    /// The address of this machine from which IPv4 is dialed. If only one of `local_ipv4` and
    /// `local_ipv6` is set, addresses of the other family are not dialed. Default: the kernel chooses.
    pub local_ipv4: Option<Ipv4Addr>,
    /// The address of this machine from which IPv6 is dialed.
    pub local_ipv6: Option<Ipv6Addr>,
    /// The network interface that connections use whatever the routes say (SO_BINDTODEVICE). Linux only;
    /// elsewhere a dial with it fails. Default none.
    pub interface: Option<String>,
}

impl Default for TcpConnector {
    fn default() -> Self {
        Self {
            timeout: Duration::MAX,
            nodelay: true,
            keep_alive: Some(Duration::from_secs(15)),
            user_timeout: Some(Duration::from_secs(30)),
            resolver: Resolver::system(),
            local_ipv4: None,
            local_ipv6: None,
            interface: None,
        }
    }
}

impl TcpConnector {
    /// Resolves `host` and races its addresses, as RFC 8305 says: the families take turns, an attempt
    /// follows 250 ms after the one before, or at once when an attempt has failed, and the first
    /// connection wins. All of it together has the time that the pool's dial has left
    /// ([`dial_deadline`]), or [`timeout`](Self::timeout) if that is less.
    ///
    /// A server may see two connections for a moment, of which one is closed at once without a byte.
    ///
    /// # Errors
    /// What each attempt came to; `TimedOut` when the time is up; `NotFound` when the name has no
    /// address. The message names the host.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever was opened.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let stream = self.open(host, port, self.end(Instant::now())).await;
        stream.map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// As [`connect`](Self::connect), before `end`.
    pub(super) async fn open(
        &self,
        host: &str,
        port: u16,
        end: Option<Instant>,
    ) -> Result<TcpStream, ConnectError> {
        let failed = |stage| move |error| ConnectError::new(stage, written(host, port), error);
        // URLs write IPv6 addresses in brackets.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let found = match bare.parse() {
            Ok(address) => vec![address],
            Err(_) => within(end, self.resolver.resolve(host))
                .await
                .map_err(|error| failed(ConnectStage::Resolve)(not_resolved(error)))?,
        };
        let (found, none_fits) = (self.fitting(found), "no address fits the local address");
        let addresses =
            found.ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, none_fits));
        let dialed = async {
            let addresses = addresses?.into_iter().map(|address| SocketAddr::new(address, port));
            let order = interleaved(addresses.collect());
            let stream = race(&order, end, |address| self.dial(address)).await?;
            self.configure(&stream)?;
            Ok(stream)
        };
        dialed.await.map_err(failed(ConnectStage::Open))
    }

    /// The names of the settings, for the test that each of them keeps connections apart.
    #[cfg(all(feature = "testing", feature = "proxy", feature = "rustls", feature = "tower"))]
    pub(super) fn settings() -> Vec<&'static str> {
        crate::testing::field_names!(TcpConnector {
            timeout,
            nodelay,
            keep_alive,
            user_timeout,
            resolver,
            local_ipv4,
            local_ipv6,
            interface,
        })
    }

    /// The addresses of a family from which this connector dials; `None` if that leaves none.
    fn fitting(&self, mut addresses: Vec<IpAddr>) -> Option<Vec<IpAddr>> {
        let had_any = !addresses.is_empty();
        match (self.local_ipv4, self.local_ipv6) {
            (Some(_), None) => addresses.retain(IpAddr::is_ipv4),
            (None, Some(_)) => addresses.retain(IpAddr::is_ipv6),
            _ => {}
        }
        (!addresses.is_empty() || !had_any).then_some(addresses)
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let (socket, local) = match address {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, self.local_ipv4.map(IpAddr::V4)),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, self.local_ipv6.map(IpAddr::V6)),
        };
        if let Some(interface) = &self.interface {
            bind_to_interface(&socket, interface)?;
        }
        if let Some(local) = local {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        socket.connect(address).await
    }

    /// When a dial that starts now ends; `None` is never.
    pub(super) fn end(&self, now: Instant) -> Option<Instant> {
        let granted = dial_deadline();
        let own = match self.timeout {
            Duration::MAX if granted.is_none() => WITHOUT_A_POOL,
            timeout => timeout,
        };
        // An end that overflows `Instant` is no deadline.
        [now.checked_add(own), granted].into_iter().flatten().min()
    }

    fn configure(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(self.nodelay)?;
        let socket = SockRef::from(stream);
        if let Some(time) = self.keep_alive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(self.user_timeout)?;
        Ok(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
fn bind_to_interface(socket: &TcpSocket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "fuchsia")))]
fn bind_to_interface(_: &TcpSocket, _: &str) -> io::Result<()> {
    let text = "this system cannot bind a connection to an interface";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// What `step` comes to before `end`.
pub(super) async fn within<T>(
    end: Option<Instant>,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match end {
        None => step.await,
        Some(end) => timeout_at(end, step).await.unwrap_or_else(|_| Err(timed_out())),
    }
}

/// Whether there are unread bytes from the peer, or the peer has gone: one system call that does
/// not wait and consumes nothing. Also `true` if the socket reports an error.
///
/// tokio's own readiness costs no system call, but shows only what the runtime's driver has seen,
/// and the driver runs only when tasks let it. Before each request, asking a
/// [`Socket`](super::Socket) costs less.
pub fn has_unread(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    match SockRef::from(stream).peek(&mut byte) {
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        Ok(_) => true,
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// A resolver that does not answer is a fault of another machine than the server that is dialed.
fn not_resolved(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            io::Error::new(error.kind(), "the name was not resolved in time")
        }
        _ => error,
    }
}

/// Host and port as in a URL.
pub(super) fn written(host: &str, port: u16) -> String {
    // An IPv6 address contains colons itself.
    let (open, close) =
        if host.contains(':') && !host.starts_with('[') { ("[", "]") } else { ("", "") };
    format!("{open}{host}{close}:{port}")
}

#[cfg(test)]
mod tests {
    use super::super::granted_until;
    use super::super::{Resolve, Resolving};
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_dial_sets_the_options_and_a_refused_one_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let stream = TcpConnector::default().connect("127.0.0.1", port).await.expect("listening");
        assert!(stream.nodelay().expect("a socket"));
        assert!(SockRef::from(&stream).keepalive().expect("a socket"));
        drop(listener);
        let error = TcpConnector::default().connect("127.0.0.1", port).await.expect_err("closed");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }

    #[test]
    fn an_error_writes_an_ipv6_address_in_brackets() {
        assert_eq!(written("::1", 80), "[::1]:80");
        assert_eq!(written("[::1]", 80), "[::1]:80");
        assert_eq!(written("localhost", 80), "localhost:80");
    }

    #[tokio::test]
    async fn unread_bytes_and_an_end_are_noticed_without_the_driver() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("listening");
        let (mut peer, _) = listener.accept().expect("connected");
        assert!(!has_unread(&stream));
        peer.write_all(b"x").expect("sent");
        // Loopback delivers within the write; no await lets the driver run in between.
        assert!(has_unread(&stream));
        stream.readable().await.expect("connected");
        assert_eq!(stream.try_read(&mut [0; 8]).expect("still there"), 1);
        assert!(!has_unread(&stream));
        drop(peer);
        assert!(has_unread(&stream));
    }

    /// A listener that accepts nothing and has no room for another connection: the kernel drops requests
    /// for one.
    fn silent(address: IpAddr, port: u16) -> (socket2::Socket, Vec<std::net::TcpStream>, u16) {
        let address = SocketAddr::new(address, port);
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&address.into()).expect("loopback");
        socket.listen(0).expect("bound");
        let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
        let wait = Duration::from_millis(100);
        let fill = || std::net::TcpStream::connect_timeout(&address, wait).ok();
        (socket, std::iter::from_fn(fill).take(16).collect(), address.port())
    }

    /// Resolves every name but two to these addresses.
    struct Fixed(Vec<IpAddr>);

    impl Resolve for Fixed {
        fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
            Box::pin(async move {
                match name {
                    "unknown" => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
                    "slow" => std::future::pending().await,
                    _ => Ok(self.0.clone()),
                }
            })
        }
    }

    fn resolving(addresses: &[&str]) -> TcpConnector {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        TcpConnector { resolver: Resolver::new(Fixed(addresses)), ..TcpConnector::default() }
    }

    #[tokio::test]
    async fn a_silent_ipv6_address_does_not_hold_up_ipv4() {
        let good = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = good.local_addr().expect("bound").port();
        let (_silent, _filling, _) = silent(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        let connector = resolving(&["::1", "127.0.0.1"]);
        let start = Instant::now();
        let end = Some(start + Duration::from_secs(1));
        let stream = granted_until(end, connector.connect("both.example", port)).await;
        let stream = stream.expect("the second address answers within a second");
        assert_eq!(stream.peer_addr().expect("connected"), good.local_addr().expect("bound"));
        // The pause itself is checked in virtual time; equal shares of the time would be 500 ms.
        assert!(start.elapsed() < Duration::from_millis(490), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_takes_what_the_pool_grants_or_its_own_timeout() {
        let (_silent, _filling, port) = silent(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let took = async |granted: Option<Duration>, timeout: Duration, count: usize| {
            let start = Instant::now();
            let connector = TcpConnector { timeout, ..resolving(&vec!["127.0.0.1"; count]) };
            let end = granted.map(|granted| start + granted);
            let dial = connector.connect("silent.example", port);
            let error = granted_until(end, dial).await.expect_err("no address answers");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            start.elapsed().as_secs()
        };
        let seconds = Duration::from_secs;
        assert_eq!(took(Some(seconds(60)), Duration::MAX, 1).await, 60);
        assert_eq!(took(Some(seconds(60)), seconds(7), 1).await, 7);
        assert_eq!(took(Some(seconds(2)), seconds(7), 3).await, 2);
        assert_eq!(took(None, Duration::MAX, 1).await, 5);
        assert_eq!(took(Some(seconds(60)), Duration::MAX, 3).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_tells_the_look_up_from_the_dial() {
        let connector = resolving(&[]);
        let failed = async |name: &'static str| {
            let end = Some(Instant::now() + Duration::from_secs(3));
            connector.open(name, 80, end).await.expect_err("it cannot be reached")
        };
        let (unknown, slow) = (failed("unknown").await, failed("slow").await);
        assert_eq!(unknown.to_string(), "unknown:80: no such name");
        assert_eq!(unknown.stage(), ConnectStage::Resolve);
        assert_eq!((slow.stage(), slow.kind()), (ConnectStage::Resolve, io::ErrorKind::TimedOut));
        assert_eq!(slow.to_string(), "slow:80: the name was not resolved in time");
        let empty = failed("empty").await;
        assert_eq!((empty.stage(), empty.kind()), (ConnectStage::Open, io::ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn the_local_address_and_the_interface_are_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let local = Ipv4Addr::new(127, 0, 0, 9);
        // The family without a local address is left out, so its closed port is not tried.
        let connector =
            TcpConnector { local_ipv4: Some(local), ..resolving(&["::1", "127.0.0.1"]) };
        let stream = connector.connect("both.example", port).await.expect("listening");
        assert_eq!(stream.local_addr().expect("connected").ip(), local);
        let error = connector.connect("::1", port).await.expect_err("no IPv6 address to dial from");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");

        let interface = |name: &str| TcpConnector {
            interface: Some(name.to_owned()),
            ..TcpConnector::default()
        };
        assert!(interface("no-such-if").connect("127.0.0.1", port).await.is_err());
        #[cfg(target_os = "linux")]
        assert!(interface("lo").connect("127.0.0.1", port).await.is_ok());
    }

    #[tokio::test]
    async fn a_name_with_several_addresses_is_tried_address_by_address() {
        // `localhost` may resolve to ::1 first, where the port is closed.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let stream = TcpConnector::default().connect("localhost", port).await.expect("listening");
        assert_eq!(stream.peer_addr().expect("connected").port(), port);
    }
}
