//! The request head in the form that HTTP/2 needs.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body::Body;
use pool_common::connect::{InvalidUri, UNIX_SCHEME};

use crate::error::InvalidRequest;

/// Brings a head into the form that HTTP/2 needs. Returns the head, and the length that the body
/// declares.
///
/// Fields that belong to one HTTP/1 connection go (RFC 9113, 8.2.2), `Host` becomes `:authority` as
/// in `net/http`, and a content-length is added when the body knows its own.
pub(crate) fn prepare(
    mut parts: Parts,
    body: &impl Body,
) -> Result<(Request<()>, Option<u64>), InvalidRequest> {
    if parts.method == Method::CONNECT {
        return Err(InvalidRequest::Connect);
    }
    if parts.uri.scheme_str() == Some(UNIX_SCHEME) {
        // The socket is the business of the dial; to its server it is plain HTTP to this machine.
        parts.uri = with_scheme_and_authority(parts.uri, Scheme::HTTP, "localhost")?;
    }
    if !parts.headers.is_empty() {
        remove_connection_fields(&mut parts.headers);
        if let Some(host) = parts.headers.remove(HOST) {
            parts.uri = with_authority(parts.uri, &host)?;
        }
    }
    let declared = match parts.headers.get(CONTENT_LENGTH) {
        Some(value) => Some(parse_length(value)?),
        None => {
            let known = body.size_hint().exact().filter(|_| !body.is_end_stream());
            if let Some(length) = known {
                parts.headers.insert(CONTENT_LENGTH, length.into());
            }
            known
        }
    };
    if let Some(header @ 1..) = declared
        && body.is_end_stream()
    {
        return Err(InvalidRequest::LengthMismatch { header, body: 0 });
    }
    let mut head = Request::new(());
    *head.method_mut() = parts.method;
    *head.uri_mut() = parts.uri;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = parts.headers;
    Ok((head, declared))
}

fn remove_connection_fields(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        // `Connection` names further fields to drop.
        let values = headers.get_all(CONNECTION).into_iter().filter_map(|v| v.to_str().ok());
        let named: Vec<String> = values.flat_map(|v| v.split(',')).map(trimmed).collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

fn trimmed(name: &str) -> String {
    name.trim().to_owned()
}

fn with_scheme_and_authority(
    uri: Uri,
    scheme: Scheme,
    authority: &'static str,
) -> Result<Uri, InvalidRequest> {
    let mut parts = uri.into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::from_static(authority));
    Uri::from_parts(parts).map_err(|_| InvalidUri::NoScheme.into())
}

fn with_authority(uri: Uri, host: &HeaderValue) -> Result<Uri, InvalidRequest> {
    let invalid = |_| InvalidRequest::Host;
    if uri.authority().is_some_and(|a| a.as_str().as_bytes() == host.as_bytes()) {
        return Ok(uri);
    }
    let mut parts = uri.into_parts();
    parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(invalid)?);
    Uri::from_parts(parts).map_err(|_| InvalidUri::NoScheme.into())
}

/// One number; h2 does not check the declared length.
pub(crate) fn parse_length(value: &HeaderValue) -> Result<u64, InvalidRequest> {
    let digits = value.to_str().ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    length.ok_or(InvalidRequest::ContentLength)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::{Frame, SizeHint};

    use super::*;

    /// A body that is only asked for its length.
    struct Sized(u64);

    impl Body for Sized {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }

        fn is_end_stream(&self) -> bool {
            self.0 == 0
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    fn prepared(
        request: http::request::Builder,
        length: u64,
    ) -> Result<(Request<()>, Option<u64>), InvalidRequest> {
        let (parts, ()) = request.uri("http://a/x").body(()).unwrap().into_parts();
        prepare(parts, &Sized(length))
    }

    #[test]
    fn fields_of_an_http1_connection_do_not_go_out() {
        let request = Request::builder()
            .header("connection", "keep-alive, x-hop")
            .header("connection", "x-other")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("x-hop", "1")
            .header("x-other", "1")
            .header("te", "gzip")
            .header("x-kept", "1");
        let (head, _) = prepared(request, 0).unwrap();
        let names: Vec<_> = head.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-kept"]);
    }

    #[test]
    fn host_becomes_the_authority() {
        let (head, _) = prepared(Request::builder().header("host", "b:81"), 0).unwrap();
        assert_eq!(head.uri(), "http://b:81/x");
        assert!(head.headers().is_empty());
        assert!(prepared(Request::builder().header("host", "b/c"), 0).is_err());
    }

    #[test]
    fn a_known_length_is_declared_and_none_for_no_body() {
        let (head, declared) = prepared(Request::builder().method("POST"), 5).unwrap();
        assert_eq!((head.headers()[CONTENT_LENGTH].to_str().unwrap(), declared), ("5", Some(5)));
        let (head, declared) = prepared(Request::builder(), 0).unwrap();
        assert!(head.headers().is_empty() && declared.is_none());
    }

    #[test]
    fn a_length_that_cannot_be_kept_is_refused() {
        for length in ["5", "+0", "", "1,1", "99999999999999999999"] {
            let request = Request::builder().header("content-length", length);
            assert!(prepared(request, 0).is_err(), "{length}");
        }
    }
}
