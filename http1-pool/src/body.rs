//! A response's body, which holds the connection it is read from.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use pool_common::Lease;
use pool_common::exchange::TotalDeadline;

use crate::error::{Error, Stage};
use crate::manager::Manager;

/// The body of a response, read from the connection as it is polled.
///
/// The connection goes back to the pool with the body's last byte (or the last trailer), before
/// that byte is handed over; a body without bytes never holds one. **A body that is neither read
/// nor dropped holds its connection**, which counts against the pool's limits.
///
/// Dropping a body before its end is fine. The part that has arrived already is skipped at once. If
/// more is to come, and a runtime is there, a task reads on for at most
/// [`drain_bytes`](crate::Limits::drain_bytes) and [`drain_time`](crate::Limits::drain_time) to
/// save the connection; otherwise the connection is closed. Source: `net/http` 1.27.
///
/// Each frame's data shares memory with the rest of its read (4 to 64 KiB), and header values
/// with the head they came in. To keep a few bytes for long, copy them.
///
/// A body can also be sent: [`Body::empty`], or [`From`] bytes and text.
///
/// # Cancel safety
/// Polling has no state outside the body, so a future that reads a frame may be dropped.
#[derive(Debug, Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    /// Nothing left, and no connection held.
    #[default]
    Over,
    Whole(Bytes),
    Incoming(Incoming),
}

/// A body with more to come. Its drop is where the connection is saved or given up.
struct Incoming {
    lease: Option<Lease<Manager>>,
    total: Option<Box<TotalDeadline>>,
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::default()
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
    pub async fn read_all(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| self.poll_next(cx)).await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
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

    pub(crate) fn incoming(lease: Lease<Manager>, total: Option<Box<TotalDeadline>>) -> Self {
        Self(Inner::Incoming(Incoming { lease: Some(lease), total }))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let incoming = match &mut self.0 {
            Inner::Over => return Poll::Ready(None),
            Inner::Whole(bytes) => {
                let bytes = mem::take(bytes);
                self.0 = Inner::Over;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Inner::Incoming(incoming) => incoming,
        };
        let Some(connection) = &mut incoming.lease else {
            return Poll::Ready(None);
        };
        let over = match &mut incoming.total {
            Some(total) => total.poll(cx),
            None => Poll::Pending,
        };
        let frame = match over {
            Poll::Ready(limit) => {
                let (stage, peer) = (Stage::Body, connection.peer().clone());
                Some(Err(Error::TotalTimeout { stage, limit, peer }))
            }
            Poll::Pending => ready!(connection.poll_body(cx)),
        };
        if connection.is_finished() {
            self.0 = Inner::Over;
        } else if matches!(frame, Some(Err(_))) {
            // Where the next message starts is unknown, so there is nothing to save.
            if let Some(connection) = incoming.lease.take() {
                connection.discard();
            }
            self.0 = Inner::Over;
        }
        Poll::Ready(frame)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.get_mut().poll_next(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Over => true,
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Incoming(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Over => SizeHint::with_exact(0),
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(incoming) => incoming
                .lease
                .as_ref()
                .and_then(|connection| connection.body_left())
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(mut connection) = self.lease.take() else {
            return;
        };
        if connection.is_finished() || std::thread::panicking() || !connection.skip_buffered() {
            return;
        }
        // If the runtime does not end this task, the pool does: its connection counts against the limits.
        let limit = connection.drain_time();
        connection.finish_with(limit, |mut connection| async move { connection.drain().await });
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over => f.write_str("Over"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Incoming(incoming) => f.debug_tuple("Incoming").field(&incoming.lease).finish(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Whole(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Error};

    /// What frameworks ask of a body and a client.
    #[test]
    fn bodies_and_clients_can_go_anywhere() {
        fn anywhere<T: Send + Sync + Unpin + 'static>() {}
        anywhere::<Body>();
        anywhere::<Client>();
        anywhere::<Error>();
    }

    #[tokio::test]
    async fn a_body_of_ones_own_is_read_within_its_limit() {
        assert_eq!(Body::from("abc").read_all(3).await.unwrap(), "abc");
        assert_eq!(Body::empty().read_all(0).await.unwrap(), "");
        let error = Body::from("abc").read_all(2).await.unwrap_err();
        assert!(matches!(error, Error::BodyTooLarge { limit: 2 }));
    }
}
