//! Reads the heads of HTTP/2 frames while their bytes pass through the socket.

use std::mem;

/// Length of a frame's head, in bytes (RFC 9113, 4.1).
const HEAD: usize = 9;
/// How much of a payload is kept, in bytes: the fixed part of GOAWAY, and as much of its debug data
/// as an error shows.
const KEPT: usize = 8 + 256;
/// Length of the preface that a client sends before its first frame, in bytes (RFC 9113, 3.4).
const PREFACE: usize = 24;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Bytes of payload.
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// 0 is the connection.
    pub(crate) stream: u32,
}

impl FrameHead {
    fn parse(bytes: [u8; HEAD]) -> Self {
        Self {
            length: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
            kind: bytes[3],
            flags: bytes[4],
            // The highest bit is reserved.
            stream: u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]),
        }
    }

    fn keeps_payload(self) -> bool {
        matches!(self.kind, HEADERS | GOAWAY | WINDOW_UPDATE)
    }
}

/// What a [`Scanner`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A frame begins.
    Head(FrameHead),
    /// A HEADERS, GOAWAY or WINDOW_UPDATE frame is complete; the beginning of its payload.
    Payload(FrameHead, &'a [u8]),
    /// The sender has ended its side of this stream: the frame with END_STREAM is complete, and so
    /// are the CONTINUATION frames that belong to it.
    StreamEnd(u32),
}

/// Follows the frames in a sequence of bytes that arrives in pieces. Bytes that are not HTTP/2 give
/// meaningless frames, no panic and no memory.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    head: [u8; HEAD],
    /// Bytes of the head that have passed.
    filled: usize,
    current: FrameHead,
    /// Bytes of the current payload that have not passed yet.
    left: usize,
    kept: Vec<u8>,
    /// The field block that is passing ends its stream.
    block_ends_stream: bool,
}

impl Scanner {
    /// For the bytes that a server sends.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For the bytes that a client sends: frames follow its preface.
    pub(crate) fn after_preface() -> Self {
        Self { left: PREFACE, ..Self::default() }
    }

    /// Takes the next bytes, and calls `tell` for each part that they complete.
    pub(crate) fn scan(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Found<'_>)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(bytes.len().min(self.left));
                bytes = rest;
                self.pass(part, &mut tell);
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(HEAD - self.filled));
            bytes = rest;
            self.head[self.filled..self.filled + part.len()].copy_from_slice(part);
            self.filled += part.len();
            if self.filled == HEAD {
                self.begin(&mut tell);
            }
        }
    }

    fn begin(&mut self, tell: &mut impl FnMut(Found<'_>)) {
        self.filled = 0;
        self.current = FrameHead::parse(self.head);
        self.left = self.current.length as usize;
        tell(Found::Head(self.current));
        if self.left == 0 {
            self.complete(tell);
        }
    }

    fn pass(&mut self, part: &[u8], tell: &mut impl FnMut(Found<'_>)) {
        self.left -= part.len();
        if self.current.keeps_payload() {
            let room = KEPT - self.kept.len();
            self.kept.extend_from_slice(&part[..part.len().min(room)]);
        }
        if self.left == 0 {
            self.complete(tell);
        }
    }

    fn complete(&mut self, tell: &mut impl FnMut(Found<'_>)) {
        let head = self.current;
        if head.keeps_payload() {
            tell(Found::Payload(head, &self.kept));
            self.kept.clear();
        }
        if self.ends_stream(head) {
            tell(Found::StreamEnd(head.stream));
        }
    }

    /// Whether this frame, now complete, is the last of its stream. A HEADERS frame says
    /// END_STREAM, and the last frame of the same field block says END_HEADERS.
    fn ends_stream(&mut self, head: FrameHead) -> bool {
        let has = |flag| head.flags & flag != 0;
        match head.kind {
            DATA => return has(END_STREAM),
            HEADERS => self.block_ends_stream = has(END_STREAM),
            CONTINUATION => {}
            _ => return false,
        }
        has(END_HEADERS) && mem::take(&mut self.block_ends_stream)
    }
}

/// The first four bytes of a payload as a number: an error code, an increment.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Everything that is found when the bytes come in pieces of this size.
    fn found(mut scanner: Scanner, bytes: &[u8], piece: usize) -> Vec<String> {
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            scanner.scan(piece, |one| found.push(format!("{one:?}")));
        }
        found
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = frame(HEADERS, 4, 1, &[0x88]);
        bytes.extend(frame(DATA, END_STREAM, 1, &[7; 100]));
        bytes.extend(frame(GOAWAY, 0, 0, &[1; 12]));
        bytes.extend(frame(HEADERS, 0, 3, &[]));
        bytes.extend(frame(DATA, 0, 5, &[]));
        let whole = found(Scanner::new(), &bytes, bytes.len());
        assert_eq!(whole.len(), 9, "{whole:?}");
        for piece in 1..30 {
            assert_eq!(found(Scanner::new(), &bytes, piece), whole, "pieces of {piece}");
        }
    }

    /// How many bytes pass before the end of stream 1 is found.
    fn end_found_after(bytes: &[u8]) -> Option<usize> {
        let mut scanner = Scanner::new();
        let mut ended = false;
        bytes.iter().position(|&byte| {
            scanner.scan(&[byte], |one| ended |= one == Found::StreamEnd(1));
            ended
        })
    }

    #[test]
    fn a_stream_ends_with_the_last_byte_of_its_last_frame() {
        let data = frame(DATA, END_STREAM, 1, b"payload");
        let empty = frame(DATA, END_STREAM, 1, &[]);
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88]);
        let mut block = frame(HEADERS, END_STREAM, 1, &[0x88]);
        block.extend(frame(CONTINUATION, 0, 1, b"more"));
        block.extend(frame(CONTINUATION, END_HEADERS, 1, b"last"));
        for bytes in [data, empty, headers, block] {
            assert_eq!(end_found_after(&bytes), Some(bytes.len() - 1), "{bytes:?}");
        }
        let mut goes_on = frame(HEADERS, 0, 1, &[0x88]);
        goes_on.extend(frame(CONTINUATION, END_HEADERS, 1, b"more"));
        goes_on.extend(frame(DATA, 0, 1, b"payload"));
        assert_eq!(end_found_after(&goes_on), None);
    }

    #[test]
    fn frames_of_a_client_follow_its_preface() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &1_000_u32.to_be_bytes()));
        let mut increments = Vec::new();
        Scanner::after_preface().scan(&bytes, |one| {
            if let Found::Payload(head, payload) = one {
                increments.push((head.kind, head.stream, number(payload)));
            }
        });
        assert_eq!(increments, [(WINDOW_UPDATE, 0, Some(1_000))]);
    }

    #[test]
    fn long_debug_data_is_cut() {
        let bytes = frame(GOAWAY, 0, 0, &[b'x'; 16_000]);
        let mut lengths = Vec::new();
        Scanner::new().scan(&bytes, |one| {
            if let Found::Payload(_, payload) = one {
                lengths.push(payload.len());
            }
        });
        assert_eq!(lengths, [KEPT]);
    }
}
