//! A request body that is a stream: taken from the caller frame by frame, framed, and queued.

use std::fmt;
use std::io::Write;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header;
use http_body::{Body, Frame};

use crate::error::BoxError;
use crate::framing::RequestFraming;
use crate::head::write_field;
use crate::outgoing::Outgoing;

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
}

impl Upload {
    pub(crate) fn new<B>(body: Pin<Box<B>>, first: Option<Frame<Bytes>>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { source: Mutex::new(body), first }
    }

    /// Queues the next frame into `out`, which must be empty apart from a request head. Ready with
    /// `false` once the body and what ends it are queued. `framing` counts down a known length.
    pub(crate) fn poll_queue(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut RequestFraming,
        out: &mut Outgoing,
    ) -> Poll<Result<bool, BoxError>> {
        loop {
            let frame = match self.first.take() {
                Some(frame) => Some(frame),
                None => {
                    let source = match self.source.get_mut() {
                        Ok(source) => source,
                        Err(poisoned) => poisoned.into_inner(),
                    };
                    ready!(source.as_mut().poll_source(cx)).transpose()?
                }
            };
            let Some(frame) = frame else {
                return Poll::Ready(end(framing, None, out).map(|()| false));
            };
            match frame.into_data() {
                // An empty chunk would end the body.
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(queue(framing, data, out).map(|()| true)),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(end(framing, Some(trailers), out).map(|()| false));
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

fn queue(framing: &mut RequestFraming, data: Bytes, out: &mut Outgoing) -> Result<(), BoxError> {
    match framing {
        RequestFraming::Chunked => {
            write!(out.head(), "{:x}\r\n", data.len()).expect("a Vec takes every write");
            out.set_body(data, b"\r\n");
        }
        RequestFraming::Length(left) => {
            *left = left
                .checked_sub(data.len() as u64)
                .ok_or("it is longer than its announced length")?;
            out.set_body(data, b"");
        }
        RequestFraming::None => return Err("it has bytes, and announced to have none".into()),
    }
    Ok(())
}

fn end(
    framing: &RequestFraming,
    trailers: Option<HeaderMap>,
    out: &mut Outgoing,
) -> Result<(), BoxError> {
    match framing {
        RequestFraming::Length(1..) => Err("it is shorter than its announced length".into()),
        RequestFraming::Length(0) | RequestFraming::None => Ok(()),
        RequestFraming::Chunked => {
            let out = out.head();
            out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.iter().flatten() {
                // RFC 9110 section 6.5.1: framing and routing do not belong here.
                if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST].contains(name)
                {
                    return Err(format!("the field {name} is not allowed in trailers").into());
                }
                write_field(out, name, value);
            }
            out.extend_from_slice(b"\r\n");
            Ok(())
        }
    }
}
