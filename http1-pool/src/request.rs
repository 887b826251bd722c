//! A request, checked and ready to be written, before anything is dialed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Uri, Version};
use http_body::{Body, Frame};
use pool_common::connect::Connector;

use crate::error::{BoxError, Error, InvalidRequest};
use crate::framing::{self, RequestFraming};
use crate::key::{Key, Scheme};
use crate::upload::{LONGER, SHORTER, Upload};

/// The caller's body, as far as one look at it tells.
///
/// Its framing follows from it and is kept nowhere else, so a head cannot announce what is not
/// sent.
pub(crate) enum Payload {
    /// No body, and no header about it.
    None,
    /// All of it, in memory: it can be sent again. May be empty; then a length of 0 is sent.
    Whole(Bytes),
    /// A stream: it can be sent once.
    Stream(Box<Upload>),
    /// A stream that was taken.
    Spent,
}

impl Payload {
    /// Whether it is still there to be sent.
    pub(crate) fn is_replayable(&self) -> bool {
        !matches!(self, Self::Spent)
    }

    /// How it is sent.
    pub(crate) fn framing(&self) -> RequestFraming {
        match self {
            Self::None | Self::Spent => RequestFraming::None,
            Self::Whole(bytes) => RequestFraming::Length(bytes.len() as u64),
            Self::Stream(upload) => upload.framing(),
        }
    }

    /// Takes a stream, which leaves the payload spent.
    pub(crate) fn take_stream(&mut self) -> Option<Box<Upload>> {
        if !matches!(self, Self::Stream(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Spent) {
            Self::Stream(upload) => Some(upload),
            _ => None,
        }
    }

    /// Looks at the start of `body`.
    ///
    /// Whatever its type, a body whose first frame is ready at once and is also its last is a
    /// [`Payload::Whole`]. So `Full<Bytes>`, `String` and the like can be replayed without the
    /// caller saying so.
    pub(crate) async fn new<B>(body: B) -> Result<Self, BoxError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Ok(Self::None);
        }
        let length = body.size_hint().exact();
        let mut body = Box::pin(body);
        let first = poll_fn(|cx| Poll::Ready(poll_first(body.as_mut(), cx))).await?;
        let bytes = match &first {
            First::Frame(frame) => frame.data_ref().map_or(0, Bytes::len),
            First::End | First::Later => 0,
        };
        if length.is_some_and(|length| length < bytes as u64) {
            return Err(LONGER.into());
        }
        match first {
            // Nothing may follow but trailers, which have no place after a known length.
            _ if length == Some(0) => Ok(Self::None),
            First::End if length.is_some() => Err(SHORTER.into()),
            First::End => Ok(Self::None),
            First::Frame(frame) if body.is_end_stream() && frame.is_data() => {
                if length.is_some_and(|length| length != bytes as u64) {
                    return Err(SHORTER.into());
                }
                let data = frame.into_data().unwrap_or_default();
                Ok(if data.is_empty() { Self::None } else { Self::Whole(data) })
            }
            First::Frame(frame) => {
                Ok(Self::Stream(Box::new(Upload::new(body, Some(frame), length))))
            }
            First::Later => Ok(Self::Stream(Box::new(Upload::new(body, None, length)))),
        }
    }
}

enum First {
    Frame(Frame<Bytes>),
    End,
    Later,
}

fn poll_first<B>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Result<First, BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match body.poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => Ok(First::Frame(frame)),
        Poll::Ready(Some(Err(error))) => Err(error.into()),
        Poll::Ready(None) => Ok(First::End),
        Poll::Pending => Ok(First::Later),
    }
}

/// Everything about a request except the bytes of its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    /// The caller gave a `Host` header.
    pub(crate) has_host: bool,
    /// The URI names a Unix socket, and no host.
    pub(crate) unix: bool,
    /// The connection is not to be used again after this request.
    pub(crate) close: bool,
    /// The caller gave an `Expect` header.
    pub(crate) expects: bool,
    /// The caller asked for another protocol, with `Upgrade` or at least in `Connection`.
    pub(crate) upgrades: bool,
}

