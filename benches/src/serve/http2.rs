//! The HTTP/2 server (prior knowledge, no TLS): answers every request with its `x-nonce` header as
//! the body, in the task of the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Method, Request, Response};

use super::faults::{Connection, Faults, Replacement};
use super::faulty::Faulty;
use super::listener::Listener;
use super::oracle::{OpenSocket, Oracle};

/// Accepts connections forever and starts a task for each.
pub(super) async fn serve(
    mut listener: Listener,
    oracle: Arc<Oracle>,
    faults: Arc<Faults>,
    max_streams: u32,
) {
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        tokio::spawn(serve_connection(stream, open, Arc::clone(&faults), max_streams));
    }
}

async fn serve_connection(stream: Faulty, open: OpenSocket, faults: Arc<Faults>, max_streams: u32) {
    // An error means that the client is gone or broke the protocol; h2 has sent what can be said.
    drop(exchange(stream, &open, &faults, max_streams).await);
    drop(open);
}

/// Requests that a client may take back before the server has looked at them. A server of real use guards
/// against floods of them and ends the connection; this one may be paused by the machine for as long as a
/// client cancels hundreds, and must not blame the client for that.
const RESET_STREAMS: usize = 1 << 20;

async fn exchange(
    stream: Faulty,
    open: &OpenSocket,
    faults: &Faults,
    max_streams: u32,
) -> Result<(), h2::Error> {
    let mut seen = faults.version();
    let mut limit = StreamLimit { configured: max_streams, told: max_streams };
    limit.replace_greeting(faults, open.connection());
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(max_streams).max_pending_accept_reset_streams(RESET_STREAMS);
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let mut batch = Vec::new();
    loop {
        // Handle everything that has arrived, so that the answers are sent in one write.
        let over = poll_fn(|cx| {
            // Faults that change wake this task.
            let version = faults.version();
            if version != seen && open.announced() {
                connection.graceful_shutdown();
            }
            loop {
                if version != seen && limit.tell(faults, open.connection(), &mut connection) {
                    seen = version;
                }
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok(next))) => batch.push(next),
                    // When the client has left in a silence, this error comes again at each poll.
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(true)),
                    Poll::Pending if !batch.is_empty() => return Poll::Ready(Ok(false)),
                    // The client may just have acknowledged the previous settings.
                    Poll::Pending
                        if version != seen
                            && limit.tell(faults, open.connection(), &mut connection) =>
                    {
                        seen = version;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        for (request, reply) in batch.drain(..) {
            if answer(request, reply, open) {
                connection.graceful_shutdown();
            }
        }
        if over {
            return Ok(());
        }
    }
}

/// The number of streams that the client may have open at once.
///
/// The h2 crate cannot change this number on an open connection. It can change the initial window, whose
/// settings frame has the same length. So the server sends its unchanged window, and the connection replaces
/// that frame by one with the number of streams. The h2 crate itself keeps the configured number; the client
/// has to obey the new one.
struct StreamLimit {
    configured: u32,
    told: u32,
}

/// The window of a new stream: the default of HTTP/2.
const WINDOW: u32 = 65_535;
/// A settings frame with one entry, up to its entry: length 6, type 4, no flags, stream 0.
const SETTINGS: [u8; 9] = [0, 0, 6, 4, 0, 0, 0, 0, 0];
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

impl StreamLimit {
    fn wanted(&self, faults: &Faults, connection: &Connection) -> u32 {
        faults.plan(connection).max_streams.unwrap_or(self.configured)
    }

    /// Changes the first settings of a connection that is accepted while a fault is in force.
    fn replace_greeting(&mut self, faults: &Faults, connection: &Connection) {
        let wanted = self.wanted(faults, connection);
        if wanted != self.told {
            connection.replace(Replacement {
                from: entry(MAX_CONCURRENT_STREAMS, self.told),
                to: entry(MAX_CONCURRENT_STREAMS, wanted),
            });
            self.told = wanted;
        }
    }

    /// Sends the number in force to the client. False while it has not acknowledged the previous settings.
    fn tell(
        &mut self,
        faults: &Faults,
        connection: &Connection,
        h2: &mut h2::server::Connection<Faulty, Bytes>,
    ) -> bool {
        let wanted = self.wanted(faults, connection);
        if wanted == self.told {
            return true;
        }
        if h2.set_initial_window_size(WINDOW).is_err() {
            return false;
        }
        connection.replace(Replacement {
            from: [&SETTINGS[..], &entry(INITIAL_WINDOW_SIZE, WINDOW)].concat(),
            to: [&SETTINGS[..], &entry(MAX_CONCURRENT_STREAMS, wanted)].concat(),
        });
        self.told = wanted;
        true
    }
}

fn entry(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Answers one request, and returns whether the connection is to be closed after it.
fn answer(
    request: Request<h2::RecvStream>,
    mut reply: SendResponse<Bytes>,
    open: &OpenSocket,
) -> bool {
    let nonce = request
        .headers()
        .get("x-nonce")
        .map(|value| Bytes::copy_from_slice(value.as_bytes()))
        .unwrap_or_default();
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let bodiless = nonce.is_empty() || *request.method() == Method::HEAD;
    let close = open.executed(&nonce, writes);
    discard_body(request);
    let head = Response::builder()
        .header(http::header::CONTENT_LENGTH, nonce.len())
        .body(())
        .expect("a constant head is valid");
    // An error here means that the client took the request back; the connection goes on.
    if let Ok(mut body) = reply.send_response(head, bodiless)
        && !bodiless
    {
        drop(body.send_data(nonce, true));
    }
    close
}

/// Reads a request's body to its end, if there is one, and gives its window back.
fn discard_body(request: Request<h2::RecvStream>) {
    let mut body = request.into_body();
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        while let Some(Ok(data)) = body.data().await {
            if body.flow_control().release_capacity(data.len()).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    /// A frame of this type on a stream.
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[tokio::test]
    async fn client_that_takes_back_hundreds_of_requests_at_once_keeps_its_connection() {
        let (headers, reset, settings, ping, cancel) = (1, 3, 4, 6, 8_u32);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let faults = Faults::new();
        let stream = Faulty::new(stream, Arc::clone(&faults));
        let open = Oracle::new().accepted().with(stream.connection());
        tokio::spawn(serve_connection(stream, open, faults, 1000));

        // A paused server finds all of it at once: GET / of a host, and its end, 300 times.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(settings, 0, 0, &[]));
        for stream in (1..600).step_by(2) {
            bytes.extend(frame(headers, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
            bytes.extend(frame(reset, 0, stream, &cancel.to_be_bytes()));
        }
        bytes.extend(frame(ping, 0, 0, b"12345678"));
        client.write_all(&bytes).await.unwrap();

        // The answer to the ping comes, and no GOAWAY before it.
        let mut head = [0; 9];
        loop {
            timeout(Duration::from_secs(20), client.read_exact(&mut head)).await.unwrap().unwrap();
            let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
            let mut payload = vec![0; length];
            client.read_exact(&mut payload).await.unwrap();
            match (head[3], head[4]) {
                (7, _) => panic!("GOAWAY: {}", String::from_utf8_lossy(&payload[8..])),
                (6, 1) => break,
                _ => {}
            }
        }
    }
}
