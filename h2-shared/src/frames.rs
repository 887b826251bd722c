//! Reads the heads of HTTP/2 frames while their bytes pass through the socket.

/// Length of a frame's head, in bytes (RFC 9113, 4.1).
const HEAD: usize = 9;
/// How much of a payload is kept, in bytes: the fixed part of GOAWAY, and as much of its debug data
/// as an error shows.
const KEPT: usize = 8 + 256;
/// What a client sends before its first frame, in bytes (RFC 9113, 3.4).
const PREFACE: usize = 24;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;

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
}

impl Scanner {
    /// For what a server sends.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For what a client sends: frames follow its preface.
    pub(crate) fn after_preface() -> Self {
        Self { left: PREFACE, ..Self::default() }
    }

    /// Takes the next bytes, and tells `tell` what they complete.
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
        if self.left == 0 && self.current.keeps_payload() {
            tell(Found::Payload(self.current, &[]));
        }
    }

    fn pass(&mut self, part: &[u8], tell: &mut impl FnMut(Found<'_>)) {
        self.left -= part.len();
        if !self.current.keeps_payload() {
            return;
        }
        let room = KEPT - self.kept.len();
        self.kept.extend_from_slice(&part[..part.len().min(room)]);
        if self.left == 0 {
            tell(Found::Payload(self.current, &self.kept));
            self.kept.clear();
        }
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
        assert_eq!(whole.len(), 8, "{whole:?}");
        for piece in 1..30 {
            assert_eq!(found(Scanner::new(), &bytes, piece), whole, "pieces of {piece}");
        }
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
