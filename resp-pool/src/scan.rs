//! Finds the end of a frame, before it is decoded.
//!
//! A reply arrives in pieces. Asking a decoder "is it whole yet?" after each piece starts over at
//! the first byte every time, and a decoder that recurses can be sent deeper than the stack. The
//! [`Scanner`] walks over the bytes once: it remembers where it stopped, keeps one counter for each
//! open aggregate instead of recursing, and refuses a frame as soon as it declares more than the
//! [`Limits`] allow. Only a frame that passed is handed to the decoder, so the decoder never meets
//! nesting, lengths or line ends we do not like.
//!
//! The scanner is stricter than the protocol text where leniency buys nothing: no `+5`, no leading
//! zeros, no bare CR or LF, no length but `-1` below zero. Nothing is allocated because a peer
//! announced a length.

use crate::{
    limits::{Limits, ScanError},
    value::ServerError,
};

/// A frame that is there to its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its length in bytes, type byte and last CRLF included.
    pub len: usize,
    /// Its type byte. [`ATTRIBUTE`] stands for an attribute before a top-level frame, which is
    /// reported as a separate frame.
    pub kind: u8,
    /// Whether it, or anything in it, is of a type that only RESP3 has.
    pub resp3: bool,
}

/// The type byte of an attribute (`|`).
pub const ATTRIBUTE: u8 = b'|';
/// The type byte of a push (`>`).
pub const PUSH: u8 = b'>';

/// An aggregate whose elements are not all there yet.
#[derive(Clone, Copy, Debug)]
struct Level {
    remaining: usize,
    attribute: bool,
}

/// Finds the end of one frame after another in a growing buffer.
///
/// Hand it the bytes from the start of a frame, each time with more at the end; it continues where
/// it stopped. After it reported a [`Frame`] (or an error) it starts afresh.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    /// Where the next element starts; everything before is checked.
    position: usize,
    /// While inside a bulk string or a line: no need to look at bytes before this one again.
    resume: usize,
    /// What decoding the frame will take, see [`Limits::max_memory`].
    memory: usize,
    levels: Vec<Level>,
    after_attribute: bool,
    resp3: bool,
    resp2_null: bool,
}

/// A decimal length, or one of the two special ones.
enum Length {
    Of(usize),
    Null,
}

