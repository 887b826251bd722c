//! Sends the request body under flow control, and keeps it for another attempt.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;

use crate::error::LengthMismatch;

/// Error of a request body, of any type.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request body that remembers its pieces, as long as little of it was sent, to give them again.
pub(crate) struct Source<B> {
    body: Pin<Box<B>>,
    declared: Option<u64>,
    produced: u64,
    ended: bool,
    record: Record,
    /// How much of the record has been given again.
    replayed: usize,
}

/// The pieces that a body gave so far.
#[derive(Default)]
struct Record {
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Too much was sent to keep it.
    spent: bool,
    /// How many bytes may be sent before that.
    limit: u64,
}

/// The next piece of a body.
enum Piece {
    Data { data: Bytes, last: bool },
    Trailers(HeaderMap),
    End,
}

impl<B> Source<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    /// `declared` is the value of content-length, which the body has to keep; `limit` is how many
    /// bytes may be sent before the body is no longer remembered.
    pub(crate) fn new(body: B, declared: Option<u64>, limit: usize) -> Self {
        Self {
            body: Box::pin(body),
            declared,
            produced: 0,
            ended: false,
            record: Record { limit: limit as u64, ..Record::default() },
            replayed: 0,
        }
    }

    /// Whether the body can be sent from its beginning.
    pub(crate) fn is_replayable(&self) -> bool {
        !self.record.spent
    }

    /// Records how much has been handed over in this attempt. Data that was taken from the body and not
    /// sent, for instance one large chunk, costs no extra memory.
    fn note_sent(&mut self, bytes: u64) {
        if bytes > self.record.limit && !self.record.spent {
            self.record.spent = true;
            // The limit is passed in the last chunk at the earliest: of those before it less was
            // sent in an earlier attempt, or this is the first.
            self.record.chunks.clear();
            self.replayed = 0;
        }
    }

    /// Starts over. Only if it [is replayable](Self::is_replayable).
    pub(crate) fn rewind(&mut self) {
        self.replayed = 0;
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        if let Some(piece) = self.replay() {
            return Poll::Ready(Ok(piece));
        }
        loop {
            let Some(frame) = ready!(self.body.as_mut().poll_frame(cx)) else {
                self.end()?;
                return Poll::Ready(Ok(Piece::End));
            };
            match frame.map_err(Into::into)?.into_data() {
                // An empty frame costs the peer work and tells it nothing.
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(self.give(data)),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.end()?;
                        if !self.record.spent {
                            self.record.trailers = Some(trailers.clone());
                        }
                        return Poll::Ready(Ok(Piece::Trailers(trailers)));
                    }
                }
            }
        }
    }

    /// The next remembered piece; `None` when the body itself has to say what comes next.
    fn replay(&mut self) -> Option<Piece> {
        let Some(data) = self.record.chunks.get(self.replayed) else {
            let end = || match &self.record.trailers {
                Some(trailers) => Piece::Trailers(trailers.clone()),
                None => Piece::End,
            };
            return self.ended.then(end);
        };
        self.replayed += 1;
        Some(Piece::Data { data: data.clone(), last: false })
    }

    fn give(&mut self, data: Bytes) -> Result<Piece, BodyError> {
        self.produced += data.len() as u64;
        if let Some(declared) = self.declared.filter(|&d| self.produced > d) {
            return Err(self.mismatch(declared).into());
        }
        if !self.record.spent {
            self.record.chunks.push(data.clone());
            self.replayed = self.record.chunks.len();
        }
        let last = self.body.is_end_stream();
        if last {
            self.end()?;
        }
        Ok(Piece::Data { data, last })
    }

    fn end(&mut self) -> Result<(), BodyError> {
        self.ended = true;
        match self.declared {
            Some(declared) if declared != self.produced => Err(self.mismatch(declared).into()),
            _ => Ok(()),
        }
    }

    fn mismatch(&self, declared: u64) -> LengthMismatch {
        LengthMismatch { declared, sent: self.produced, longer: self.produced > declared }
    }
}

/// One attempt to send a body on one stream.
pub(crate) struct Upload<B> {
    source: Source<B>,
    out: Out,
    chunk: Bytes,
    chunk_is_last: bool,
    waits_for_peer: bool,
    sent: u64,
}

/// The sending half of a stream. Without an end the peer must not take what it got for the whole,
/// so an unfinished one is reset on drop.
struct Out {
    stream: SendStream<Bytes>,
    finished: bool,
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.finished {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

/// Why the body was not sent to its end.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The body itself failed.
    Body(BodyError),
    /// The stream takes no more. The response shows whether that is an error.
    Stream,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    pub(crate) fn new(mut source: Source<B>, stream: SendStream<Bytes>) -> Self {
        source.rewind();
        Self {
            source,
            out: Out { stream, finished: false },
            chunk: Bytes::new(),
            chunk_is_last: false,
            waits_for_peer: false,
            sent: 0,
        }
    }

    /// Gives the body back, for another attempt.
    pub(crate) fn into_source(self) -> Source<B> {
        self.source
    }

    /// After a pending poll: whether it waits for the peer, and not for the body.
    pub(crate) fn waits_for_peer(&self) -> bool {
        self.waits_for_peer
    }

    /// Bytes handed over so far; shows whether there is progress.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Moves the body along. Ready when its last frame was handed to h2, or when it has failed,
    /// which for [`Stopped::Body`] resets the stream.
    ///
    /// # Cancel safety
    /// Data that was taken from the body is kept here until it is sent.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let result = ready!(self.poll_frames(cx));
        self.out.finished = !matches!(result, Err(Stopped::Body(_)));
        Poll::Ready(result)
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            while !self.chunk.is_empty() {
                ready!(self.poll_chunk(cx))?;
            }
            if self.chunk_is_last {
                return Poll::Ready(Ok(()));
            }
            self.waits_for_peer = false;
            let stream = &mut self.out.stream;
            let sent = match self.source.poll_piece(cx) {
                Poll::Ready(Ok(Piece::Data { data, last })) => {
                    self.chunk = data;
                    self.chunk_is_last = last;
                    continue;
                }
                Poll::Ready(Ok(Piece::Trailers(trailers))) => stream.send_trailers(trailers),
                Poll::Ready(Ok(Piece::End)) => stream.send_data(Bytes::new(), true),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Stopped::Body(error))),
                // Nothing to send, but the peer may end the stream meanwhile.
                Poll::Pending => {
                    return stream.poll_reset(cx).map(|_| Err(Stopped::Stream));
                }
            };
            return Poll::Ready(sent.map_err(|_| Stopped::Stream));
        }
    }

    /// Hands over as much of the chunk as flow control allows.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let stream = &mut self.out.stream;
        stream.reserve_capacity(self.chunk.len());
        let mut room = stream.capacity();
        if room == 0 {
            self.waits_for_peer = true;
            room = match ready!(stream.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Poll::Ready(Err(Stopped::Stream)),
            };
        }
        let part = self.chunk.split_to(room.min(self.chunk.len()));
        self.sent += part.len() as u64;
        self.source.note_sent(self.sent);
        let end = self.chunk_is_last && self.chunk.is_empty();
        let sent = stream.send_data(part, end);
        Poll::Ready(sent.map_err(|_| Stopped::Stream))
    }
}
