//! What a server may send, and why something is refused.

use std::fmt;

/// What a peer may send in one frame. Anything beyond costs the connection, not memory.
///
/// The defaults take every reply a server with default settings produces, except extreme ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How deep aggregates may nest. Default 32, at most [`Limits::DEEPEST`]. The deepest reply of
    /// a stock server (`COMMAND DOCS`) nests less than 10 deep.
    pub max_depth: usize,
    /// The longest simple string, error or big number, in bytes. Default 64 KiB.
    pub max_line: usize,
    /// The longest bulk string, in bytes. Default 512 MiB, which is what a Redis server stores at
    /// most (its `proto-max-bulk-len`).
    pub max_bulk: usize,
    /// How many elements all aggregates of one frame may have together. Default 1,048,576, which is
    /// the limit a Redis server sets for requests. Decoding takes up to about 300 bytes for an
    /// element of a set, a decoded value 40 bytes and the strings of the frame.
    pub max_elements: usize,
    /// The longest frame, in bytes. Default 512 MiB and 64 KiB, so that the longest bulk string
    /// fits.
    pub max_frame: usize,
}

impl Limits {
    /// The largest allowed `max_depth`: 64. The decoder recurses once for each level and takes up
    /// to 20 KiB of stack for one in a debug build (measured in November 2026: 128 levels overrun
    /// the 2 MiB of a worker thread, 100 do not).
    pub const DEEPEST: usize = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 32,
            max_line: 64 * 1024,
            max_bulk: 512 * 1024 * 1024,
            max_elements: 1024 * 1024,
            max_frame: 512 * 1024 * 1024 + 64 * 1024,
        }
    }
}

/// Why bytes of a peer are not a frame we accept. The connection they came from is of no further
/// use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanError {
    /// The first byte of a frame names no type of RESP2 or RESP3.
    UnknownType(u8),
    /// A length is not a plain decimal number (or the `-1` of a null), or does not fit.
    BadLength,
    /// A line does not end in CRLF, or holds a CR or LF of its own.
    BadLineEnd,
    /// An integer, double, boolean, null, big number or verbatim string is written in a way we do
    /// not accept.
    BadScalar(u8),
    /// A streamed (`?`) string or aggregate, or a piece of one. No known server sends them.
    Streamed,
    /// A push inside another frame, or an attribute that is followed by another attribute. (Redis 7
    /// puts pushes into the reply of `EXEC` when a transaction subscribes with RESP3, more of them
    /// than the array announces.)
    Misplaced(u8),
    /// A RESP2 null (`$-1`, `*-1`) inside a frame that uses RESP3 types.
    MixedNull,
    /// More levels than [`Limits::max_depth`].
    TooDeep,
    /// A longer line than [`Limits::max_line`].
    LineTooLong,
    /// A longer bulk string than [`Limits::max_bulk`].
    BulkTooLong,
    /// More elements than [`Limits::max_elements`].
    TooManyElements,
    /// A longer frame than [`Limits::max_frame`].
    FrameTooLong,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => write!(f, "unknown frame type {:?}", char::from(*byte)),
            Self::BadLength => f.write_str("malformed length"),
            Self::BadLineEnd => f.write_str("line does not end in CRLF"),
            Self::BadScalar(byte) => write!(f, "malformed value of type {:?}", char::from(*byte)),
            Self::Streamed => f.write_str("streamed frames are not supported"),
            Self::Misplaced(byte) => {
                write!(f, "frame type {:?} in a wrong place", char::from(*byte))
            }
            Self::MixedNull => f.write_str("RESP2 null inside a RESP3 frame"),
            Self::TooDeep => f.write_str("nested deeper than max_depth"),
            Self::LineTooLong => f.write_str("line longer than max_line"),
            Self::BulkTooLong => f.write_str("bulk string longer than max_bulk"),
            Self::TooManyElements => f.write_str("more elements than max_elements"),
            Self::FrameTooLong => f.write_str("frame longer than max_frame"),
        }
    }
}

impl std::error::Error for ScanError {}
