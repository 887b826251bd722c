//! A tunnel through a proxy: `CONNECT` (RFC 9110, 9.3.6).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::stream::Stream;
use super::ProxyServer;

/// Most bytes of the heads that a proxy answers with.
const MOST_HEAD: usize = 16 * 1024;

/// How much of a peer's own words an error shows, in bytes.
const MOST_SHOWN: usize = 64;

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

impl ProxyServer {
    /// Asks the proxy at the other end of `stream` to pass everything on to `target`, which is `host:port`.
    /// The texts of its errors begin with the name of the proxy.
    ///
    /// # Errors
    /// `PermissionDenied` when the proxy asks for a login or refuses the one that it got, `ConnectionRefused` when it
    /// refuses otherwise, `InvalidData` when its answer is not HTTP/1; otherwise those of the stream.
    pub(in super::super) async fn tunnel(
        &self,
        stream: &mut Stream,
        target: &str,
    ) -> io::Result<()> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
        if let Some(authorization) = self.authorization() {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let sent = stream.write_all(&request).await;
        sent.map_err(|error| self.lost(&error))?;
        let mut room = MOST_HEAD;
        loop {
            let head = self.read_head(stream, room).await?;
            room -= head.len();
            match self.status(&head)? {
                (100..=199, _) => {}
                // A length or a transfer coding means nothing here.
                (200..=299, _) => return Ok(()),
                (status, reason) => return Err(self.refused(status, &reason)),
            }
        }
    }

