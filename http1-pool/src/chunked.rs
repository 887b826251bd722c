//! The chunked transfer coding (RFC 9112 section 7.1), decoded step by step as bytes arrive.
//!
//! Strict on purpose: lines end with CR LF and nothing else, a size has at most 16 hexadecimal
//! digits and fits 64 bits, and what is neither data nor needed to find its end (extensions,
//! padding) is bounded. A decoder that guesses where a chunk ends lets a peer decide what the
//! next response on the connection is.
//!
//! Extensions and padding are counted as a debt, which data pays off: each byte of them adds one,
//! each byte of data that arrived takes one away, and each size line takes [`FREE_PER_CHUNK`] away.
//! A debt above the limit is an error. So a body of any length may carry a short extension on each
//! chunk, or a longer one on each large chunk, and no chunk can carry an endless one.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::config::Limits;
use crate::error::ProtocolError;
use crate::head::{self, BlockScan};

/// Hexadecimal digits of a size, leading zeros included; 16 digits fit 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Bytes of extensions and padding that each chunk may have besides its data, so that each chunk of a
/// stream of tiny chunks can have an extension. A chunk without extensions costs five bytes.
const FREE_PER_CHUNK: usize = 16;

/// The result of one step of decoding.
#[derive(Debug)]
pub(crate) enum Step {
    /// Some bytes of the body; never empty.
    Data(Bytes),
    /// The body is over, and these fields came after it; never empty.
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// More bytes are needed.
    More,
}

/// The position of the decoder in the coding.
#[derive(Debug)]
enum State {
    /// In the digits of a size.
    Size { size: u64, digits: u8 },
    /// Between the size and the CR: padding or extensions.
    Extension { size: u64, named: bool },
    /// After the CR of a size line.
    SizeLineFeed { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// After the data.
    DataReturn,
    /// After the CR that follows the data.
    DataLineFeed,
    /// After the last chunk.
    Trailers(BlockScan),
    /// Over.
    Done,
}

/// The decoder of one chunked body.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: State,
    /// Bytes of extensions and padding that data has not paid off.
    debt: usize,
}

