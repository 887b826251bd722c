//! Dialing TCP: several addresses in turn, NODELAY, keep-alive.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

/// Dials TCP.
///
/// The fields are its settings; [`TcpConnector::default`] suits a pooled connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConnector {
    /// Longest that name resolution and all attempts may take together. Default 5 s.
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
            timeout: Duration::from_secs(5),
            nodelay: true,
            keep_alive: Some(Duration::from_secs(15)),
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

impl TcpConnector {
    /// Resolves `host` and dials its addresses in turn until one answers. Each attempt gets an
    /// equal share of the time that is left, so one silent address does not use it all up.
    ///
    /// # Errors
    /// The last attempt's error; `TimedOut` when the time is up; `NotFound` when the name has no
    /// address. The message names the host.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever was opened.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        // A time beyond all time is no deadline.
        let deadline = Instant::now().checked_add(self.timeout);
        // URLs write IPv6 addresses in brackets.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let addresses: Vec<SocketAddr> = match bare.parse() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => timeout(self.timeout, lookup_host((host, port)))
                .await
                .unwrap_or_else(|_| Err(timed_out()))
                .map_err(|error| named(host, port, &error))?
                .collect(),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let count = addresses.len();
        for (tried, address) in addresses.into_iter().enumerate() {
            let left =
                deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            let share = left / u32::try_from(count - tried).unwrap_or(u32::MAX);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.configure(&stream)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = timed_out(),
            }
        }
        Err(named(host, port, &last))
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

/// Whether the peer has sent something that was not read, or has gone: one system call that does
/// not wait and reads nothing. `true` also when the socket reports an error.
///
/// tokio's own readiness costs no system call, but knows only what the runtime's driver has seen,
/// and the driver runs when tasks let it. Ask this where a connection has been idle for longer.
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

    #[tokio::test]
    async fn a_name_with_several_addresses_is_tried_address_by_address() {
        // `localhost` may resolve to ::1 first, where nobody listens.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let stream = TcpConnector::default().connect("localhost", port).await.expect("listening");
        assert_eq!(stream.peer_addr().expect("connected").port(), port);
    }
}
