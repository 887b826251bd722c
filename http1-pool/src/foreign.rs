//! Recognizes answers that do not start as HTTP/1 does, and names their protocol.
//!
//! A wrong port is a common mistake, and without this check the error would be a timeout: the peer
//! waits for a request that it understands, and the client for an empty line that never comes.

use std::fmt;

use crate::error::ProtocolError;

/// Most bytes of an answer that are kept for its error.
const KEEP: usize = 32;

/// The protocol that an answer looks like which is not HTTP/1, judged by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OtherProtocol {
    /// A TLS record, most often the alert with which a server refuses plain text.
    Tls,
    /// An HTTP/2 frame; a server starts with SETTINGS.
    Http2,
    /// `HTTP/`, and then a version other than 1.0 and 1.1.
    OtherHttp,
    /// A reply in RESP, the protocol of Redis.
    Resp,
    /// An SSH version line.
    Ssh,
    /// The greeting of an SMTP, FTP, POP3 or IMAP server.
    Greeting,
    /// The first packet of a MySQL server.
    MySql,
    /// None of these.
    Unknown,
}

impl fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "it looks like TLS (the port expects https)",
            Self::Http2 => "it looks like HTTP/2 (the port needs an HTTP/2 client)",
            Self::OtherHttp => "it looks like another version of HTTP",
            Self::Resp => "it looks like RESP, the protocol of Redis",
            Self::Ssh => "it looks like SSH",
            Self::Greeting => "it looks like the greeting of a mail or FTP server",
            Self::MySql => "it looks like MySQL",
            Self::Unknown => "nor any other protocol that is known here",
        })
    }
}

/// Checks that `answer`, of which more may come, is the start of an HTTP/1.0 or HTTP/1.1 status
/// line.
///
/// # Errors
/// [`ProtocolError::NotHttp1`] with the first byte that differs.
pub(crate) fn check_start(answer: &[u8]) -> Result<(), ProtocolError> {
    const NAME: &[u8] = b"HTTP/1.";
    let known = &answer[..answer.len().min(NAME.len())];
    let version = answer.get(NAME.len()).copied().unwrap_or(b'1');
    if NAME.starts_with(known) && matches!(version, b'0' | b'1') {
        return Ok(());
    }
    // An empty line in front is an error too, which the parser describes better.
    if answer.starts_with(b"\n") || answer.starts_with(b"\r\n") || answer == b"\r" {
        return Ok(());
    }
    let start = answer[..answer.len().min(KEEP)].to_vec();
    Err(ProtocolError::NotHttp1 { looks_like: recognize(answer), start })
}

fn recognize(answer: &[u8]) -> OtherProtocol {
    match answer {
        // Alert or handshake, then the major version, 3 since SSL 3.
        [0x15 | 0x16] | [0x15 | 0x16, 3, ..] => OtherProtocol::Tls,
        // Length, type SETTINGS, flags, stream 0.
        [0, _, _, 4, 0 | 1, 0, 0, 0, 0, ..] => OtherProtocol::Http2,
        // Length, sequence number 0, version 10 of the greeting.
        [_, _, 0, 0, 10, ..] => OtherProtocol::MySql,
        [b'H', b'T', b'T', b'P', b'/', ..] => OtherProtocol::OtherHttp,
        [b'S', b'S', b'H', b'-', ..] => OtherProtocol::Ssh,
        [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ' | b'-', ..] => OtherProtocol::Greeting,
        [b'+', b'O', b'K', b' ', ..] | [b'*', b' ', ..] => OtherProtocol::Greeting,
        [b'-' | b'+' | b'!', b'A'..=b'Z', ..] => OtherProtocol::Resp,
        [b':' | b'$' | b'*' | b'%' | b'~' | b'>', b'-' | b'0'..=b'9', ..] => OtherProtocol::Resp,
        _ => OtherProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_http_by_its_first_bytes() {
        for (answer, expected) in [
            (&b"\x15\x03\x01\x00\x02\x02\x46"[..], OtherProtocol::Tls),
            (b"\x15", OtherProtocol::Tls),
            (b"\x16\x03\x03\x00\x7a", OtherProtocol::Tls),
            (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", OtherProtocol::Http2),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", OtherProtocol::Http2),
            (b"HTTP/2.0 200 OK\r\n", OtherProtocol::OtherHttp),
            (b"HTTP/1.2 200 OK\r\n", OtherProtocol::OtherHttp),
            (b"-ERR unknown command\r\n", OtherProtocol::Resp),
            (b"+PONG\r\n", OtherProtocol::Resp),
            (b"$-1\r\n", OtherProtocol::Resp),
            (b"SSH-2.0-x\r\n", OtherProtocol::Ssh),
            (b"220 mail ready\r\n", OtherProtocol::Greeting),
            (b"220-ftp\r\n", OtherProtocol::Greeting),
            (b"+OK POP3\r\n", OtherProtocol::Greeting),
            (b"* OK IMAP4rev1\r\n", OtherProtocol::Greeting),
            (b"\x4a\x00\x00\x00\x0a8.0.36\0", OtherProtocol::MySql),
            (b"ICY 200 OK\r\n", OtherProtocol::Unknown),
            (b"<html>", OtherProtocol::Unknown),
            (b"http/1.1 200 OK\r\n", OtherProtocol::Unknown),
            (b"HTTX", OtherProtocol::Unknown),
        ] {
            let error = check_start(answer).unwrap_err();
            let ProtocolError::NotHttp1 { looks_like, start } = &error else {
                panic!("{error}");
            };
            assert_eq!(*looks_like, expected, "{}", answer.escape_ascii());
            assert!(answer.starts_with(start));
            assert!(error.to_string().is_ascii(), "{error}");
        }
    }

    #[test]
    fn any_start_of_a_status_line_may_still_become_one() {
        for line in [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n"] {
            for end in 0..line.len() {
                assert_eq!(check_start(&line[..end]), Ok(()));
            }
        }
        // The parser refuses these.
        for empty in [&b"\r"[..], b"\r\n", b"\n"] {
            assert_eq!(check_start(empty), Ok(()));
        }
    }

    #[test]
    fn little_of_a_long_answer_is_kept() {
        let error = check_start(&[b'\xff'; 1000]).unwrap_err();
        assert!(error.to_string().len() < 250, "{error}");
    }
}