impl ChunkedDecoder {
    pub(crate) fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, debt: 0 }
    }

    /// Takes as many bytes as possible from the front of `buf`.
    ///
    /// After [`Step::Trailers`] or [`Step::End`] the coding is over, and the bytes left in `buf` are
    /// not part of it. After an error the connection's position in the stream is unknown.
    pub(crate) fn decode(
        &mut self,
        buf: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Step, ProtocolError> {
        loop {
            match &mut self.state {
                State::Data { left } => {
                    if buf.is_empty() {
                        return Ok(Step::More);
                    }
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                    *left -= take as u64;
                    // Only data that has arrived counts, not the announced size.
                    self.debt = self.debt.saturating_sub(take);
                    if *left == 0 {
                        self.state = State::DataReturn;
                    }
                    return Ok(Step::Data(buf.split_to(take).freeze()));
                }
                State::Trailers(scan) => {
                    let Some(end) = scan.find_end(buf)? else {
                        if buf.len() > limits.head_bytes {
                            return Err(ProtocolError::TrailersTooLarge(limits.head_bytes));
                        }
                        return Ok(Step::More);
                    };
                    if end > limits.head_bytes {
                        return Err(ProtocolError::TrailersTooLarge(limits.head_bytes));
                    }
                    let block = buf.split_to(end).freeze();
                    self.state = State::Done;
                    if block.len() == 2 {
                        return Ok(Step::End);
                    }
                    return Ok(Step::Trailers(head::parse_trailers(&block, limits)?));
                }
                State::Done => return Ok(Step::End),
                _ => {
                    let Some(&byte) = buf.first() else {
                        return Ok(Step::More);
                    };
                    buf.advance(1);
                    self.framing_byte(byte, limits)?;
                }
            }
        }
    }

    /// Moves on by one byte that is not data.
    fn framing_byte(&mut self, byte: u8, limits: &Limits) -> Result<(), ProtocolError> {
        self.state = match self.state {
            State::Size { size, digits } => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) if digits < MAX_SIZE_DIGITS => State::Size {
                    size: size
                        .checked_mul(16)
                        .and_then(|size| size.checked_add(u64::from(digit)))
                        .ok_or(ProtocolError::InvalidChunkSize)?,
                    digits: digits + 1,
                },
                (None, _) if digits == 0 => return Err(ProtocolError::InvalidChunkSize),
                (None, b'\r') => State::SizeLineFeed { size },
                (None, b' ' | b'\t' | b';') => {
                    self.count_extension(limits)?;
                    State::Extension { size, named: byte == b';' }
                }
                _ => return Err(ProtocolError::InvalidChunkSize),
            },
            State::Extension { size, named } => match byte {
                b'\r' => State::SizeLineFeed { size },
                b' ' | b'\t' | b';' => {
                    self.count_extension(limits)?;
                    State::Extension { size, named: named || byte == b';' }
                }
                0x21..=0x7e | 0x80.. if named => {
                    self.count_extension(limits)?;
                    State::Extension { size, named }
                }
                _ => return Err(ProtocolError::InvalidChunkSize),
            },
            State::SizeLineFeed { size } => match (byte, size) {
                (b'\n', 0) => State::Trailers(BlockScan::default()),
                (b'\n', _) => {
                    self.debt = self.debt.saturating_sub(FREE_PER_CHUNK);
                    State::Data { left: size }
                }
                _ => return Err(ProtocolError::InvalidChunkSize),
            },
            State::DataReturn if byte == b'\r' => State::DataLineFeed,
            State::DataLineFeed if byte == b'\n' => State::Size { size: 0, digits: 0 },
            _ => return Err(ProtocolError::MissingChunkEnd),
        };
        Ok(())
    }

    fn count_extension(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        self.debt += 1;
        if self.debt > limits.chunk_extension_bytes {
            return Err(ProtocolError::ChunkExtensionsTooLarge(limits.chunk_extension_bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `input` in the given pieces; the body, the trailers, and what was left over.
    fn run(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, HeaderMap, usize)>, ProtocolError> {
        let limits = Limits { head_bytes: 256, chunk_extension_bytes: 20, ..Limits::default() };
        let mut decoder = ChunkedDecoder::new();
        let mut buf = BytesMut::new();
        let mut body = Vec::new();
        let mut pieces = pieces.iter();
        loop {
            match decoder.decode(&mut buf, &limits)? {
                Step::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Step::Trailers(trailers) => {
                    let left = buf.len() + pieces.map(|piece| piece.len()).sum::<usize>();
                    return Ok(Some((body, trailers, left)));
                }
                Step::End => {
                    let left = buf.len() + pieces.map(|piece| piece.len()).sum::<usize>();
                    return Ok(Some((body, HeaderMap::new(), left)));
                }
                Step::More => match pieces.next() {
                    Some(piece) => buf.extend_from_slice(piece),
                    None => return Ok(None),
                },
            }
        }
    }

    fn whole(input: &[u8]) -> Result<Option<(Vec<u8>, HeaderMap, usize)>, ProtocolError> {
        run(&[input])
    }

    #[test]
    fn chunks_are_joined_and_leftovers_stay() {
        let (body, trailers, left) =
            whole(b"5\r\nhello\r\n00A ;x=\"y\"\r\n, chunks!!\r\n0\r\n\r\nHTTP").unwrap().unwrap();
        assert_eq!(body, b"hello, chunks!!");
        assert!(trailers.is_empty());
        assert_eq!(left, 4);
    }

    #[test]
    fn trailers_come_after_the_data() {
        let (body, trailers, left) =
            whole(b"1\r\nx\r\n0\r\nDigest: abc\r\nA: \r\n\r\n").unwrap().unwrap();
        assert_eq!((body.as_slice(), left), (&b"x"[..], 0));
        assert_eq!(trailers["digest"], "abc");
        assert_eq!(trailers["a"], "");
    }

    #[test]
    fn doubtful_framing_is_an_error() {
        for (input, error) in [
            (&b"\r\n"[..], ProtocolError::InvalidChunkSize),
            (b"+5\r\n", ProtocolError::InvalidChunkSize),
            (b"-1\r\n", ProtocolError::InvalidChunkSize),
            (b" 5\r\n", ProtocolError::InvalidChunkSize),
            (b"0x5\r\n", ProtocolError::InvalidChunkSize),
            (b"5 5\r\n", ProtocolError::InvalidChunkSize),
            (b"5;a\0b\r\n", ProtocolError::InvalidChunkSize),
            (b"5\nhello", ProtocolError::InvalidChunkSize),
            (b"5;a\nhello", ProtocolError::InvalidChunkSize),
            (b"5\rhello", ProtocolError::InvalidChunkSize),
            (b"10000000000000000\r\n", ProtocolError::InvalidChunkSize),
            (b"00000000000000005\r\n", ProtocolError::InvalidChunkSize),
            (b"1\r\nxy\r\n", ProtocolError::MissingChunkEnd),
            (b"1\r\nx\n0\r\n\r\n", ProtocolError::MissingChunkEnd),
            (b"1\r\nx\r0\r\n\r\n", ProtocolError::MissingChunkEnd),
            (b"0\r\n\n", ProtocolError::BareLineFeed),
            (b"0\r\na: b\n\r\n", ProtocolError::BareLineFeed),
            (b"0\r\na b\r\n\r\n", ProtocolError::MalformedTrailers),
            (b"5;xxxxxxxxxxxxxxxxxxxxxxxxx", ProtocolError::ChunkExtensionsTooLarge(20)),
            (b"5                          ", ProtocolError::ChunkExtensionsTooLarge(20)),
        ] {
            let result = whole(input);
            assert_eq!(result.unwrap_err(), error, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn the_largest_size_is_taken_and_nothing_is_allocated_for_it() {
        let mut decoder = ChunkedDecoder::new();
        let mut buf = BytesMut::from(&b"ffffffffffffffff\r\nab"[..]);
        let step = decoder.decode(&mut buf, &Limits::default()).unwrap();
        assert!(matches!(step, Step::Data(data) if data == "ab"));
        let step = decoder.decode(&mut buf, &Limits::default()).unwrap();
        assert!(matches!(step, Step::More));
    }

    /// The decoded length of `count` chunks, or the error, with the default limits.
    fn repeated(chunk: &[u8], count: usize) -> Result<usize, ProtocolError> {
        let (mut decoder, mut buf) = (ChunkedDecoder::new(), BytesMut::new());
        let (limits, mut length) = (Limits::default(), 0);
        for number in 0..=count {
            buf.extend_from_slice(if number == count { b"0\r\n\r\n" } else { chunk });
            loop {
                match decoder.decode(&mut buf, &limits)? {
                    Step::Data(data) => length += data.len(),
                    Step::More => break,
                    Step::Trailers(_) => unreachable!("none was sent"),
                    Step::End => return Ok(length),
                }
            }
        }
        unreachable!("the last chunk was fed")
    }

    #[test]
    fn short_extensions_are_legal_in_bodies_of_any_length() {
        let data = [b'x'; 100];
        let padded = |line: &str| [line.as_bytes(), b"\r\n", &data, b"\r\n"].concat();
        assert_eq!(repeated(&padded("64;a=b"), 8_000), Ok(800_000));
        assert_eq!(repeated(&padded("64  "), 20_000), Ok(2_000_000));
        // The signature that some object stores put on each chunk.
        let signed = padded(&format!("64;chunk-signature={}", "0".repeat(64)));
        assert_eq!(repeated(&signed, 10_000), Ok(1_000_000));
        assert_eq!(repeated(b"1;name=value\r\nx\r\n", 50_000), Ok(50_000));
    }

    #[test]
    fn extensions_that_outweigh_the_data_are_an_error() {
        let limit = Limits::default().chunk_extension_bytes;
        let error = Err(ProtocolError::ChunkExtensionsTooLarge(limit));
        for (line, data) in [(20, 1), (200, 100), (1_000, 100), (17_000, 1_000)] {
            let extension = format!("{data:x};{}\r\n", "x".repeat(line));
            let chunk = [extension.as_bytes(), &vec![b'y'; data], b"\r\n"].concat();
            assert_eq!(repeated(&chunk, 50_000), error, "{line} bytes beside {data}");
        }
        // The size alone pays nothing off, and credit is not saved up for later.
        let promised = [&b"ffffffff;"[..], &vec![b'x'; 17_000]].concat();
        assert_eq!(repeated(&promised, 1), error);
        let mut saved = b"100000\r\n".to_vec();
        saved.extend(vec![b'y'; 1 << 20]);
        saved.extend(b"\r\n1;");
        saved.extend(vec![b'x'; 17_000]);
        assert_eq!(repeated(&saved, 1), error);
    }

    #[test]
    fn endless_trailers_are_an_error() {
        let mut input = b"0\r\n".to_vec();
        input.extend(b"a: b\r\n".repeat(60));
        assert_eq!(whole(&input).unwrap_err(), ProtocolError::TrailersTooLarge(256));
        // The end of the trailers may come in the same read.
        input.extend(b"\r\n");
        assert_eq!(whole(&input).unwrap_err(), ProtocolError::TrailersTooLarge(256));
    }

    #[test]
    fn a_cut_body_is_not_over() {
        let input = b"5\r\nhello\r\n0\r\na: b\r\n\r\n";
        for end in 0..input.len() {
            assert_eq!(whole(&input[..end]).unwrap(), None, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            trailer in any::<bool>(),
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend(format!("{:x};e=1\r\n", chunk.len()).into_bytes());
                input.extend(chunk);
                input.extend(b"\r\n");
            }
            input.extend(if trailer { &b"0\r\nt: v\r\n\r\n"[..] } else { b"0\r\n\r\n" });
            if let Some((at, byte)) = flip {
                let at = at.index(input.len());
                input[at] = byte;
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts {
                pieces.push(&input[start..cut]);
                start = cut;
            }
            pieces.push(&input[start..]);
            prop_assert_eq!(run(&pieces), whole(&input));
            if flip.is_none() {
                let (body, trailers, left) = whole(&input).unwrap().unwrap();
                prop_assert_eq!(body, chunks.concat());
                prop_assert_eq!(trailers.len(), usize::from(trailer));
                prop_assert_eq!(left, 0);
            }
        }
    }
}
