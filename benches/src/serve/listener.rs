//! A listening socket that can stop listening and begin again on the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::faults::{Faults, Listening};
use super::faulty::Faulty;

/// Pause after an accept failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// Pause before another try to bind the port again.
const BIND_PAUSE: Duration = Duration::from_millis(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Accepts connections while the faults allow it.
#[derive(Debug)]
pub struct Listener {
    /// `None` while connections are refused.
    listener: Option<TcpListener>,
    address: SocketAddr,
    faults: Arc<Faults>,
    listens: watch::Receiver<bool>,
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The error of the system.
    pub async fn bind(address: SocketAddr, faults: Arc<Faults>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let listens = faults.listens();
        faults.set_listening(Listening::Open);
        Ok(Self { listener: Some(listener), address, faults, listens })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, without delay for small writes.
    pub async fn accept(&mut self) -> Faulty {
        loop {
            let Some(listener) = self.listener.as_ref().filter(|_| *self.listens.borrow()) else {
                self.refuse().await;
                continue;
            };
            tokio::select! {
                biased;
                changed = self.listens.changed() => changed.expect("the faults live as long"),
                stream = accept(listener) => return Faulty::new(stream, Arc::clone(&self.faults)),
            }
        }
    }

    /// Refuses connections until the faults allow them again. The port stays reserved meanwhile: a
    /// socket that does not listen is bound to it, so that neither another program nor a client on
    /// this machine gets the port.
    async fn refuse(&mut self) {
        self.listener = None;
        let reserved = self.retry(|| bound(self.address)).await;
        self.faults.set_listening(Listening::Closed);
        self.listens.wait_for(|listens| *listens).await.expect("the faults live as long");
        let mut reserved = Some(reserved);
        let listen = || {
            let socket = reserved.take().map_or_else(|| bound(self.address), Ok)?;
            socket.listen(BACKLOG)
        };
        self.listener = Some(self.retry(listen).await);
        self.faults.set_listening(Listening::Open);
    }

    /// Tries until the attempt succeeds, and records the error of each failed attempt.
    async fn retry<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> T {
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(error) => {
                    let text = format!("cannot listen on {} again: {error}", self.address);
                    self.faults.set_listening(Listening::Failed(text));
                    tokio::time::sleep(BIND_PAUSE).await;
                }
            }
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The next connection, without delay for small writes.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Fails only on a connection that is already gone; its first read will tell.
                drop(stream.set_nodelay(true));
                return stream;
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
