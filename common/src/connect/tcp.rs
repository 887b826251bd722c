//! Dialing TCP: several addresses in turn, NODELAY, keep-alive.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::dial_deadline;

/// Longest dial outside of a pool if `timeout` sets no limit.
const WITHOUT_A_POOL: Duration = Duration::from_secs(5);

/// Longest that an address may stay silent while there is another to try: time for the first
/// retransmission of a lost packet, which follows after one second.
const SILENCE: Duration = Duration::from_millis(2_500);

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
}

impl Default for TcpConnector {
    fn default() -> Self {
        Self {
            timeout: Duration::MAX,
            nodelay: true,
            keep_alive: Some(Duration::from_secs(15)),
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

impl TcpConnector {
    /// Resolves `host` and dials its addresses in turn until one answers. It has the time that the
    /// pool's dial has left ([`dial_deadline`]), or [`timeout`](Self::timeout) if that is less. This time
    /// is divided: each attempt gets an equal share of the rest, and at most 2.5 s while there
    /// is another address to try, so a silent address leaves time for the next.
    ///
    /// # Errors
    /// The last attempt's error; `TimedOut` when the time is up; `NotFound` when the name has no
    /// address. The message names the host.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever was opened.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let end = self.end(Instant::now());
        // URLs write IPv6 addresses in brackets.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let addresses: Vec<SocketAddr> = match bare.parse() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => resolve(lookup_host((host, port)), left(end))
                .await
                .map_err(|error| named(host, port, &error))?
                .collect(),
        };
        let stream = dial_in_turn(&addresses, end);
        let stream = stream.await.map_err(|error| named(host, port, &error))?;
        self.configure(&stream)?;
        Ok(stream)
    }

    /// When a dial that starts now ends; `None` is never.
    fn end(&self, now: Instant) -> Option<Instant> {
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

/// A resolver that does not answer is a fault of another machine than the server that is dialed.
async fn resolve<T>(lookup: impl Future<Output = io::Result<T>>, left: Duration) -> io::Result<T> {
    let too_late = || io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time");
    timeout(left, lookup).await.unwrap_or_else(|_| Err(too_late()))
}

/// Dials one address after another until one answers or `end` has come.
async fn dial_in_turn(addresses: &[SocketAddr], end: Option<Instant>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, &address) in addresses.iter().enumerate() {
        let (left, others) = (left(end), addresses.len() - tried - 1);
        let share = match u32::try_from(others) {
            Ok(0) => left,
            others => (left / others.unwrap_or(u32::MAX).saturating_add(1)).min(SILENCE),
        };
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = timed_out(),
        }
    }
    Err(last)
}

fn left(end: Option<Instant>) -> Duration {
    end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
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

fn named(host: &str, port: u16, error: &io::Error) -> io::Error {
    // An IPv6 address contains colons itself.
    let (open, close) =
        if host.contains(':') && !host.starts_with('[') { ("[", "]") } else { ("", "") };
    io::Error::new(error.kind(), format!("{open}{host}{close}:{port}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::granted_until;
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

    #[tokio::test]
    async fn the_error_of_a_silent_resolver_names_the_resolution() {
        let silent = std::future::pending::<io::Result<()>>();
        let error = resolve(silent, Duration::ZERO).await.expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            named("db.example", 80, &error).to_string(),
            "db.example:80: the name was not resolved in time"
        );
    }

    #[test]
    fn an_error_writes_an_ipv6_address_in_brackets() {
        let said = |host| named(host, 80, &timed_out()).to_string();
        assert_eq!(said("::1"), "[::1]:80: no answer in time");
        assert_eq!(said("[::1]"), "[::1]:80: no answer in time");
        assert_eq!(said("localhost"), "localhost:80: no answer in time");
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
    fn silent(address: &str) -> (socket2::Socket, Vec<std::net::TcpStream>, u16) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let address: SocketAddr = format!("{address}:0").parse().expect("an address");
        socket.bind(&address.into()).expect("loopback");
        socket.listen(0).expect("bound");
        let address = socket.local_addr().expect("bound").as_socket().expect("IPv4");
        let wait = Duration::from_millis(100);
        let fill = || std::net::TcpStream::connect_timeout(&address, wait).ok();
        (socket, std::iter::from_fn(fill).take(16).collect(), address.port())
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next() {
        let (_silent, _filling, port) = silent("127.0.0.1");
        let good = TcpListener::bind(("127.0.0.2", port)).await.expect("loopback");
        let addresses =
            ["127.0.0.1", "127.0.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let end = Some(Instant::now() + Duration::from_secs(1));
        let stream = granted_until(end, async {
            let end = TcpConnector::default().end(Instant::now());
            dial_in_turn(&addresses, end).await
        });
        let stream = stream.await.expect("the second address answers");
        assert_eq!(stream.peer_addr().expect("connected"), good.local_addr().expect("bound"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_takes_what_the_pool_grants_and_an_address_at_most_its_share() {
        let (_silent, _filling, port) = silent("127.0.0.1");
        let address = SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
        let took = async |granted: Option<Duration>, timeout: Duration, count: usize| {
            let start = Instant::now();
            let connector = TcpConnector { timeout, ..TcpConnector::default() };
            let end = granted.map(|granted| start + granted);
            let dial = async {
                let end = connector.end(start);
                dial_in_turn(&vec![address; count], end).await
            };
            let error = granted_until(end, dial).await.expect_err("nobody answers");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            start.elapsed().as_secs()
        };
        let seconds = Duration::from_secs;
        assert_eq!(took(Some(seconds(60)), Duration::MAX, 1).await, 60);
        assert_eq!(took(Some(seconds(60)), seconds(7), 1).await, 7);
        assert_eq!(took(Some(seconds(2)), seconds(7), 3).await, 2);
        assert_eq!(took(None, Duration::MAX, 1).await, 5);
        // Two silent addresses use 2.5 s each, and leave the rest to the last.
        assert_eq!(took(Some(seconds(60)), Duration::MAX, 3).await, 60);
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
