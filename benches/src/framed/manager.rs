//! How the pool dials, checks and closes framed connections.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use pool_common::connect::IDLE_LOOK;
use pool_common::{Exclusive, Manager, Notifier};

use super::connection::{Connection, FramedError};

/// How long an exchange may take by default.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Dials and checks framed connections. The key is the address, since nothing else shapes a connection.
#[derive(Debug, Clone)]
pub struct FramedManager {
    /// How long an exchange may take, default [`CALL_TIMEOUT`].
    pub call_timeout: Duration,
    /// Whether a dial waits for the server's first word, an exchange with an empty body; default
    /// `false`. Protocols with a greeting or a TLS handshake do.
    pub greets: bool,
}

impl Default for FramedManager {
    fn default() -> Self {
        Self { call_timeout: CALL_TIMEOUT, greets: false }
    }
}

impl Manager for FramedManager {
    type Key = SocketAddr;
    type Lending = Exclusive<Connection>;
    type Error = FramedError;

    async fn connect(
        &self,
        key: &SocketAddr,
        _notifier: Notifier,
    ) -> Result<Connection, FramedError> {
        let mut connection = Connection::open(*key, self.call_timeout).await?;
        if self.greets {
            connection.call(Bytes::new()).await?;
        }
        Ok(connection)
    }

    fn is_broken(&self, connection: &mut Exclusive<Connection>) -> bool {
        connection.is_broken()
    }

    fn is_stale(&self, connection: &mut Exclusive<Connection>, _idle_for: Duration) -> bool {
        connection.is_stale()
    }

    fn idle_look_interval(&self) -> Option<Duration> {
        Some(IDLE_LOOK)
    }