impl<'a> RequestHead<'a> {
    /// Checks a request with this body, and decides how the body is framed: by the length that it has or
    /// that the caller gives, otherwise in chunks. Also returns the key of the connection for it, which
    /// leads as `connector` says.
    pub(crate) fn new(
        parts: &'a Parts,
        payload: &mut Payload,
        connector: &Connector,
    ) -> Result<(Self, Key), Error> {
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        if !matches!(*version, Version::HTTP_11 | Version::HTTP_10) {
            return Err(InvalidRequest::Version(*version).into());
        }
        let key = match uri.authority() {
            // The URI of CONNECT is only host and port (RFC 9112 section 3.2.3). If there is a proxy for that host,
            // the proxy gets the request.
            Some(authority) if *method == Method::CONNECT && uri.scheme().is_none() => {
                connector.complete_key(Key::from_authority(authority)?, extensions)
            }
            _ => connector.uri_key(uri, extensions)?,
        };
        let old = *version == Version::HTTP_10;
        let mut head = Self {
            method,
            uri,
            version: *version,
            headers,
            has_host: false,
            unix: key.scheme() == Scheme::HttpUnix,
            close: old,
            expects: false,
            upgrades: false,
        };
        head.read_headers(payload)?;
        let framing = payload.framing();
        if old && framing == RequestFraming::Chunked {
            return Err(InvalidRequest::ChunkedInHttp10.into());
        }
        if *method == Method::CONNECT && framing != RequestFraming::None {
            return Err(InvalidRequest::ConnectWithBody.into());
        }
        Ok((head, key))
    }

    /// One pass over the caller's headers.
    ///
    /// A `Transfer-Encoding` is checked and then ignored: [`Payload::framing`] decides.
    fn read_headers(&mut self, payload: &mut Payload) -> Result<(), InvalidRequest> {
        let (mut has_length, mut chunked, mut asks_upgrade) = (false, false, false);
        for (name, value) in self.headers {
            if *name == header::HOST {
                if self.has_host {
                    return Err(InvalidRequest::SeveralHosts);
                }
                self.has_host = true;
            } else if *name == header::CONNECTION {
                if framing::gives_up_framing(value) {
                    return Err(InvalidRequest::ConnectionOption);
                }
                self.close |= framing::asks_to_close(value);
                asks_upgrade |= framing::asks_to_upgrade(value);
            } else if *name == header::EXPECT {
                self.expects = true;
            } else if *name == header::UPGRADE {
                asks_upgrade = true;
            } else if *name == header::CONTENT_LENGTH {
                has_length = true;
            } else if *name == header::TRANSFER_ENCODING {
                if chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(InvalidRequest::TransferEncoding);
                }
                chunked = true;
            }
        }
        // RFC 9110 section 7.8: a server ignores it in a request of HTTP/1.0.
        self.upgrades = asks_upgrade && self.version == Version::HTTP_11;
        if chunked && has_length {
            return Err(InvalidRequest::LengthAndTransferEncoding);
        }
        if has_length {
            let given = framing::content_length(self.headers)
                .map_err(|_| InvalidRequest::ContentLength)?
                .unwrap_or(0);
            if let Payload::Stream(upload) = payload {
                upload.announce(given);
            }
            match payload.framing() {
                RequestFraming::None if given == 0 => *payload = Payload::Whole(Bytes::new()),
                RequestFraming::Length(body) if given == body => {}
                RequestFraming::Length(body) => {
                    return Err(InvalidRequest::LengthMismatch { header: given, body });
                }
                RequestFraming::None | RequestFraming::Chunked => {
                    return Err(InvalidRequest::LengthMismatch { header: given, body: 0 });
                }
            }
        } else if matches!(payload, Payload::None)
            && matches!(*self.method, Method::POST | Method::PUT | Method::PATCH)
        {
            // RFC 9110 section 8.6: a method that anticipates a body announces an empty one.
            *payload = Payload::Whole(Bytes::new());
        }
        Ok(())
    }

    /// Writes host and port as the caller wrote them. Credentials were refused. A server on a Unix socket
    /// is `localhost`, as for curl.
    pub(crate) fn write_host(&self, out: &mut Vec<u8>) {
        if self.unix {
            out.extend_from_slice(b"localhost");
            return;
        }
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        out.extend_from_slice(authority.strip_suffix(':').unwrap_or(authority).as_bytes());
    }
}
