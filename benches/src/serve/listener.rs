//! A listening socket that can stop to listen and begin again on the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::faults::Faults;
use super::faulty::Faulty;

/// Pause after an accept failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// Pause before another try to have the port again.
const BIND_PAUSE: Duration = Duration::from_millis(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Accepts connections while the faults let it.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    faults: Arc<Faults>,
    listens: watch::Receiver<bool>,
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: SocketAddr, faults: Arc<Faults>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let listens = faults.listens();
        Ok(Self { listener, address, faults, listens })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, without delay for small writes.
    pub async fn accept(&mut self) -> Faulty {
        loop {
            if !*self.listens.borrow_and_update() {
                self.pause().await;
            }
            tokio::select! {
                biased;
                changed = self.listens.changed() => changed.expect("the faults live as long"),
                accepted = accept(&self.listener) => {
                    return Faulty::new(accepted, Arc::clone(&self.faults));
                }
            }
        }
    }

    /// Lets nobody in until the faults do. The port stays ours: a socket is bound to it that does not
    /// listen, so that no other program gets it, nor a client of this machine as its own address.
    async fn pause(&mut self) {
        let kept = self.keep_port().await;
        while !*self.listens.borrow_and_update() {
            self.listens.changed().await.expect("the faults live as long");
        }
        let mut next = kept.listen(BACKLOG);
        loop {
            match next {
                Ok(listener) => break self.listener = listener,
                Err(_) => {
                    tokio::time::sleep(BIND_PAUSE).await;
                    next = TcpListener::bind(self.address).await;
                }
            }
        }
    }

    /// Closes the listening socket and binds another one that does not listen.
    async fn keep_port(&mut self) -> TcpSocket {
        // A listener elsewhere takes the place of the one that is dropped here.
        loop {
            let elsewhere = SocketAddr::new(self.address.ip(), 0);
            if let Ok(placeholder) = TcpListener::bind(elsewhere).await {
                drop(std::mem::replace(&mut self.listener, placeholder));
                break;
            }
            tokio::time::sleep(BIND_PAUSE).await;
        }
        loop {
            match bound(self.address) {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(BIND_PAUSE).await,
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
