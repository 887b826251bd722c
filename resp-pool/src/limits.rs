//! The limits of what a server may send, and the reasons for a refusal.

use std::fmt;

/// The limits of one frame. A frame beyond them ends the connection, and takes no memory.
///
/// The defaults take every reply a server with default settings produces, except extreme ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep aggregates may nest. Default 32, at most [`Limits::DEEPEST`]. The deepest reply of
    /// a stock server (`COMMAND DOCS`) nests less than 10 deep.
    pub max_depth: usize,
    /// The longest simple string, error or big number, in bytes. Default 16 MiB.
    pub max_line: usize,
    /// The longest bulk string, in bytes. Default 512 MiB, which is what a Redis server stores at
    /// most (its `proto-max-bulk-len`).
    pub max_bulk: usize,
    /// Most memory that decoding one frame may take beside its bytes, in bytes. Default 1 GiB, which
    /// takes lists of 3.3 million elements and sets of 2 million.
    ///
    /// It is counted by elements: [`LIST_ELEMENT`](Self::LIST_ELEMENT) bytes for one of an array,
    /// [`SET_ELEMENT`](Self::SET_ELEMENT) for one of a set, and for each key and each value of a map.
    /// The text of an error is copied and counts for three times its length, of which at most
    /// [`ServerError::KEPT`](crate::ServerError::KEPT) bytes are taken.
    /// That is never less than what decoding takes at its peak; a list of integers takes a third of it
    /// in RESP2 (`cargo test -p resp-pool --test it memory -- --nocapture`).
    pub max_memory: usize,
    /// The longest frame, in bytes. Default 512 MiB and 64 KiB, so that the longest bulk string
    /// fits.
    pub max_frame: usize,
}

impl Limits {
    /// The largest allowed `max_depth`: 64. The decoder recurses once for each level and takes up
    /// to 20 KiB of stack for one in a debug build (measured in November 2026: 128 levels overrun
    /// the 2 MiB of a worker thread, 100 do not).
    pub const DEEPEST: usize = 64;

    /// What an element of an array or a push counts for, in bytes, against
    /// [`max_memory`](Self::max_memory).
    pub const LIST_ELEMENT: usize = 320;

    /// What an element of a set, and a key or value of a map, counts for, in bytes.
    pub const SET_ELEMENT: usize = 512;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 32,
            max_line: 16 * 1024 * 1024,
            max_bulk: 512 * 1024 * 1024,
            max_memory: 1024 * 1024 * 1024,
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
    /// A line does not end in CRLF, or has a CR or LF inside.
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
    /// More levels than [`Limits::max_depth`], which is this.
    TooDeep(usize),
    /// A longer line than [`Limits::max_line`], which is this.
    LineTooLong(usize),
    /// A longer bulk string than [`Limits::max_bulk`], which is this.
    BulkTooLong(usize),
    /// More elements, or longer errors among them, than fit in [`Limits::max_memory`], which is this.
    TooManyElements(usize),
    /// A longer frame than [`Limits::max_frame`], which is this.
    FrameTooLong(usize),
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => write!(
                f,
                "the peer does not speak RESP (another service, or TLS, at this port?): unknown frame \
                 type {:?}",
                char::from(*byte)
            ),
            Self::BadLength => f.write_str("malformed length"),
            Self::BadLineEnd => f.write_str("line does not end in CRLF"),
            Self::BadScalar(byte) => write!(f, "malformed value of type {:?}", char::from(*byte)),
            Self::Streamed => f.write_str("streamed frames are not supported"),
            Self::Misplaced(byte) => {
                write!(f, "frame type {:?} in a wrong place", char::from(*byte))
            }
            Self::MixedNull => f.write_str("RESP2 null inside a RESP3 frame"),
            Self::TooDeep(limit) => write!(f, "the reply is nested too deep (max_depth = {limit})"),
            Self::LineTooLong(limit) => {
                write!(f, "the reply holds a line that is too long (max_line = {limit} bytes)")
            }
            Self::BulkTooLong(limit) => {
                write!(f, "the reply holds a string that is too long (max_bulk = {limit} bytes)")
            }
            Self::TooManyElements(limit) => {
                write!(
                    f,
                    "the reply has too many elements, or too long errors (max_memory = {limit} bytes)"
                )
            }
            Self::FrameTooLong(limit) => {
                write!(f, "the reply is too long (max_frame = {limit} bytes)")
            }
        }
    }
}

impl std::error::Error for ScanError {}
