//! The response body. The peer gets flow-control room back as the body is read, and the body holds the
//! stream's slot to its end.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http_body::{Body as _, Frame, SizeHint};
use pool_common::deadline::Deadline;
use pool_common::exchange::TotalDeadline;
use pool_common::retry::Fate;
use tokio::task::AbortHandle;

use crate::connection::Connection;
use crate::error::{Closed, Error};
use crate::patience::Patience;
use crate::slot::Slot;
use crate::transport::EndWatch;

/// Body of a response, read as the peer sends it.
///
/// [`read_all`](Body::read_all) reads it to its end. It is an [`http_body::Body`]: use
/// `http_body_util::BodyExt` to take it frame by frame; trailers are its last frame. Bytes that have been read are given back to the peer's flow
/// control at once, so the peer stops sending when the reader stops reading.
///
/// The stream's slot in the connection is held until the body has ended. Dropping the body earlier
/// resets the stream (CANCEL); the connection and its other streams go on.
///
/// # Errors
/// [`Error::Reset`], [`Error::ConnectionLost`], [`Error::BodyTimeout`], or [`Error::TotalTimeout`]; after any of them the
/// body has ended. A body that does not have the length its content-length says is a reset with
/// PROTOCOL_ERROR. A body is complete only when the peer has ended its stream (END_STREAM): bytes
/// enough for the content-length, and then a reset or the end of the connection, are an error.
///
/// # Cancel safety
/// Not reading for a while loses nothing.
#[derive(Default)]
pub struct Body {
    open: Option<Open>,
    /// The timer of the patience.
    silence: Deadline,
    /// The limit on the whole exchange, while the body is open.
    total: Option<Box<TotalDeadline>>,
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
    /// Of a request that was not sent completely.
    end: Option<EndWatch>,
    patience: Patience,
    slot: Hold,
}

/// The slot is given back when its last holder drops it.
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
            Hold::WithUpload(slot) => slot.connection().cause_so_far(),
        }
    }
}

impl Hold {
    fn connection(&self) -> &Connection {
        match self {
            Self::Alone(slot) => slot.connection(),
            Self::WithUpload(slot) => slot.connection(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.patience.abandon(self.slot.connection());
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}

impl Body {
    /// The body that follows a response head with this content-length. `end` is given if the request
    /// was not sent completely.
    pub(crate) fn new(
        stream: RecvStream,
        slot: Slot,
        end: Option<EndWatch>,
        length: Option<u64>,
        timeout: Option<Duration>,
        total: Option<Box<TotalDeadline>>,
    ) -> Self {
        if stream.is_end_stream() {
            // Both directions are done: the slot is free before the caller has the response.
            return Self::default();
        }
        let (patience, slot) = (Patience::new(timeout), Hold::Alone(slot));
        let open = Open { stream, upload: None, end, patience, slot };
        Self { open: Some(open), total, remaining: length, ..Self::default() }
    }

    /// The same while a separate task still sends the request body. That task ends when this body is
    /// dropped or has ended: then the peer has sent its whole response.
    pub(crate) fn with_upload(
        stream: RecvStream,
        slot: Arc<Slot>,
        upload: AbortHandle,
        end: Option<EndWatch>,
        length: Option<u64>,
        timeout: Option<Duration>,
        total: Option<Box<TotalDeadline>>,
    ) -> Self {
        let (patience, slot) = (Patience::new(timeout), Hold::WithUpload(slot));
        let open = Open { stream, upload: Some(upload), end, patience, slot };
        Self { open: Some(open), total, remaining: length, ..Self::default() }
    }

    /// Reads the rest of the body, trailers excluded, if it has at most `limit` bytes.
    ///
    /// A body that arrived in one piece is handed over without a copy.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`] as soon as there are more than `limit`; whatever ends the body early.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body.
    ///
    /// ```
    /// # async fn example(addr: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = http::Request::get(format!("http://{addr}/")).body(h2_shared::Body::default())?;
    /// let response = h2_shared::Client::new().request(request).await?;
    /// let text = response.into_body().read_all(1 << 20).await?;
    /// # assert_eq!(text, "hello\n");
    /// # Ok(())
    /// # }
    /// # let server = pool_common::testing::servers::NghttpdServer::start(&[]);
    /// # let runtime = tokio::runtime::Runtime::new().unwrap();
    /// # runtime.block_on(example(server.addr())).unwrap();
    /// ```
    pub async fn read_all(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.len() + all.len() + data.len() > limit {
                return Err(Error::BodyTooLarge { limit });
            }
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                all.extend_from_slice(&mem::take(&mut first));
                all.extend_from_slice(&data);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// The next frame of the stream. Does not check the timer.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while !self.trailers {
            let Some(open) = &mut self.open else { return Poll::Ready(None) };
            match ready!(open.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let empty = data.is_empty();
                    let frame = self.take(data);
                    // An empty frame usually carries END_STREAM. h2 bounds the number of those without it.
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
                let bad = trailers.is_some() && {
                    let stream = open.stream.stream_id();
                    open.slot.connection().has_bad_trailers(stream)
                };
                self.open = None;
                if bad {
                    let fault = "the trailers have pseudo-header fields";
                    return Poll::Ready(Some(Err(Error::bad_response(fault))));
                }
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => Poll::Ready(self.fail(error)),
        }
    }

    fn take(&mut self, data: Bytes) -> Frame<Bytes> {
        if let Some(remaining) = &mut self.remaining {
            // h2 compares the lengths; this is a hint for the caller.
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        if let Some(open) = &mut self.open {
            open.patience.stop();
            if open.stream.is_end_stream() {
                // The end of the stream gives its room back. The slot is free before the caller sees the data.
                self.open = None;
            } else {
                let released = open.stream.flow_control().release_capacity(data.len());
                released.expect("exactly what was received is given back");
            }
        }
        Frame::data(data)
    }

    /// The stream has failed. If all frames to its end had come before, the response is complete: h2
    /// forgets that when the connection fails before the request was sent completely.
    fn fail(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, Error>> {
        let mut open = self.open.take()?;
        open.patience.stop();
        // After an error of the socket h2 has handled all that was read before.
        let ended = open.end.as_ref().is_some_and(EndWatch::has_ended);
        if error.is_io() && ended && self.remaining.is_none_or(|remaining| remaining == 0) {
            return None;
        }
        let closed = open.note(&error);
        Some(Err(Error::from_response(error, closed)))
    }

    /// Whether the peer has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(open) = &mut self.open else { return Poll::Pending };
        let silence = &mut self.silence;
        open.patience.poll(cx, |cx, at| silence.poll_at(cx, at), 0, open.slot.connection())
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
        if let Some(total) = &mut me.total
            && me.open.is_some()
            && let Poll::Ready(limit) = total.poll(cx)
        {
            me.open = None;
            let fate = Fate::Answered;
            return Poll::Ready(Some(Err(Error::TotalTimeout { limit, fate })));
        }
        if let Poll::Ready(frame) = me.poll_stream(cx) {
            return Poll::Ready(frame);
        }
        let limit = ready!(me.poll_silence(cx));
        if let Some(mut open) = me.open.take() {
            open.patience.expire(open.slot.connection());
        }
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
