//! The relay: stands in front of a server of the user's, and lets its connections feel the faults of
//! the embedded servers that need no knowledge of a protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::faulty::Faulty;
use super::listener::Listener;
use super::oracle::{OpenSocket, Oracle};

/// Accepts connections for ever and carries the bytes of each to `upstream` and back.
pub(super) async fn serve(mut listener: Listener, oracle: Arc<Oracle>, upstream: SocketAddr) {
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        tokio::spawn(carry(stream, open, upstream));
    }
}

/// Ends when both sides have said so, or one of them broke: an error means that one is gone, and the
/// other learns it by the close.
async fn carry(mut stream: Faulty, open: OpenSocket, upstream: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(upstream).await {
        // Fails only on a connection that is already gone.
        drop(server.set_nodelay(true));
        drop(tokio::io::copy_bidirectional(&mut stream, &mut server).await);
    }
    drop(stream);
    drop(open);
}
