//! The response's head, parsed from the connection's buffer.
//!
//! `httparse` does the parsing. This module decides the questions that the parser leaves open: a line
//! ends with CR LF and nothing else, a folded line is unfolded, and sizes and counts are bounded.
//! Header values are slices of the one buffer the head arrived in, so a head costs no copy.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use httparse::{EMPTY_HEADER, ParserConfig};

use crate::config::Limits;
use crate::error::ProtocolError;
use crate::fold::unfold;
use crate::foreign::check_start;
use crate::framing::Signals;

/// Headers parsed on the stack; a response with more costs one allocation.
const INLINE_HEADERS: usize = 48;

const INVALID_NAME: ProtocolError = ProtocolError::MalformedHead("invalid header name");

/// The head of a response, 1xx skipped.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) signals: Signals,
}

/// Finds the empty line that ends a block of lines, looking at each byte once however the bytes
/// arrive.
#[derive(Debug, Default)]
pub(crate) struct BlockScan {
    /// Bytes looked at.
    seen: usize,
    /// Where the current line starts.
    line: usize,
}

impl BlockScan {
    /// Where the block at the front of `buf` ends, its empty line included; `None` if it does not
    /// end yet.
    pub(crate) fn find_end(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        while let Some(offset) = memchr::memchr(b'\n', &buf[self.seen..]) {
            let feed = self.seen + offset;
            if feed == 0 || buf[feed - 1] != b'\r' {
                return Err(ProtocolError::BareLineFeed);
            }
            let empty = feed - self.line == 1;
            self.seen = feed + 1;
            self.line = feed + 1;
            if empty {
                return Ok(Some(feed + 1));
            }
        }
        self.seen = buf.len();
        Ok(None)
    }
}

/// Reads one final response head, skipping the interim ones before it.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    scan: BlockScan,
    interim: usize,
    /// Bytes the interim heads took out of the budget.
    spent: usize,
    /// One of the interim heads was a `100`.
    continued: bool,
}

