//! The request's head, written into the connection's buffer.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Version};

use crate::framing::RequestFraming;
use crate::key::Key;
use crate::request::RequestHead;

/// Appends the request's head to `out`: request line, `Host`, the caller's headers, framing. The
/// caller's own framing headers are left out.
///
/// `proxied` is the key of a connection to a proxy that gets requests itself: the request line then names
/// the origin (RFC 9112 section 3.2.2).
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    head: RequestHead<'_>,
    framing: RequestFraming,
    proxied: Option<&Key>,
) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    if *head.method == Method::CONNECT {
        head.write_host(out);
    } else {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        if proxied.is_some() {
            out.extend_from_slice(b"http://");
            head.write_host(out);
        }
        // Behind an origin nothing stands for the whole server (RFC 9112 section 3.2.4).
        if target != "*" || proxied.is_none() {
            if !target.starts_with(['/', '*']) {
                out.push(b'/');
            }
            write_target(out, target);
        }
    }
    out.extend_from_slice(match head.version {
        Version::HTTP_10 => b" HTTP/1.0\r\n",
        _ => b" HTTP/1.1\r\n",
    });
    if !head.has_host {
        out.extend_from_slice(b"host: ");
        head.write_host(out);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(authorization) = proxied.and_then(Key::proxy_authorization)
        && !head.headers.contains_key(header::PROXY_AUTHORIZATION)
    {
        write_field(out, &header::PROXY_AUTHORIZATION, authorization);
    }
    for (name, value) in head.headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            write_field(out, name, value);
        }
    }
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends path and query. A [`Uri`](http::Uri) may hold UTF-8 in them, which has no place in a
/// request line: each byte above ASCII is percent-encoded (RFC 3986 section 2.5).
fn write_target(out: &mut Vec<u8>, target: &str) {
    if target.is_ascii() {
        out.extend_from_slice(target.as_bytes());
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in target.bytes() {
        if byte.is_ascii() {
            out.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0xf));
            out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
        }
    }
}

/// Appends one header line. Names and values of the `http` crate hold no line ends.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Payload;
    use crate::upload::Upload;
    use bytes::Bytes;
    use http::Request;
    use pool_common::connect::Connector;

    fn request(request: Request<()>, length: Option<usize>) -> Result<String, crate::Error> {
        let (parts, ()) = request.into_parts();
        let mut payload = match length {
            Some(0) => Payload::None,
            Some(length) => Payload::Whole(vec![0; length].into()),
            None => {
                let body = Box::pin(http_body_util::Empty::<Bytes>::new());
                Payload::Stream(Box::new(Upload::new(body, None, None)))
            }
        };
        let (head, _) = RequestHead::new(&parts, &mut payload, &Connector::default())?;
        let mut out = Vec::new();
        write_request(&mut out, head, payload.framing(), None);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_request_is_written_with_host_and_framing() {
        let get = Request::get("http://a.example:8080/x?y=1#f").header("Accept", "*/*");
        assert_eq!(
            request(get.body(()).unwrap(), Some(0)).unwrap(),
            "GET /x?y=1 HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\n\r\n"
        );
        let post = Request::post("http://a?q").header("host", "b").header("content-length", "3");
        assert_eq!(
            request(post.body(()).unwrap(), Some(3)).unwrap(),
            "POST /?q HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\n"
        );
        let empty = Request::put("http://[::1]:1");
        assert_eq!(
            request(empty.body(()).unwrap(), Some(0)).unwrap(),
            "PUT / HTTP/1.1\r\nhost: [::1]:1\r\ncontent-length: 0\r\n\r\n"
        );
        let stream = Request::put("http://a:/");
        assert_eq!(
            request(stream.body(()).unwrap(), None).unwrap(),
            "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let in_memory = Request::put("http://a/").header("transfer-encoding", "Chunked");
        assert_eq!(
            request(in_memory.body(()).unwrap(), Some(3)).unwrap(),
            "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
        );
        let nothing = Request::get("http://a/").header("transfer-encoding", "chunked");
        assert_eq!(
            request(nothing.body(()).unwrap(), Some(0)).unwrap(),
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let announced = Request::put("http://a/").header("content-length", "03");
        assert_eq!(
            request(announced.body(()).unwrap(), None).unwrap(),
            "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
        );
        let connect = Request::connect("a:443");
        assert_eq!(
            request(connect.body(()).unwrap(), Some(0)).unwrap(),
            "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"
        );
        let chunked = Request::connect("a:443").header("transfer-encoding", "chunked");
        assert_eq!(
            request(chunked.body(()).unwrap(), Some(0)).unwrap(),
            "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"
        );
        let old = Request::get("http://a/").version(Version::HTTP_10);
        assert_eq!(
            request(old.body(()).unwrap(), Some(0)).unwrap(),
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n"
        );
    }

    #[test]
    fn characters_above_ascii_are_percent_encoded() {
        for (uri, target) in [
            ("http://a/\u{e9}", "/%C3%A9"),
            ("http://a/x%20\u{20ac}y?\u{e9}=\u{20ac}#\u{e9}", "/x%20%E2%82%ACy?%C3%A9=%E2%82%AC"),
            ("http://a?\u{e9}", "/?%C3%A9"),
        ] {
            let sent = request(Request::get(uri).body(()).unwrap(), Some(0)).unwrap();
            assert_eq!(sent, format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
        }
        // A host has no such characters: it would have to be in Punycode.
        assert!("http://\u{e9}/".parse::<http::Uri>().is_err());
    }

    #[test]
    fn contradictory_requests_are_refused() {
        use crate::error::InvalidRequest as Invalid;
        let post = || Request::post("http://a/");
        for (builder, length, expected) in [
            (post().header("host", "a").header("host", "b"), Some(0), Invalid::SeveralHosts),
            (post().header("content-length", "x"), Some(3), Invalid::ContentLength),
            (post().header("content-length", "+3"), Some(3), Invalid::ContentLength),
            (
                post().header("content-length", "4"),
                Some(3),
                Invalid::LengthMismatch { header: 4, body: 3 },
            ),
            (post().header("transfer-encoding", "gzip"), None, Invalid::TransferEncoding),
            (
                post().header("transfer-encoding", "chunked").header("content-length", "3"),
                Some(3),
                Invalid::LengthAndTransferEncoding,
            ),
            (post().version(Version::HTTP_10), None, Invalid::ChunkedInHttp10),
            (post().version(Version::HTTP_2), None, Invalid::Version(Version::HTTP_2)),
            (Request::connect("a:1"), Some(3), Invalid::ConnectWithBody),
            (Request::connect("a:1"), None, Invalid::ConnectWithBody),
            (
                post().header("connection", "close, Content-Length"),
                Some(3),
                Invalid::ConnectionOption,
            ),
            (post().header("connection", "transfer-encoding"), None, Invalid::ConnectionOption),
            (post().header("connection", "host"), Some(0), Invalid::ConnectionOption),
        ] {
            let error = request(builder.body(()).unwrap(), length).unwrap_err();
            assert_eq!(error.to_string(), crate::Error::from(expected).to_string());
        }
    }
}
