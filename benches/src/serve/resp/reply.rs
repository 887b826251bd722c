//! Writes replies, in either version of the protocol.

/// The protocol version of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Version {
    /// RESP2, with which every connection starts.
    #[default]
    Two,
    /// RESP3, after `HELLO 3`.
    Three,
}

pub(super) fn simple(output: &mut Vec<u8>, text: &str) {
    line(output, b'+', text.as_bytes());
}

/// An error; `text` starts with its code, such as "ERR ".
pub(super) fn error(output: &mut Vec<u8>, text: &str) {
    let clean = text.replace(['\r', '\n'], " ");
    line(output, b'-', clean.as_bytes());
}

pub(super) fn integer(output: &mut Vec<u8>, value: i64) {
    line(output, b':', itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn bulk(output: &mut Vec<u8>, bytes: &[u8]) {
    length(output, b'$', bytes.len());
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

/// No value, in place of a string.
pub(super) fn null(output: &mut Vec<u8>, version: Version) {
    output.extend_from_slice(match version {
        Version::Two => b"$-1\r\n",
        Version::Three => b"_\r\n",
    });
}

/// No value, in place of an array, as `EXEC` answers when a watched key changed.
pub(super) fn null_array(output: &mut Vec<u8>, version: Version) {
    output.extend_from_slice(match version {
        Version::Two => b"*-1\r\n",
        Version::Three => b"_\r\n",
    });
}

pub(super) fn array(output: &mut Vec<u8>, items: usize) {
    length(output, b'*', items);
}

/// The head of a map: in RESP2 an array of keys and values.
pub(super) fn map(output: &mut Vec<u8>, version: Version, pairs: usize) {
    match version {
        Version::Two => length(output, b'*', pairs * 2),
        Version::Three => length(output, b'%', pairs),
    }
}

/// The head of a message that is no reply: in RESP2 an array.
pub(super) fn push(output: &mut Vec<u8>, version: Version, items: usize) {
    let kind = match version {
        Version::Two => b'*',
        Version::Three => b'>',
    };
    length(output, kind, items);
}

fn length(output: &mut Vec<u8>, kind: u8, value: usize) {
    line(output, kind, itoa::Buffer::new().format(value).as_bytes());
}

fn line(output: &mut Vec<u8>, kind: u8, text: &[u8]) {
    output.push(kind);
    output.extend_from_slice(text);
    output.extend_from_slice(b"\r\n");
}