impl Scanner {
    /// A scanner at the start of a frame.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits { max_depth: limits.max_depth.min(Limits::DEEPEST), ..limits },
            position: 0,
            resume: 0,
            memory: 0,
            levels: Vec::new(),
            after_attribute: false,
            resp3: false,
            resp2_null: false,
        }
    }

    /// Looks for the end of the frame that starts at `buffer[0]`; `None` means "not there yet".
    ///
    /// # Errors
    /// [`ScanError`] as soon as the bytes cannot become a frame within the limits.
    pub fn scan(&mut self, buffer: &[u8]) -> Result<Option<Frame>, ScanError> {
        let found = self.advance(buffer);
        match found {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => self.restart(),
        }
        found
    }

    fn restart(&mut self) {
        self.position = 0;
        self.resume = 0;
        self.memory = 0;
        self.levels.clear();
        self.after_attribute = false;
        self.resp3 = false;
        self.resp2_null = false;
    }

    fn advance(&mut self, buffer: &[u8]) -> Result<Option<Frame>, ScanError> {
        loop {
            let Some(next) = self.element(buffer)? else {
                // An unfinished frame that fills its limit can only end beyond it.
                return if buffer.len() > self.limits.max_frame {
                    Err(ScanError::FrameTooLong(self.limits.max_frame))
                } else {
                    Ok(None)
                };
            };
            if next > self.limits.max_frame {
                return Err(ScanError::FrameTooLong(self.limits.max_frame));
            }
            self.position = next;
            self.resume = next;
            if self.finish_levels() {
                if self.resp3 && self.resp2_null {
                    return Err(ScanError::MixedNull);
                }
                return Ok(Some(Frame { len: next, kind: buffer[0], resp3: self.resp3 }));
            }
        }
    }

    /// Checks one scalar or one aggregate header. Returns where the next element starts.
    fn element(&mut self, buffer: &[u8]) -> Result<Option<usize>, ScanError> {
        let at = self.position;
        let Some(&kind) = buffer.get(at) else {
            return Ok(None);
        };
        match kind {
            b'$' => self.bulk(buffer, kind),
            b'*' => self.aggregate(buffer, kind, 1),
            b':' => self.short_line(buffer, kind, is_integer),
            b'+' => Ok(self.line(buffer, self.limits.max_line)?.map(|(_, next)| self.scalar(next))),
            b'-' => match self.line(buffer, self.limits.max_line)? {
                None => Ok(None),
                Some((line, next)) => {
                    self.take_memory(ServerError::memory_for(line.len()))?;
                    Ok(Some(self.scalar(next)))
                }
            },
            b'!' | b'=' => {
                self.resp3 = true;
                self.bulk(buffer, kind)
            }
            b'_' | b'#' | b',' | b'(' => {
                self.resp3 = true;
                match kind {
                    b'_' => self.short_line(buffer, kind, |line| line.is_empty()),
                    b'#' => self.short_line(buffer, kind, |line| line == b"t" || line == b"f"),
                    b',' => self.short_line(buffer, kind, is_double),
                    _ => match self.line(buffer, self.limits.max_line)? {
                        None => Ok(None),
                        Some((line, next))
                            if is_digits(line.strip_prefix(b"-").unwrap_or(line)) =>
                        {
                            Ok(Some(self.scalar(next)))
                        }
                        Some(_) => Err(ScanError::BadScalar(kind)),
                    },
                }
            }
            b'~' => {
                self.resp3 = true;
                self.aggregate(buffer, kind, 1)
            }
            b'%' => {
                self.resp3 = true;
                self.aggregate(buffer, kind, 2)
            }
            PUSH => {
                if !self.levels.is_empty() {
                    return Err(ScanError::Misplaced(kind));
                }
                self.resp3 = true;
                self.aggregate(buffer, kind, 1)
            }
            ATTRIBUTE => {
                if self.after_attribute {
                    return Err(ScanError::Misplaced(kind));
                }
                self.resp3 = true;
                self.aggregate(buffer, kind, 2)
            }
            b';' | b'.' => Err(ScanError::Streamed),
            other => Err(ScanError::UnknownType(other)),
        }
    }

    /// A scalar is complete: one element less to wait for.
    fn scalar(&mut self, next: usize) -> usize {
        self.after_attribute = false;
        if let Some(level) = self.levels.last_mut() {
            level.remaining -= 1;
        }
        next
    }

    fn bulk(&mut self, buffer: &[u8], kind: u8) -> Result<Option<usize>, ScanError> {
        let Some((length, start)) = length(buffer, self.position + 1)? else {
            return Ok(None);
        };
        let length = match length {
            Length::Of(length) => length,
            Length::Null if kind == b'$' => {
                self.resp2_null = true;
                return Ok(Some(self.scalar(start)));
            }
            Length::Null => return Err(ScanError::BadLength),
        };
        if length > self.limits.max_bulk {
            return Err(ScanError::BulkTooLong(self.limits.max_bulk));
        }
        let end =
            start.checked_add(length).ok_or(ScanError::FrameTooLong(self.limits.max_frame))?;
        let next = end.checked_add(2).ok_or(ScanError::FrameTooLong(self.limits.max_frame))?;
        if next > self.limits.max_frame {
            return Err(ScanError::FrameTooLong(self.limits.max_frame));
        }
        if kind == b'=' && (length < 4 || buffer.get(start + 3).is_some_and(|&colon| colon != b':'))
        {
            return Err(ScanError::BadScalar(kind));
        }
        if buffer.len() < next {
            return Ok(None);
        }
        if &buffer[end..next] != b"\r\n" {
            return Err(ScanError::BadLineEnd);
        }
        if kind == b'!' {
            self.take_memory(ServerError::memory_for(length))?;
        }
        Ok(Some(self.scalar(next)))
    }

    fn aggregate(
        &mut self,
        buffer: &[u8],
        kind: u8,
        per_entry: usize,
    ) -> Result<Option<usize>, ScanError> {
        let Some((length, next)) = length(buffer, self.position + 1)? else {
            return Ok(None);
        };
        let entries = match length {
            Length::Of(entries) => entries,
            Length::Null if kind == b'*' => {
                self.resp2_null = true;
                return Ok(Some(self.scalar(next)));
            }
            Length::Null => return Err(ScanError::BadLength),
        };
        // Announced elements take memory when they arrive; an announcement beyond the limit is refused
        // at once.
        let cost =
            if matches!(kind, b'*' | PUSH) { Limits::LIST_ELEMENT } else { Limits::SET_ELEMENT };
        let too_many = ScanError::TooManyElements(self.limits.max_memory);
        let children = entries.checked_mul(per_entry).ok_or(too_many)?;
        self.take_memory(children.checked_mul(cost).ok_or(too_many)?)?;
        if self.levels.len() >= self.limits.max_depth {
            return Err(ScanError::TooDeep(self.limits.max_depth));
        }
        let attribute = kind == ATTRIBUTE;
        // An attribute belongs to the element after it, and does not count as an element.
        if !attribute && let Some(parent) = self.levels.last_mut() {
            parent.remaining -= 1;
        }
        self.after_attribute = false;
        self.levels.push(Level { remaining: children, attribute });
        Ok(Some(next))
    }

    /// Decoding will take so many bytes more.
    fn take_memory(&mut self, bytes: usize) -> Result<(), ScanError> {
        let memory = self.memory.checked_add(bytes);
        match memory.filter(|&memory| memory <= self.limits.max_memory) {
            Some(memory) => self.memory = memory,
            None => return Err(ScanError::TooManyElements(self.limits.max_memory)),
        }
        Ok(())
    }

    /// Closes every aggregate that has all its elements. True when none is open: the frame is
    /// whole.
    fn finish_levels(&mut self) -> bool {
        while let Some(level) = self.levels.last() {
            if level.remaining > 0 {
                return false;
            }
            self.after_attribute = level.attribute && self.levels.len() > 1;
            self.levels.pop();
            if self.after_attribute {
                return false;
            }
        }
        true
    }

    /// The text of a line after its type byte, and where the next element starts.
    fn line<'b>(
        &mut self,
        buffer: &'b [u8],
        limit: usize,
    ) -> Result<Option<(&'b [u8], usize)>, ScanError> {
        let start = self.position + 1;
        let from = self.resume.max(start);
        let Some(offset) = memchr::memchr2(b'\r', b'\n', &buffer[from..]) else {
            self.resume = buffer.len();
            return if buffer.len() - start > limit {
                Err(ScanError::LineTooLong(limit))
            } else {
                Ok(None)
            };
        };
        let end = from + offset;
        if end - start > limit {
            return Err(ScanError::LineTooLong(limit));
        }
        match (buffer[end], buffer.get(end + 1)) {
            (b'\r', Some(b'\n')) => Ok(Some((&buffer[start..end], end + 2))),
            (b'\r', None) => {
                self.resume = end;
                Ok(None)
            }
            _ => Err(ScanError::BadLineEnd),
        }
    }

    /// A line whose text is short and must satisfy `accept`.
    fn short_line(
        &mut self,
        buffer: &[u8],
        kind: u8,
        accept: fn(&[u8]) -> bool,
    ) -> Result<Option<usize>, ScanError> {
        /// No number a server writes is longer; a double takes at most 24 characters.
        const LONGEST: usize = 64;
        match self.line(buffer, LONGEST) {
            Ok(Some((line, next))) if accept(line) => Ok(Some(self.scalar(next))),
            Ok(Some(_)) | Err(ScanError::LineTooLong(_)) => Err(ScanError::BadScalar(kind)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads `<digits>CRLF` or `-1CRLF` at `start`. At most 22 bytes, so starting over is cheap.
fn length(buffer: &[u8], start: usize) -> Result<Option<(Length, usize)>, ScanError> {
    let mut value: usize = 0;
    let mut at = start;
    match buffer.get(at) {
        None => return Ok(None),
        Some(b'?') => return Err(ScanError::Streamed),
        Some(b'-') => {
            let rest = &buffer[at..buffer.len().min(at + 4)];
            return match b"-1\r\n".strip_prefix(rest) {
                Some([]) => Ok(Some((Length::Null, at + 4))),
                Some(_) => Ok(None),
                None => Err(ScanError::BadLength),
            };
        }
        Some(_) => {}
    }
    while let Some(&byte) = buffer.get(at) {
        match byte {
            // "0" is the only number that starts with a zero.
            b'0'..=b'9' if at == start || buffer[start] != b'0' => {
                value = value
                    .checked_mul(10)
                    .and_then(|value| value.checked_add(usize::from(byte - b'0')))
                    .ok_or(ScanError::BadLength)?;
                at += 1;
            }
            b'\r' if at > start => {
                return match buffer.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((Length::Of(value), at + 2))),
                    Some(_) => Err(ScanError::BadLineEnd),
                };
            }
            _ => return Err(ScanError::BadLength),
        }
    }
    Ok(None)
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// A decimal number of 64 bits with an optional minus.
fn is_integer(text: &[u8]) -> bool {
    is_digits(text.strip_prefix(b"-").unwrap_or(text))
        && std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// `[-]digits[.digits][e[+-]digits]`, `[-]inf` or `[-]nan`.
fn is_double(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    if text == b"inf" || text == b"nan" {
        return true;
    }
    let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mantissa_is_good = match memchr::memchr(b'.', mantissa) {
        Some(at) => is_digits(&mantissa[..at]) && is_digits(&mantissa[at + 1..]),
        None => is_digits(mantissa),
    };
    let exponent_is_good = exponent.is_none_or(|text| match text {
        [b'+' | b'-', digits @ ..] => is_digits(digits),
        digits => is_digits(digits),
    });
    mantissa_is_good && exponent_is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        Scanner::new(Limits::default()).scan(bytes).map(|frame| frame.map(|frame| frame.len))
    }

    #[test]
    fn the_end_of_every_type_is_found() {
        let frames: &[&[u8]] = &[
            b"+OK\r\n",
            b"+\r\n",
            b"-ERR no\r\n",
            b":0\r\n",
            b":-9223372036854775808\r\n",
            b"$0\r\n\r\n",
            b"$5\r\nhe\r\no\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$-1\r\n",
            b"_\r\n",
            b"#t\r\n",
            b",1.5e-7\r\n",
            b",-inf\r\n",
            b",nan\r\n",
            b"(-123456789012345678901234567890\r\n",
            b"!3\r\nERR\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n",
            b"~2\r\n+a\r\n+b\r\n",
            b">2\r\n+message\r\n+x\r\n",
            b"|1\r\n+ttl\r\n:3\r\n",
            b"*2\r\n|1\r\n+ttl\r\n:3\r\n:1\r\n:2\r\n",
            b"*1\r\n|0\r\n:1\r\n",
        ];
        for frame in frames {
            let mut followed = frame.to_vec();
            followed.extend_from_slice(b"+next\r\n");
            assert_eq!(scan(&followed), Ok(Some(frame.len())), "{}", frame.escape_ascii());
            for cut in 0..frame.len() {
                assert_eq!(scan(&frame[..cut]), Ok(None), "{} cut at {cut}", frame.escape_ascii());
            }
        }
    }

    #[test]
    fn frames_that_are_not_strictly_valid_are_refused() {
        let cases: &[(&[u8], ScanError)] = &[
            (b"x", ScanError::UnknownType(b'x')),
            (b"HELLO 3\r\n", ScanError::UnknownType(b'H')),
            (b"$+5\r\nhello\r\n", ScanError::BadLength),
            (b"$05\r\nhello\r\n", ScanError::BadLength),
            (b"$\r\n", ScanError::BadLength),
            (b"$-2\r\n", ScanError::BadLength),
            (b"*-10\r\n", ScanError::BadLength),
            (b"%-1\r\n", ScanError::BadLength),
            (b"$5 \r\n", ScanError::BadLength),
            (b"$5\n", ScanError::BadLength),
            (b"$5\rx", ScanError::BadLineEnd),
            (b"$99999999999999999999999\r\n", ScanError::BadLength),
            (b"$18446744073709551615\r\n", ScanError::BulkTooLong(512 << 20)),
            (b"$5\r\nhelloxx", ScanError::BadLineEnd),
            (b"+a\nb\r\n", ScanError::BadLineEnd),
            (b"+a\rb\r\n", ScanError::BadLineEnd),
            (b":+5\r\n", ScanError::BadScalar(b':')),
            (b":\r\n", ScanError::BadScalar(b':')),
            (b":9223372036854775808\r\n", ScanError::BadScalar(b':')),
            (b"#x\r\n", ScanError::BadScalar(b'#')),
            (b"_x\r\n", ScanError::BadScalar(b'_')),
            (b",1.\r\n", ScanError::BadScalar(b',')),
            (b",infinity\r\n", ScanError::BadScalar(b',')),
            (b"(12a\r\n", ScanError::BadScalar(b'(')),
            (b"=3\r\ntxt\r\n", ScanError::BadScalar(b'=')),
            (b"=7\r\ntxt-abc\r\n", ScanError::BadScalar(b'=')),
            (b"$?\r\n", ScanError::Streamed),
            (b"*?\r\n", ScanError::Streamed),
            (b";4\r\nabcd\r\n", ScanError::Streamed),
            (b".\r\n", ScanError::Streamed),
            (b"*1\r\n>1\r\n:1\r\n", ScanError::Misplaced(b'>')),
            (b"*1\r\n|0\r\n|0\r\n:1\r\n", ScanError::Misplaced(b'|')),
            (b"~1\r\n$-1\r\n", ScanError::MixedNull),
            (b"*3355444\r\n", ScanError::TooManyElements(1 << 30)),
            (b"~2097153\r\n", ScanError::TooManyElements(1 << 30)),
            (b"%9223372036854775808\r\n", ScanError::TooManyElements(1 << 30)),
        ];
        for (bytes, error) in cases {
            assert_eq!(scan(bytes), Err(*error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_hundred_thousand_levels_are_refused_at_the_first_too_many() {
        let bomb = b"*1\r\n".repeat(100_000);
        assert_eq!(scan(&bomb), Err(ScanError::TooDeep(32)));
        let deepest = [b"*1\r\n".repeat(32), b":1\r\n".to_vec()].concat();
        assert_eq!(scan(&deepest), Ok(Some(deepest.len())));
        assert_eq!(scan(&[b"*1\r\n".as_slice(), &deepest].concat()), Err(ScanError::TooDeep(32)));
    }

    #[test]
    fn lines_and_frames_end_within_their_limits() {
        let limits = Limits { max_line: 8, max_frame: 40, max_bulk: 30, ..Limits::default() };
        let scan = |bytes: &[u8]| Scanner::new(limits).scan(bytes).map(|frame| frame.is_some());
        assert_eq!(scan(b"+12345678\r\n"), Ok(true));
        assert_eq!(scan(b"+12345678"), Ok(false));
        assert_eq!(scan(b"+123456789"), Err(ScanError::LineTooLong(8)));
        assert_eq!(scan(b"+123456789\r\n"), Err(ScanError::LineTooLong(8)));
        assert_eq!(scan(b"$31\r\n"), Err(ScanError::BulkTooLong(30)));
        assert_eq!(scan(b"$30\r\n"), Ok(false));
        assert_eq!(scan(b"*2\r\n$30\r\n"), Err(ScanError::FrameTooLong(40)));
        assert_eq!(
            scan(&[b"*12\r\n".as_slice(), &b":1\r\n".repeat(9)].concat()),
            Err(ScanError::FrameTooLong(40))
        );
        // A frame that is whole, and a frame that reaches its limit before its last element.
        let elements = |count| b":1\r\n".repeat(count);
        let whole = [b"*9\r\n".as_slice(), &elements(8), b":10\r\n"].concat();
        assert_eq!(scan(&whole), Err(ScanError::FrameTooLong(40)));
        let unfinished = [b"*12\r\n".as_slice(), &elements(8), b"+123"].concat();
        assert_eq!(scan(&unfinished), Err(ScanError::FrameTooLong(40)));
    }

    #[test]
    fn no_limit_allows_more_levels_than_the_decoder_survives() {
        let mut scanner = Scanner::new(Limits { max_depth: usize::MAX, ..Limits::default() });
        assert_eq!(scanner.scan(&b"*1\r\n".repeat(Limits::DEEPEST)), Ok(None));
        assert_eq!(
            scanner.scan(&b"*1\r\n".repeat(Limits::DEEPEST + 1)),
            Err(ScanError::TooDeep(Limits::DEEPEST))
        );
    }

    #[test]
    fn a_scanner_starts_afresh_after_a_frame() {
        let mut scanner = Scanner::new(Limits::default());
        let bytes = b"*2\r\n:1\r\n~0\r\n+OK\r\n";
        let first = scanner.scan(bytes).expect("valid").expect("whole");
        assert_eq!(first, Frame { len: 12, kind: b'*', resp3: true });
        let second = scanner.scan(&bytes[first.len..]).expect("valid").expect("whole");
        assert_eq!(second, Frame { len: 5, kind: b'+', resp3: false });
    }
}
