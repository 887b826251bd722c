//! The relay: stands in front of a server of the user, and plays on its connections those faults of
//! the embedded servers that need no knowledge of a protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LINGER;
use super::faulty::Faulty;
use super::listener::Listener;
use super::oracle::Oracle;

/// How long the server behind may take to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts connections forever and carries the bytes of each to `upstream` and back.
pub(super) async fn serve(mut listener: Listener, oracle: Arc<Oracle>, upstream: SocketAddr) {
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        tokio::spawn(async move {
            // An error means that one side is gone; the close tells the other side.
            drop(carry(stream, upstream).await);
            drop(open);
        });
    }
}

/// Ends soon after either side has closed, so that a client that has left does not count as open while
/// its server waits for more.
async fn carry(client: Faulty, upstream: SocketAddr) -> io::Result<()> {
    let server = timeout(DIAL_TIMEOUT, TcpStream::connect(upstream)).await??;
    server.set_nodelay(true)?;
    let (mut client_reads, mut client_writes) = split(client);
    let (mut server_reads, mut server_writes) = server.into_split();
    let up = async {
        copy(&mut client_reads, &mut server_writes).await?;
        server_writes.shutdown().await
    };
    let down = async {
        copy(&mut server_reads, &mut client_writes).await?;
        client_writes.shutdown().await
    };
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(LINGER, down).await?
        }
        ended = &mut down => {
            ended?;
            timeout(LINGER, up).await?
        }
    }
}
