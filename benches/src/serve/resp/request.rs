//! Finds whole commands in the received bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Arguments of one command.
const MAX_ARGUMENTS: usize = 1024;
/// Bytes of one argument.
const MAX_ARGUMENT: usize = 1024 * 1024;
/// Bytes of one command.
const MAX_COMMAND: usize = 4 * MAX_ARGUMENT;
/// Bytes of a line that announces a length, or of an inline command.
const MAX_LINE: usize = 64 * 1024;

/// Takes the first command off `input`, `None` when it is not complete yet.
///
/// Parses the command from its start each time, since a benchmark's commands arrive whole.
///
/// # Errors
/// The fault in the bytes; the connection cannot go on.
pub(super) fn parse(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, &'static str> {
    if input.first() != Some(&b'*') {
        return parse_inline(input);
    }
    let Some((count, mut at)) = number(input, 1, MAX_ARGUMENTS)? else {
        return Ok(None);
    };
    // Where each argument is; nothing is copied before the command is complete.
    let mut spans = Vec::with_capacity(count.min(8));
    for _ in 0..count {
        match input.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err("expected '$'"),
        }
        let Some((length, start)) = number(input, at + 1, MAX_ARGUMENT)? else {
            return Ok(None);
        };
        let end = start + length;
        if end > MAX_COMMAND {
            return Err("command too long");
        }
        if input.len() < end + 2 {
            return Ok(None);
        }
        if &input[end..end + 2] != b"\r\n" {
            return Err("expected the end of an argument");
        }
        spans.push((start, end));
        at = end + 2;
    }
    let command = input.split_to(at).freeze();
    Ok(Some(spans.into_iter().map(|(start, end)| command.slice(start..end)).collect()))
}

/// A command typed by hand: words on a line.
fn parse_inline(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, &'static str> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > MAX_LINE { Err("too big inline request") } else { Ok(None) };
    };
    let line = input.split_to(end).freeze();
    input.advance(1);
    Ok(Some(
        line.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .take(MAX_ARGUMENTS)
            .map(|word| line.slice_ref(word))
            .collect(),
    ))
}

/// Reads the number at `start` and returns it with the end of its line; `None` if the line is not complete.
fn number(input: &[u8], start: usize, max: usize) -> Result<Option<(usize, usize)>, &'static str> {
    let mut value = 0_usize;
    for (offset, byte) in input[start..].iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                // Cannot overflow: it was at most `max` before, and stays so.
                value = value * 10 + usize::from(byte - b'0');
                if value > max {
                    return Err("invalid length");
                }
            }
            b'\r' if offset > 0 => {
                let end = start + offset + 2;
                return match input.get(end - 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((value, end))),
                    Some(_) => Err("expected a line feed"),
                };
            }
            _ => return Err("invalid length"),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_parsed_the_same_whole_and_byte_by_byte() {
        let wire = b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n";
        let mut input = BytesMut::new();
        for (index, byte) in wire.iter().enumerate() {
            assert_eq!(parse(&mut input), Ok(None), "after {index} bytes");
            input.extend_from_slice(&[*byte]);
        }
        let command = parse(&mut input).unwrap().unwrap();
        assert_eq!(command, [&b"ECHO"[..], &b"a\r\n"[..]]);
        assert!(input.is_empty());
    }

    #[test]
    fn inline_commands_are_words_on_a_line() {
        let mut input = BytesMut::from(&b"PING  hello\r\nPING\n"[..]);
        assert_eq!(parse(&mut input).unwrap().unwrap(), [&b"PING"[..], b"hello"]);
        assert_eq!(parse(&mut input).unwrap().unwrap(), [&b"PING"[..]]);
    }

    #[test]
    fn declared_lengths_are_bounded() {
        for wire in [
            &b"*1025\r\n"[..],
            b"*99999999999999999999999\r\n",
            b"*1\r\n$1048577\r\n",
            b"*-1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n+OK\r\n",
            b"*\r\n",
        ] {
            assert!(parse(&mut BytesMut::from(wire)).is_err(), "{wire:?}");
        }
    }
}
