//! The response body: gives room back to the peer as it is read, and holds the stream's slot to the
//! end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};
use pool_common::deadline::Deadline;
use tokio::task::AbortHandle;

use crate::error::{Closed, Error};
use crate::slot::Slot;

/// Body of a response, read as the peer sends it.
///
/// An [`http_body::Body`]: use `http_body_util::BodyExt` to collect it or to take frame by frame;
/// trailers are its last frame. What has been read is given back to the peer's flow control at
/// once, so that a reader who stops makes the peer stop, too.
///
/// The stream's slot in the connection is held until the body has ended. Dropping the body earlier
/// resets the stream (CANCEL); the connection and its other streams go on.
///
/// # Errors
/// [`Error::Reset`], [`Error::ConnectionLost`], or [`Error::BodyTimeout`]; after any of them the
/// body has ended. A body that does not have the length its content-length says is a reset with
/// PROTOCOL_ERROR, never a short success.
///
/// # Cancel safety
/// Not reading for a while loses nothing.
#[derive(Default)]
pub struct Body {
    open: Option<Open>,
    timeout: Option<Duration>,
    silence: Deadline,
    /// Bytes still to come, if the peer declared a length.
    remaining: Option<u64>,
    trailers: bool,
}

/// What an unfinished body holds. Dropped in this order: the stream ends before its slot is given
/// back.
struct Open {
    stream: RecvStream,
    /// The rest of the request body, if the response overtook it.
    upload: Option<AbortHandle>,
    slot: Hold,
}

/// The slot is given back when nobody holds it any more.
enum Hold {
    Alone(Slot),
    WithUpload(Arc<Slot>),
}

impl Open {
    /// See [`Slot::note`]. While an upload shares the slot it is left to the driver to tell the
    /// pool.
    fn note(&mut self, error: &h2::Error) -> Option<Closed> {
        match &mut self.slot {
            Hold::Alone(slot) => slot.note(error),
            Hold::WithUpload(slot) => slot.connection().closed(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}

impl Body {
    /// The body that follows a response head with this content-length.
    pub(crate) fn new(
        stream: RecvStream,
        slot: Slot,
        length: Option<u64>,
        timeout: Option<Duration>,
    ) -> Self {
        if stream.is_end_stream() {
            // Both directions are done: the slot is free before the caller has the response.
            return Self::default();
        }
        Self {
            open: Some(Open { stream, upload: None, slot: Hold::Alone(slot) }),
            timeout,
            silence: Deadline::default(),
            remaining: length,
            trailers: false,
        }
    }

    /// The same while the request body is still on its way in a task of its own, which ends when
    /// this body is dropped or has ended: then the peer has said all it will say.
    pub(crate) fn with_upload(
        stream: RecvStream,
        slot: Arc<Slot>,
        upload: AbortHandle,
        length: Option<u64>,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            open: Some(Open { stream, upload: Some(upload), slot: Hold::WithUpload(slot) }),
            timeout,
            silence: Deadline::default(),
            remaining: length,
            trailers: false,
        }
    }

    /// What the stream has; the timer is not asked.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while !self.trailers {
            let Some(open) = &mut self.open else { return Poll::Ready(None) };
            match ready!(open.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let empty = data.is_empty();
                    let frame = self.take(data);
                    // An empty frame is there for its END_STREAM. h2 bounds how many come without.
                    if !empty {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(self.fail(error)),
                None => self.trailers = true,
            }
        }
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        match ready!(open.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.open = None;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => Poll::Ready(self.fail(error)),
        }
    }

    fn take(&mut self, data: Bytes) -> Frame<Bytes> {
        self.silence.restart();
        if let Some(remaining) = &mut self.remaining {
            // h2 compares the lengths; this is a hint for the caller.
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        if let Some(open) = &mut self.open {
            if open.stream.is_end_stream() {
                // The room goes back with the stream, and the slot before the caller sees the data.
                self.open = None;
            } else {
                let released = open.stream.flow_control().release_capacity(data.len());
                released.expect("exactly what was received is given back");
            }
        }
        Frame::data(data)
    }

    /// The stream has failed. If all of the declared length was here before, the answer wins, as in
    /// `net/http`: h2 forgets the end of a response when its connection fails in the same breath.
    fn fail(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, Error>> {
        let closed = self.open.as_mut().and_then(|open| open.note(&error));
        self.open = None;
        match self.remaining {
            Some(0) => None,
            _ => Some(Err(Error::from_response(error, closed))),
        }
    }

    /// Whether the peer has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let limit = self.timeout;
        self.silence.poll(cx, limit).map(|()| limit.unwrap_or_default())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let me = self.get_mut();
        if let Poll::Ready(frame) = me.poll_stream(cx) {
            return Poll::Ready(frame);
        }
        let limit = ready!(me.poll_silence(cx));
        me.open = None;
        Poll::Ready(Some(Err(Error::BodyTimeout(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.open, self.remaining) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(remaining)) => SizeHint::with_exact(remaining),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("ended", &self.open.is_none())
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}
