//! Folded header values, which continue on the next line, as old servers send them.
//!
//! RFC 9112 section 5.2: a user agent replaces each fold (a line end and the blanks around it) by a
//! space. Since 2014 a server must not send folds, so this is not on the common path: a block is searched
//! for folds only after the parser has refused it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ProtocolError;

/// `block` with each fold replaced by one space; `None` if there is no fold in it.
///
/// The block consists of complete lines, each with CR LF at its end. `first` is the number of lines
/// that are not fields: one in a head, for its status line, none in trailers. A fold directly after these
/// lines continues no field, and is left for the parser to refuse.
///
/// # Errors
/// When the folded field is one that frames the message. Servers and proxies have understood
/// such lines differently, which makes request smuggling possible.
pub(crate) fn unfold(block: &[u8], first: usize) -> Result<Option<Bytes>, ProtocolError> {
    let mut out = BytesMut::new();
    let (mut found, mut field, mut folded) = (false, 0, false);
    for (number, line) in block.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if number <= first || !line.starts_with(b" ") && !line.starts_with(b"\t") {
            (field, folded) = (out.len(), false);
            out.put_slice(line);
            continue;
        }
        if folded {
            out.truncate(out.len() - 2);
        } else {
            refuse_framing(&out[field..])?;
            out.truncate(field + content(&out[field..]).len());
        }
        (found, folded) = (true, true);
        out.put_u8(b' ');
        out.put_slice(without_leading_blanks(content(line)));
        out.put_slice(b"\r\n");
    }
    Ok(found.then(|| out.freeze()))
}

/// A line without its CR LF and the blanks before that. Any other control character, including a
/// further CR, is left for the parser to refuse.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let end = line.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
    &line[..end]
}

fn without_leading_blanks(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&byte| !is_blank(byte)).unwrap_or(line.len());
    &line[start..]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn refuse_framing(field: &[u8]) -> Result<(), ProtocolError> {
    let name = field.split(|&byte| byte == b':').next().unwrap_or_default();
    if name.eq_ignore_ascii_case(b"content-length") {
        return Err(ProtocolError::ContentLength);
    }
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        return Err(ProtocolError::TransferEncoding);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfolded(block: &str, first: usize) -> Option<String> {
        let bytes = unfold(block.as_bytes(), first).unwrap()?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_fold_becomes_one_space() {
        for (block, expected) in [
            ("s\r\na: one\r\n two\r\nb: c\r\n\r\n", "s\r\na: one two\r\nb: c\r\n\r\n"),
            ("s\r\na: one \t\r\n\t two \r\n\r\n", "s\r\na: one two\r\n\r\n"),
            ("s\r\na: 1\r\n 2\r\n 3\r\n\r\n", "s\r\na: 1 2 3\r\n\r\n"),
            ("s\r\na:\r\n 1\r\n\r\n", "s\r\na: 1\r\n\r\n"),
            ("s\r\na: 1\r\n \r\n 2\r\n\r\n", "s\r\na: 1  2\r\n\r\n"),
            ("s\r\na: 1\r\n \t \r\nb: 2\r\n\r\n", "s\r\na: 1 \r\nb: 2\r\n\r\n"),
        ] {
            assert_eq!(unfolded(block, 1).as_deref(), Some(expected));
        }
        assert_eq!(unfolded("a: 1\r\n 2\r\n\r\n", 0).as_deref(), Some("a: 1 2\r\n\r\n"));
    }

    #[test]
    fn a_control_character_beside_a_fold_is_not_taken_for_a_blank() {
        for (block, expected) in [
            ("s\r\na: 1\r\n 2\r\r\n\r\n", "s\r\na: 1 2\r\r\n\r\n"),
            ("s\r\na: 1\r\r\n 2\r\n\r\n", "s\r\na: 1\r 2\r\n\r\n"),
            ("s\r\na: 1\x0c\r\n \r2\r\n\r\n", "s\r\na: 1\x0c \r2\r\n\r\n"),
        ] {
            assert_eq!(unfolded(block, 1).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_fold_without_a_field_is_left_to_the_parser() {
        assert_eq!(unfolded("s\r\na: b\r\n\r\n", 1), None);
        assert_eq!(unfolded("s\r\n a: b\r\n\r\n", 1), None);
        assert_eq!(unfolded(" a: b\r\n\r\n", 0), None);
    }

    #[test]
    fn a_field_that_frames_the_message_is_never_folded() {
        for (field, error) in [
            ("Content-Length:\r\n 5", ProtocolError::ContentLength),
            ("content-length: 5\r\n\t5", ProtocolError::ContentLength),
            ("Transfer-Encoding: chunked\r\n , gzip", ProtocolError::TransferEncoding),
        ] {
            let block = format!("s\r\na: b\r\n{field}\r\n\r\n");
            assert_eq!(unfold(block.as_bytes(), 1), Err(error));
        }
    }
}