    /// An exchange with an empty body. The frame carries an id, so another answer is not mistaken for its own.
    async fn check(
        &self,
        connection: &mut Exclusive<Connection>,
        _idle_for: Duration,
    ) -> Result<(), FramedError> {
        connection.call(Bytes::new()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_common::Pool;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers each frame of `length` bytes as `answer` makes it.
    async fn server(length: usize, answer: fn(Vec<u8>) -> Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut frame = vec![0; length];
                    while stream.read_exact(&mut frame).await.is_ok() {
                        if stream.write_all(&answer(frame.clone())).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_counts_its_requests() {
        let address = server(15, |frame| frame).await;
        let pool = Pool::builder(FramedManager::default()).build().unwrap();
        for round in 0..3 {
            let mut lease = pool.acquire(&address).await.unwrap();
            assert_eq!(lease.is_reused(), round > 0);
            assert_eq!(lease.call(Bytes::from_static(b"one")).await.unwrap(), "one");
        }
        assert_eq!(pool.stats().opened, 1);
        pool.close().await;
        assert_eq!(pool.status().open, 0);
    }

    /// A policy without a peek is compared with the original of its strategy, which looks at no idle
    /// connection.
    #[tokio::test]
    async fn idle_connections_are_looked_at_with_a_peek_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = async |peek| {
            let policy = pool_common::Policy { peek, ..pool_common::Policy::default() };
            let pool = Pool::builder(FramedManager::default()).policy(policy).build().unwrap();
            pool.acquire(&address).await.unwrap().release().await;
            drop(listener.accept().await.unwrap());
            pool
        };
        let (never, default) = (open(false).await, open(true).await);
        let is_closed = async {
            while default.status().open > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_closed)
            .await
            .expect("a look sees the end");
        // Time for two more looks.
        tokio::time::sleep(2 * IDLE_LOOK).await;
        assert_eq!(never.status().idle, 1);
    }

    #[tokio::test]
    async fn an_answer_with_another_id_breaks_the_connection() {
        let address = server(15, |mut frame| {
            frame[11] ^= 1;
            frame
        })
        .await;
        let pool = Pool::builder(FramedManager::default()).build().unwrap();
        let mut lease = pool.acquire(&address).await.unwrap();
        let error = lease.call(Bytes::from_static(b"one")).await.unwrap_err();
        assert!(matches!(error, FramedError::OutOfSequence { wanted: 1, got: 0 }), "{error}");
        let error = lease.call(Bytes::from_static(b"one")).await.unwrap_err();
        assert!(matches!(error, FramedError::OutOfStep), "{error}");
        drop(lease);
        assert_eq!(pool.status().idle, 0);
    }

    #[tokio::test]
    async fn a_call_that_was_dropped_never_gives_its_answer_to_the_next_borrower() {
        let address = server(15, |frame| frame).await;
        let pool = Pool::builder(FramedManager::default()).build().unwrap();
        let mut lease = pool.acquire(&address).await.unwrap();
        {
            let mut call = std::pin::pin!(lease.call(Bytes::from_static(b"one")));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
            });
            assert!(!polled.await);
        }
        drop(lease);
        assert_eq!(pool.status().idle, 0);
        let mut lease = pool.acquire(&address).await.unwrap();
        assert!(!lease.is_reused());
        assert_eq!(lease.call(Bytes::from_static(b"two")).await.unwrap(), "two");
    }

    #[tokio::test]
    async fn stray_bytes_break_the_connection() {
        let address = server(15, |frame| [frame.clone(), frame].concat()).await;
        let pool = Pool::builder(FramedManager::default()).build().unwrap();
        let mut lease = pool.acquire(&address).await.unwrap();
        lease.call(Bytes::from_static(b"one")).await.unwrap();
        drop(lease);
        assert_eq!(pool.status().idle, 0);
    }

    /// A peer on another thread answers the first frame of each connection, does `then` 1 ms later,
    /// and sends a message when it has.
    fn scripted(then: fn(&mut std::net::TcpStream)) -> (SocketAddr, std::sync::mpsc::Receiver<()>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                std::thread::spawn(move || {
                    let mut frame = [0; 15];
                    stream.read_exact(&mut frame).unwrap();
                    stream.write_all(&frame).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                    then(&mut stream);
                    tell.send(()).unwrap_or_default();
                    let _ = stream.read(&mut frame);
                });
            }
        });
        (address, told)
    }

    #[tokio::test]
    async fn bytes_that_came_while_the_thread_was_busy_are_no_answer() {
        use std::io::Write;
        let stray: fn(&mut std::net::TcpStream) = |stream| {
            // The answer to the next request, had there been one.
            stream.write_all(b"\0\0\0\x03\0\0\0\0\0\0\0\x02two").unwrap();
        };
        let end: fn(&mut std::net::TcpStream) =
            |stream| stream.shutdown(std::net::Shutdown::Write).unwrap();
        for then in [stray, end] {
            let (address, told) = scripted(then);
            let wait = || told.recv_timeout(Duration::from_secs(60)).expect("the peer did it");
            let pool = Pool::builder(FramedManager::default()).build().unwrap();
            let mut lease = pool.acquire(&address).await.unwrap();
            assert_eq!(lease.call(Bytes::from_static(b"one")).await.unwrap(), "one");
            // This thread, and so the driver, is busy until the peer has done it.
            wait();
            let error = lease.call(Bytes::from_static(b"two")).await.unwrap_err();
            assert!(matches!(error, FramedError::OutOfStep), "{error}");
            drop(lease);
            let mut lease = pool.acquire(&address).await.unwrap();
            assert_eq!(lease.call(Bytes::from_static(b"one")).await.unwrap(), "one");
            drop(lease);
            wait();
            let lease = pool.acquire(&address).await.unwrap();
            assert!(!lease.is_reused());
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_a_timeout() {
        let address = server(15, |_| Vec::new()).await;
        let manager =
            FramedManager { call_timeout: Duration::from_millis(20), ..FramedManager::default() };
        let pool = Pool::builder(manager).build().unwrap();
        let mut lease = pool.acquire(&address).await.unwrap();
        let error = lease.call(Bytes::from_static(b"one")).await.unwrap_err();
        assert!(matches!(error, FramedError::Timeout(_)), "{error}");
        drop(lease);
        assert_eq!(pool.status().idle, 0);
    }
}
