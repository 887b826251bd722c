//! A request body that is a stream: taken from the caller frame by frame, framed, and queued.
//!
//! Its framing is part of it, so that the head that announces it and the bytes that follow cannot
//! disagree.

use std::fmt;
use std::io::Write;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use http_body::{Body, Frame};

use crate::error::BoxError;
use crate::framing::RequestFraming;
use crate::outgoing::Outgoing;
use crate::write::write_field;

/// A body that has more bytes than it said.
pub(crate) const LONGER: &str = "it is longer than its announced length";
/// A body that has fewer.
pub(crate) const SHORTER: &str = "it is shorter than its announced length";

/// RFC 9110 section 6.5.1: framing, routing and the connection's own matters do not belong there.
const NOT_IN_TRAILERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A body of any type, with its error made one type.
trait Source: Send {
    fn poll_source(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>;
}

impl<B> Source for B
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    fn poll_source(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
}

/// What is left of a streamed request body.
pub(crate) struct Upload {
    /// In a mutex only to be `Sync` whatever the caller's body is; it is never locked.
    source: Mutex<Pin<Box<dyn Source>>>,
    /// A frame taken out already.
    first: Option<Frame<Bytes>>,
    /// Bytes to come, where the length is known. Without one the body goes out in chunks.
    left: Option<u64>,
}

impl Upload {
    /// `length` is what the body announces.
    pub(crate) fn new<B>(
        body: Pin<Box<B>>,
        first: Option<Frame<Bytes>>,
        length: Option<u64>,
    ) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { source: Mutex::new(body), first, left: length }
    }

    /// How it is framed from here on.
    pub(crate) fn framing(&self) -> RequestFraming {
        self.left.map_or(RequestFraming::Chunked, RequestFraming::Length)
    }

    /// Holds it to the caller's `Content-Length`, where the body itself announces none.
    pub(crate) fn announce(&mut self, length: u64) {
        self.left.get_or_insert(length);
    }

    /// Queues the next frame into `out`, which must be empty apart from a request head. Ready with
    /// `false` once the body and what ends it are queued.
    ///
    /// A known length is the end once it is reached, whether or not the stream has ended: the peer
    /// has all it was told to expect. A stream that has more at that moment is an error.
    pub(crate) fn poll_queue(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
    ) -> Poll<Result<bool, BoxError>> {
        loop {
            if self.left == Some(0) {
                return Poll::Ready(self.check_excess(cx).map(|()| false));
            }
            let Some(frame) = ready!(self.poll_next(cx)).transpose()? else {
                return Poll::Ready(self.end(None, out).map(|()| false));
            };
            match frame.into_data() {
                // An empty chunk would end the body.
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.queue(data, out)?;
                    if self.left != Some(0) {
                        return Poll::Ready(Ok(true));
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(self.end(Some(trailers), out).map(|()| false));
                    }
                }
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let source = match self.source.get_mut() {
            Ok(source) => source,
            Err(poisoned) => poisoned.into_inner(),
        };
        source.as_mut().poll_source(cx)
    }

    /// Polls once for bytes beyond the announced length, without waiting.
    fn check_excess(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        match self.poll_next(cx) {
            Poll::Ready(Some(Err(error))) => Err(error),
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|it| !it.is_empty()) => {
                Err(LONGER.into())
            }
            _ => Ok(()),
        }
    }

    fn queue(&mut self, data: Bytes, out: &mut Outgoing) -> Result<(), BoxError> {
        match &mut self.left {
            None => {
                write!(out.head(), "{:x}\r\n", data.len()).expect("a Vec takes every write");
                out.set_body(data, b"\r\n");
            }
            Some(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(LONGER)?;
                out.set_body(data, b"");
            }
        }
        Ok(())
    }

    /// The stream is over. Trailers have a place after chunks only.
    fn end(&self, trailers: Option<HeaderMap>, out: &mut Outgoing) -> Result<(), BoxError> {
        match self.left {
            Some(1..) => return Err(SHORTER.into()),
            Some(0) => return Ok(()),
            None => {}
        }
        let out = out.head();
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().flatten() {
            if NOT_IN_TRAILERS.contains(name) {
                return Err(format!("the field {name} is not allowed in trailers").into());
            }
            write_field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}
