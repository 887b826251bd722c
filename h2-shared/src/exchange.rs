//! One request on its stream, until the response head has arrived.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, StreamId};
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use pool_common::exchange::TotalDeadline;
use tokio::time::Sleep;

use crate::body::Body;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::Error;
use crate::head::parse_length;
use crate::patience::{Patience, poll_sleep};
use crate::slot::Slot;
use crate::transport::EndWatch;
use crate::upload::{BodyError, Stopped, Upload};

/// A stream that was opened: the response is awaited while the request body goes out.
pub(crate) struct Exchange<B> {
    response: ResponseFuture,
    pub(crate) upload: Option<Upload<B>>,
    /// The body has not been sent to its end.
    sending: bool,
    /// Tells whether the response has ended, as long as the request was not sent completely.
    end: Option<EndWatch>,
}

/// Why there is no response.
pub(crate) enum Unanswered {
    /// The stream failed.
    Stream(h2::Error),
    /// This side gave up.
    Here(Error),
}

impl<B> Exchange<B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    pub(crate) fn new(
        response: ResponseFuture,
        upload: Option<Upload<B>>,
        connection: &Connection,
    ) -> Self {
        let end = upload.as_ref().map(|_| connection.watch_end(response.stream_id()));
        Self { response, sending: upload.is_some(), upload, end }
    }

    pub(crate) fn stream_id(&self) -> StreamId {
        self.response.stream_id()
    }

    /// `timer` is where the timeout lives; empty at first.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: Pin<&mut Option<Sleep>>,
        slot: &mut Slot,
    ) -> Poll<Result<Response<RecvStream>, Unanswered>> {
        let (connection, patience) = slot.parts();
        let mut waits_for_peer = true;
        if self.sending
            && let Some(upload) = &mut self.upload
        {
            match upload.poll(cx) {
                Poll::Ready(Ok(())) => (self.sending, self.end) = (false, None),
                // If the stream takes no more data, the response shows why.
                Poll::Ready(Err(Stopped::Stream)) => self.sending = false,
                Poll::Ready(Err(Stopped::Body(error))) => {
                    patience.stop();
                    let error = Error::RequestBody(error);
                    return Poll::Ready(Err(Unanswered::Here(error)));
                }
                Poll::Pending => waits_for_peer = upload.waits_for_peer(),
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut self.response).poll(cx) {
            patience.stop();
            return Poll::Ready(result.map_err(Unanswered::Stream));
        }
        if !waits_for_peer {
            patience.stop();
            return Poll::Pending;
        }
        // Also after the end of the body: if the number became 0, the clock would start again.
        let progress = self.upload.as_ref().map_or(0, Upload::sent);
        let mut timer = timer;
        let poll_at = |cx: &mut Context<'_>, at| poll_sleep(timer.as_mut(), cx, at);
        let limit = ready!(patience.poll(cx, poll_at, progress, connection));
        patience.expire(connection);
        Poll::Ready(Err(Unanswered::Here(Error::ResponseTimeout(limit))))
    }

    /// The response for the caller. A task sends the rest of the request body. `no_content`: the
    /// content-length is not that of this response's body (HEAD).
    pub(crate) fn into_response(
        self,
        response: Response<RecvStream>,
        no_content: bool,
        slot: Slot,
        config: &Config,
        total: Option<Box<TotalDeadline>>,
    ) -> Response<Body> {
        let no_content = no_content || response.status() == StatusCode::NOT_MODIFIED;
        let length = response.headers().get(CONTENT_LENGTH).filter(|_| !no_content);
        let length = length.and_then(|value| parse_length(value).ok());
        let (timeout, end) = (config.body_timeout, self.end);
        match self.upload.filter(|_| self.sending) {
            None => response.map(|stream| Body::new(stream, slot, end, length, timeout, total)),
            Some(upload) => {
                let slot = Arc::new(slot);
                let patience = Patience::new(config.response_timeout);
                let task = tokio::spawn(finish(upload, patience, Arc::clone(&slot)));
                let abort = task.abort_handle();
                response.map(|stream| {
                    Body::with_upload(stream, slot, abort, end, length, timeout, total)
                })
            }
        }
    }
}

/// Sends the rest of a request body whose response is being read already. Any failure resets the stream,
/// and the reader sees the reset.
async fn finish<B>(mut upload: Upload<B>, mut patience: Patience, slot: Arc<Slot>)
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    let mut timer = pin!(None);
    poll_fn(|cx| {
        if upload.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !upload.waits_for_peer() {
            patience.stop();
            return Poll::Pending;
        }
        let poll_at = |cx: &mut Context<'_>, at| poll_sleep(timer.as_mut(), cx, at);
        let elapsed = patience.poll(cx, poll_at, upload.sent(), slot.connection());
        elapsed.map(|_| {
            tracing::debug!("the peer takes no more of the request body");
            patience.expire(slot.connection());
        })
    })
    .await;
    // The stream's half ends before the slot is free.
    drop(upload);
    drop(slot);
}
