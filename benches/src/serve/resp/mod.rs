//! The RESP server, with the commands that a pool and its users need to tell sessions apart.
//!
//! `ECHO <nonce>` is the measured request. The server also keeps a real session for
//! each connection (database, transaction, watched keys, subscriptions, name, protocol version), so
//! that a client can tell a neutral session from a changed one, by its behaviour and by
//! `CLIENT INFO`.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::faulty::Faulty;
use super::listener::Listener;
use super::oracle::{OpenSocket, Oracle};
use session::Session;
use store::Store;

mod reply;
mod request;
mod session;
mod store;
mod subscriptions;

/// Accepts connections forever and starts a task for each.
pub(super) async fn serve(mut listener: Listener, oracle: Arc<Oracle>) {
    let store = Arc::new(Store::default());
    let mut next_id = 0_u64;
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        next_id += 1;
        let session = Session::new(next_id, Arc::clone(&store));
        tokio::spawn(serve_connection(stream, open, session));
    }
}

async fn serve_connection(mut stream: Faulty, open: OpenSocket, mut session: Session) {
    // An error means that the client is gone, so it cannot be told.
    drop(exchange(&mut stream, &open, &mut session).await);
    drop(stream);
    drop(open);
}

async fn exchange(stream: &mut Faulty, open: &OpenSocket, session: &mut Session) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(4096);
    let mut output = Vec::with_capacity(1024);
    loop {
        let mut close = false;
        while !close && !input.is_empty() {
            match request::parse(&mut input) {
                Ok(Some(arguments)) => {
                    close = session.execute(&arguments, open, &mut output) || open.announced();
                }
                Ok(None) => break,
                Err(complaint) => {
                    reply::error(&mut output, &format!("ERR Protocol error: {complaint}"));
                    close = true;
                }
            }
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if close {
            // The shutdown waits until delayed replies have left.
            return stream.shutdown().await;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}
