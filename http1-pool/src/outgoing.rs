//! Outgoing bytes, written with as few system calls as possible.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::buffers;

/// Bodies up to this size are copied behind the head, so that one plain write sends both; larger
/// ones go out from where they are, in a vectored write.
const COPY_LIMIT: usize = 4 * 1024;

/// A head (or a chunk's size line), some body, and what ends it.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    head: Vec<u8>,
    body: Bytes,
    tail: &'static [u8],
    /// Bytes written, of all three together.
    written: usize,
}

impl Outgoing {
    /// The buffer for what goes first.
    pub(crate) fn head(&mut self) -> &mut Vec<u8> {
        if self.head.capacity() == 0 {
            self.head = buffers::take_write();
        }
        &mut self.head
    }

    /// Queues `body` and then `tail` behind the head.
    pub(crate) fn set_body(&mut self, body: Bytes, tail: &'static [u8]) {
        debug_assert!(self.body.is_empty() && self.tail.is_empty());
        if body.len() <= COPY_LIMIT {
            let head = self.head();
            head.extend_from_slice(&body);
            head.extend_from_slice(tail);
        } else {
            self.body = body;
            self.tail = tail;
        }
    }

    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.head.len() + self.body.len() + self.tail.len()
    }

    /// Whether a body can be queued: nothing is waiting, or only a head of which nothing was
    /// written.
    pub(crate) fn takes_more(&self) -> bool {
        self.written == 0 && self.body.is_empty() && self.head.len() <= COPY_LIMIT
    }

    /// Writes some bytes. Ready with their number.
    pub(crate) fn poll_write<W>(
        &mut self,
        mut io: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>
    where
        W: AsyncWrite,
    {
        let written = if self.body.is_empty() {
            ready!(io.as_mut().poll_write(cx, &self.head[self.written..]))?
        } else {
            let mut skip = self.written;
            let slices = [&self.head[..], &self.body[..], self.tail].map(|part| {
                let start = skip.min(part.len());
                skip -= start;
                IoSlice::new(&part[start..])
            });
            ready!(io.as_mut().poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += written;
        if self.is_empty() {
            self.clear();
        }
        Poll::Ready(Ok(written))
    }

    /// Drops the bytes that were not written.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.body = Bytes::new();
        self.tail = b"";
        self.written = 0;
    }

    /// Gives its memory back until it is needed again.
    pub(crate) fn release(&mut self) {
        self.clear();
        buffers::give_write(std::mem::take(&mut self.head));
    }
}