impl HeadReader {
    /// Takes the next final head from the front of `buf`, or `None` if it has not arrived
    /// completely. A `101` is final.
    pub(crate) fn read(
        &mut self,
        buf: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<ResponseHead>, ProtocolError> {
        loop {
            check_start(buf)?;
            let end = self.scan.find_end(buf)?;
            if self.spent + end.unwrap_or(buf.len()) > limits.head_bytes {
                return Err(ProtocolError::HeadTooLarge(limits.head_bytes));
            }
            let Some(end) = end else {
                return Ok(None);
            };
            let head = parse_head(&buf.split_to(end).freeze(), limits)?;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.continued |= head.status == StatusCode::CONTINUE;
            self.spent += end;
            self.interim += 1;
            if self.interim > limits.interim_responses {
                return Err(ProtocolError::TooManyInterim(limits.interim_responses));
            }
            self.scan = BlockScan::default();
        }
    }

    /// Whether a `100 (Continue)` has come.
    pub(crate) fn is_continued(&self) -> bool {
        self.continued
    }
}

/// Parses a complete head.
fn parse_head(block: &Bytes, limits: &Limits) -> Result<ResponseHead, ProtocolError> {
    match parse_unfolded(block, limits) {
        // The parser reports a folded line with this error.
        Err(INVALID_NAME) => match unfold(block, 1)? {
            Some(block) => parse_unfolded(&block, limits),
            None => Err(INVALID_NAME),
        },
        result => result,
    }
}

fn parse_unfolded(block: &Bytes, limits: &Limits) -> Result<ResponseHead, ProtocolError> {
    let config = ParserConfig::default();
    let mut inline = [const { MaybeUninit::uninit() }; INLINE_HEADERS];
    let inline = &mut inline[..limits.headers.min(INLINE_HEADERS)];
    let mut response = httparse::Response::new(&mut []);
    let result = config.parse_response_with_uninit_headers(&mut response, block, inline);
    if result == Err(httparse::Error::TooManyHeaders) && limits.headers > INLINE_HEADERS {
        let mut heap = vec![EMPTY_HEADER; limits.headers];
        let mut response = httparse::Response::new(&mut heap);
        let result = config.parse_response(&mut response, block);
        return convert_head(block, &response, result, limits);
    }
    convert_head(block, &response, result, limits)
}

fn convert_head(
    block: &Bytes,
    response: &httparse::Response<'_, '_>,
    result: httparse::Result<usize>,
    limits: &Limits,
) -> Result<ResponseHead, ProtocolError> {
    match result {
        Ok(httparse::Status::Complete(end)) if end == block.len() => {}
        Ok(_) => return Err(ProtocolError::MalformedHead("it ends too early")),
        Err(error) => return Err(parse_error(error, limits)),
    }
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(ProtocolError::MalformedHead("invalid status"))?;
    let version = match response.version {
        Some(1) => Version::HTTP_11,
        Some(0) => Version::HTTP_10,
        _ => return Err(ProtocolError::MalformedHead("invalid HTTP version")),
    };
    let mut signals = Signals::default();
    let headers = collect(block, response.headers, |name, value| signals.read(name, value))?;
    Ok(ResponseHead { status, version, headers, signals })
}

/// Parses the fields after the last chunk; `block` ends with the empty line.
pub(crate) fn parse_trailers(block: &Bytes, limits: &Limits) -> Result<HeaderMap, ProtocolError> {
    // Trailers are rare, so searching all of them for folds costs little.
    let unfolded = unfold(block, 0)?;
    let block = unfolded.as_ref().unwrap_or(block);
    let mut fields = vec![EMPTY_HEADER; limits.headers.min(block.len() / 4 + 1)];
    match httparse::parse_headers(block, &mut fields) {
        Ok(httparse::Status::Complete((end, fields))) if end == block.len() => {
            collect(block, fields, |_, _| {})
        }
        Err(httparse::Error::TooManyHeaders) => Err(ProtocolError::TooManyHeaders(limits.headers)),
        _ => Err(ProtocolError::MalformedTrailers),
    }
}

fn parse_error(error: httparse::Error, limits: &Limits) -> ProtocolError {
    ProtocolError::MalformedHead(match error {
        httparse::Error::TooManyHeaders => return ProtocolError::TooManyHeaders(limits.headers),
        httparse::Error::HeaderName => return INVALID_NAME,
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status",
        httparse::Error::Version => "invalid HTTP version",
        httparse::Error::Token => "invalid status line",
    })
}

/// Header values become slices of `block`. `look` sees each field.
fn collect(
    block: &Bytes,
    fields: &[httparse::Header<'_>],
    mut look: impl FnMut(&HeaderName, &HeaderValue),
) -> Result<HeaderMap, ProtocolError> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| INVALID_NAME)?;
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value))
            .map_err(|_| ProtocolError::MalformedHead("invalid header value"))?;
        look(&name, &value);
        map.append(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], limits: &Limits) -> Result<Option<ResponseHead>, ProtocolError> {
        HeadReader::default().read(&mut BytesMut::from(input), limits)
    }

    fn small() -> Limits {
        Limits { head_bytes: 200, headers: 3, interim_responses: 2, ..Limits::default() }
    }

    #[test]
    fn a_head_is_taken_and_the_body_stays() {
        let mut buf = BytesMut::from("HTTP/1.1 404 Not Here\r\nA: 1\r\nb:\t2 \r\na: 3\r\n\r\nbody");
        let head = HeadReader::default().read(&mut buf, &Limits::default()).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.version), (404, Version::HTTP_11));
        assert_eq!(head.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(head.headers["b"], "2");
        assert_eq!(&buf[..], b"body");
    }

    #[test]
    fn any_split_gives_the_same_head() {
        let input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\na: b\r\nc: d\r\n\r\n";
        for step in 1..input.len() {
            let (mut reader, mut buf) = (HeadReader::default(), BytesMut::new());
            let mut found = None;
            for piece in input.chunks(step) {
                assert!(found.is_none());
                buf.extend_from_slice(piece);
                found = reader.read(&mut buf, &Limits::default()).unwrap();
            }
            let head = found.unwrap();
            assert_eq!((head.status.as_u16(), head.version), (200, Version::HTTP_10));
            assert_eq!(head.headers.len(), 2);
        }
    }

    #[test]
    fn folded_lines_are_joined_by_a_space() {
        let input = b"HTTP/1.1 200 OK\r\nx-a: one\r\n two\r\nb:\r\n\t3 \r\n  4\r\nc: 5\r\n\r\n";
        let head = read(input, &Limits::default()).unwrap().unwrap();
        assert_eq!(head.headers["x-a"], "one two");
        assert_eq!(head.headers["b"], "3 4");
        assert_eq!(head.headers["c"], "5");
        let trailers = Bytes::from_static(b"a: 1\r\n 2\r\n\r\n");
        assert_eq!(parse_trailers(&trailers, &Limits::default()).unwrap()["a"], "1 2");
    }

    #[test]
    fn interim_heads_are_skipped_and_101_is_final() {
        let input = b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n";
        let head = read(input, &small()).unwrap().unwrap();
        assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
    }

    #[test]
    fn limits_hold_before_the_head_is_complete() {
        let flood = b"HTTP/1.1 100 \r\n\r\n".repeat(3);
        assert_eq!(read(&flood, &small()).unwrap_err(), ProtocolError::TooManyInterim(2));
        let mut hints = b"HTTP/1.1 103 \r\na: 0123456789012345678901234567890123456789012345678901234567890\r\n\r\n"
            .repeat(2);
        hints.extend(b"HTTP/1.1 200 OK\r\na: 0123456789012345678901234567890123456789\r\n\r\n");
        assert_eq!(read(&hints, &small()).unwrap_err(), ProtocolError::HeadTooLarge(200));
        let long = [&b"HTTP/1.1 200 OK\r\na: "[..], &[b'x'; 200]].concat();
        assert_eq!(read(&long, &small()).unwrap_err(), ProtocolError::HeadTooLarge(200));
        let many = b"HTTP/1.1 200 OK\r\na:1\r\nb:2\r\nc:3\r\nd:4\r\n\r\n";
        assert_eq!(read(many, &small()).unwrap_err(), ProtocolError::TooManyHeaders(3));
    }

    #[test]
    fn more_headers_than_fit_the_stack_are_read() {
        let mut input = b"HTTP/1.1 200 OK\r\n".to_vec();
        for index in 0..Limits::default().headers {
            input.extend(format!("x-{index}: {index}\r\n").into_bytes());
        }
        let complete = [&input[..], b"\r\n"].concat();
        let head = read(&complete, &Limits::default()).unwrap().unwrap();
        assert_eq!(head.headers.len(), 128);
        assert_eq!(head.headers["x-127"], "127");
        let beyond = [&input[..], b"one: more\r\n\r\n"].concat();
        let error = read(&beyond, &Limits::default()).unwrap_err();
        assert_eq!(error, ProtocolError::TooManyHeaders(128));
    }

    #[test]
    fn malformed_heads_are_errors() {
        for input in [
            &b"\r\nHTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\n\r\n",
            b"HTTP/1.1 200 OK\r\na: b\n\r\n",
            b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: b\r\n c\0d\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na : b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
            b"HTTP/1.1 99 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            b"\x16\x03\x01\r\n\r\n",
        ] {
            assert!(read(input, &Limits::default()).is_err(), "{}", input.escape_ascii());
        }
    }
}