    /// Reads one head, and no byte after it: what follows is the target's.
    async fn read_head(&self, stream: &mut Stream, room: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        loop {
            // A longer read could take bytes of the target, which may speak first.
            let missing = END.len() - matched(&head);
            if missing == 0 {
                return Ok(head);
            }
            let known = head.len();
            if known + missing > room {
                let text = format!(
                    "the proxy {self} answered CONNECT with a head of more than {MOST_HEAD} bytes; \
                     is it an HTTP proxy?"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            head.resize(known + missing, 0);
            let count = stream.read(&mut head[known..]).await.map_err(|error| self.lost(&error))?;
            head.truncate(known + count);
            if count == 0 {
                let text = format!(
                    "the proxy {self} closed the connection instead of answering CONNECT; it may not \
                     allow this host or port"
                );
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            const START: &[u8] = b"HTTP/1.";
            let length = head.len().min(START.len());
            let is_bare = |at: usize| head[at] == b'\n' && (at == 0 || head[at - 1] != b'\r');
            if head[..length] != START[..length] || (known..head.len()).any(is_bare) {
                return Err(self.not_http(&head));
            }
        }
    }

    /// Status and reason of a head.
    fn status(&self, head: &[u8]) -> io::Result<(u16, String)> {
        // HTTP/1.1 200 reason
        let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let number = line.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let status = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let is_line = line.get(7).is_some_and(u8::is_ascii_digit)
            && line.get(8) == Some(&b' ')
            && matches!(line.get(12), None | Some(b' '));
        match status {
            Some(status @ 100..) if is_line => {
                Ok((status, shown(line.get(13..).unwrap_or_default())))
            }
            _ => Err(self.not_http(head)),
        }
    }

    fn refused(&self, status: u16, reason: &str) -> io::Error {
        let way_out = match status {
            407 if self.authorization().is_some() => {
                "it refuses the user and password in the URI of the proxy, or asks for another login than Basic"
            }
            407 => "put user and password into the URI of the proxy",
            401 | 403 | 405 => "its rules do not allow this host or port",
            400 | 404 | 501 => "it may be a server and no proxy",
            408 | 429 | 500.. => "it did not reach the host, or has a fault",
            _ => "it opens no tunnel",
        };
        let kind = match status {
            407 => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::ConnectionRefused,
        };
        // It may repeat the login, as the texts of servers about passwords do.
        let reason = if status == 407 && self.authorization().is_some() { "" } else { reason };
        let space = if reason.is_empty() { "" } else { " " };
        let text =
            format!("the proxy {self} answered CONNECT with {status}{space}{reason}; {way_out}");
        io::Error::new(kind, text)
    }

    fn not_http(&self, head: &[u8]) -> io::Error {
        let text = format!(
            "the proxy {self} does not answer in HTTP/1, its answer starts with \"{}\"; is this the \
             port of an HTTP proxy?",
            shown(head)
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn lost(&self, error: &io::Error) -> io::Error {
        let text = format!(
            "the connection to the proxy {self} failed: {error}; it may not allow this host or port"
        );
        io::Error::new(error.kind(), text)
    }

    /// No connection to the proxy itself.
    pub(in super::super) fn unreachable(&self, error: &io::Error) -> io::Error {
        let text = format!(
            "the proxy {self} cannot be reached: {error}; does it run, and at this address?"
        );
        // Of this system, for instance a firewall. The kind says that the proxy wants another login.
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => io::ErrorKind::Other,
            kind => kind,
        };
        io::Error::new(kind, text)
    }

    /// The time was up between `CONNECT` and the end of its answer.
    pub(in super::super) fn silent(&self) -> io::Error {
        let text = format!(
            "the proxy {self} did not answer CONNECT in time; it may be busy, or not reach the host"
        );
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

/// How many bytes of [`END`] stand at the end of `head`.
fn matched(head: &[u8]) -> usize {
    (0..=END.len()).rev().find(|&count| head.ends_with(&END[..count])).unwrap_or(0)
}

/// A peer's words for people: control characters escaped, and not too many.
fn shown(words: &[u8]) -> String {
    words[..words.len().min(MOST_SHOWN)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    const TARGET: &str = "a.example:443";

    fn proxy(text: &str) -> ProxyServer {
        ProxyServer::parse(text).expect("a proxy")
    }

    /// The stream after the proxy answered `answer`, and the proxy's end of it.
    async fn tunneled(uri: &str, answer: &[u8]) -> (io::Result<Stream>, Vec<u8>, DuplexStream) {
        let (near, mut far) = duplex(64 * 1024);
        let mut stream = Stream::other(near);
        far.write_all(answer).await.expect("there is room");
        let result = proxy(uri).tunnel(&mut stream, TARGET).await.map(|()| stream);
        let mut request = Vec::new();
        while !request.ends_with(END) {
            request.push(far.read_u8().await.expect("the request came"));
        }
        (result, request, far)
    }

    #[tokio::test]
    async fn bytes_behind_the_head_are_left_to_the_target() {
        for head in [
            "HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n",
            "HTTP/1.1 200\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
        ] {
            let answer = format!("{head}first words\r\n\r\n");
            let (stream, request, far) = tunneled("user:secret@p:1", answer.as_bytes()).await;
            // So that a read of bytes that were taken away fails, and does not wait.
            drop(far);
            let mut rest = [0; 15];
            stream.expect("open").read_exact(&mut rest).await.expect("all is there");
            assert_eq!(&rest, b"first words\r\n\r\n");
            let text = "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\
                        proxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n";
            assert_eq!(String::from_utf8_lossy(&request), text);
        }
    }

    #[tokio::test]
    async fn each_refusal_names_the_proxy_and_the_way_out() {
        use io::ErrorKind::{ConnectionRefused, InvalidData, PermissionDenied};
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MOST_HEAD));
        for (uri, answer, kind, said) in [
            ("p:1", "HTTP/1.1 407 Who\r\n\r\n", PermissionDenied, "407 Who; put user"),
            ("u:secret@p:1", "HTTP/1.1 407 Who\r\n\r\n", PermissionDenied, "refuses the user"),
            ("u:secret@p:1", "HTTP/1.1 407 No secret\r\n\r\n", PermissionDenied, "with 407; it"),
            ("p:1", "HTTP/1.1 403\r\n\r\n", ConnectionRefused, "with 403; its rules"),
            ("p:1", "HTTP/1.1 502 a\x1b[1m\r\n\r\n", ConnectionRefused, "502 a\\x1b[1m; it did"),
            ("p:1", "SSH-2.0-x\r\n", InvalidData, "starts with \"SSH-\""),
            ("p:1", "HTTP/1.1 200 OK\nx: y\n\n", InvalidData, "not answer in HTTP/1"),
            ("p:1", "HTTP/1.1 2000 OK\r\n\r\n", InvalidData, "not answer in HTTP/1"),
            ("p:1", "HTTP/1.x 200 OK\r\n\r\n", InvalidData, "not answer in HTTP/1"),
            ("p:1", "HTTP/1.1 099 OK\r\n\r\n", InvalidData, "not answer in HTTP/1"),
            ("p:1", &long, InvalidData, "more than 16384 bytes"),
        ] {
            let error = tunneled(uri, answer.as_bytes()).await.0.expect_err(said);
            let text = error.to_string();
            assert!(text.starts_with("the proxy http://p:1 ") && text.contains(said), "{text}");
            assert_eq!(error.kind(), kind, "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_without_an_answer_is_an_error_and_interim_answers_without_end_too() {
        let (near, mut far) = duplex(64 * 1024);
        let mut stream = Stream::other(near);
        far.write_all(b"HTTP/1.1 2").await.expect("there is room");
        far.shutdown().await.expect("open");
        let error = proxy("p:1").tunnel(&mut stream, TARGET).await.expect_err("it ended");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        let interim = "HTTP/1.1 102 Wait\r\n\r\n".repeat(MOST_HEAD / 20);
        let start = Instant::now();
        let limit = Duration::from_secs(60);
        let endless = timeout(limit, tunneled("p:1", interim.as_bytes())).await.expect("it ends");
        assert_eq!(endless.0.expect_err("too many").kind(), io::ErrorKind::InvalidData);
        assert!(start.elapsed() < limit);
    }
}
