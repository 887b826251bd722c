//! Bytes to values and arguments to bytes.
//!
//! Decoding is the `redis-protocol` crate's work, on frames the [scanner](crate::scan) found whole
//! and within limits: its RESP2 decoder for frames that use only RESP2 types (which also knows the
//! RESP2 nulls), its RESP3 decoder for the rest. It answers with positions, and the [`Value`]s
//! built from them share the bytes of the frame instead of copying them.

use bytes::Bytes;
use redis_protocol::{
    resp2::{decode::decode_range as decode_resp2, types::RangeFrame as Resp2},
    resp3::{
        decode::complete::decode_range as decode_resp3,
        types::{RangeFrame as Resp3, VerbatimStringFormat},
    },
};

use crate::{error::ProtocolError, scan::Frame, value::ServerError, value::Value};

/// Decodes one whole frame: `bytes` holds exactly the frame that `frame` describes.
///
/// The value keeps `bytes` alive for as long as one of its strings lives.
///
/// # Errors
/// [`ProtocolError::Decode`] when the decoder refuses what the scanner let pass, for instance an
/// aggregate as the key of a map.
pub fn decode(bytes: &Bytes, frame: Frame) -> Result<Value, ProtocolError> {
    if frame.resp3 {
        let (decoded, used) =
            decode_resp3(bytes).map_err(refused)?.ok_or(ProtocolError::Mismatch)?;
        if used != bytes.len() {
            return Err(ProtocolError::Mismatch);
        }
        from_resp3(bytes, decoded)
    } else {
        let (decoded, used) =
            decode_resp2(bytes).map_err(refused)?.ok_or(ProtocolError::Mismatch)?;
        if used != bytes.len() {
            return Err(ProtocolError::Mismatch);
        }
        Ok(from_resp2(bytes, decoded))
    }
}

fn refused(error: redis_protocol::error::RedisProtocolError) -> ProtocolError {
    ProtocolError::Decode(error.details().to_owned())
}

fn slice(bytes: &Bytes, (start, end): (usize, usize)) -> Bytes {
    bytes.slice(start..end)
}

fn server_error(bytes: &Bytes, (start, end): (usize, usize)) -> Value {
    Value::Error(ServerError::from_line(&bytes[start..end]))
}

fn from_resp2(bytes: &Bytes, frame: Resp2) -> Value {
    match frame {
        Resp2::BulkString(range) => Value::Bulk(slice(bytes, range)),
        Resp2::SimpleString(range) => Value::Simple(slice(bytes, range)),
        Resp2::Integer(number) => Value::Integer(number),
        Resp2::Error(range) => server_error(bytes, range),
        Resp2::Null => Value::Null,
        Resp2::Array(items) => {
            Value::Array(items.into_iter().map(|item| from_resp2(bytes, item)).collect())
        }
    }
}

fn from_resp3(bytes: &Bytes, frame: Resp3) -> Result<Value, ProtocolError> {
    let list = |items: Vec<Resp3>| -> Result<Vec<Value>, ProtocolError> {
        items.into_iter().map(|item| from_resp3(bytes, item)).collect()
    };
    Ok(match frame {
        Resp3::BlobString { data, .. } => Value::Bulk(slice(bytes, data)),
        Resp3::SimpleString { data, .. } => Value::Simple(slice(bytes, data)),
        Resp3::Number { data, .. } => Value::Integer(data),
        Resp3::Null => Value::Null,
        Resp3::Double { data, .. } => Value::Double(data),
        Resp3::Boolean { data, .. } => Value::Boolean(data),
        Resp3::BigNumber { data, .. } => Value::BigNumber(slice(bytes, data)),
        Resp3::SimpleError { data, .. } | Resp3::BlobError { data, .. } => {
            server_error(bytes, data)
        }
        Resp3::VerbatimString { data, format, .. } => Value::Verbatim {
            markdown: matches!(format, VerbatimStringFormat::Markdown),
            text: slice(bytes, data),
        },
        Resp3::Array { data, .. } => Value::Array(list(data)?),
        Resp3::Push { data, .. } => Value::Push(list(data)?),
        Resp3::Set { data, .. } => {
            // The decoder's sets and maps forget the order; positions bring the server's order
            // back.
            let mut items: Vec<Resp3> = data.into_iter().collect();
            items.sort_by_key(position);
            Value::Set(list(items)?)
        }
        Resp3::Map { data, .. } => {
            let mut entries: Vec<(Resp3, Resp3)> = data.into_iter().collect();
            entries.sort_by_key(|(key, _)| position(key));
            let entries = entries
                .into_iter()
                .map(|(key, value)| Ok((from_resp3(bytes, key)?, from_resp3(bytes, value)?)));
            Value::Map(entries.collect::<Result<_, ProtocolError>>()?)
        }
        Resp3::Hello { .. } | Resp3::ChunkedString(_) => return Err(ProtocolError::Mismatch),
    })
}

/// Where a string starts in its frame. Numbers carry no position and come first.
fn position(frame: &Resp3) -> usize {
    match frame {
        Resp3::BlobString { data, .. }
        | Resp3::SimpleString { data, .. }
        | Resp3::BigNumber { data, .. }
        | Resp3::VerbatimString { data, .. }
        | Resp3::SimpleError { data, .. }
        | Resp3::BlobError { data, .. } => data.0,
        _ => 0,
    }
}

/// Writes the header of a command with `count` parts (its name is the first).
pub(crate) fn encode_header(out: &mut Vec<u8>, count: usize) {
    encode_count(out, b'*', count);
}

/// Writes one part of a command, as a bulk string.
pub(crate) fn encode_part(out: &mut Vec<u8>, part: &[u8]) {
    encode_count(out, b'$', part.len());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

fn encode_count(out: &mut Vec<u8>, kind: u8, count: usize) {
    if count < 10 {
        // One digit, which is most of them.
        out.extend_from_slice(&[kind, b'0' + count as u8, b'\r', b'\n']);
        return;
    }
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::Limits, scan::Scanner};

    fn value(bytes: &'static [u8]) -> Result<Value, ProtocolError> {
        let frame = Scanner::new(Limits::default()).scan(bytes).expect("valid").expect("whole");
        decode(&Bytes::from_static(&bytes[..frame.len]), frame)
    }

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn frames_become_values() {
        assert_eq!(value(b"$-1\r\n"), Ok(Value::Null));
        assert_eq!(value(b"*-1\r\n"), Ok(Value::Null));
        assert_eq!(value(b"_\r\n"), Ok(Value::Null));
        assert_eq!(value(b"#t\r\n"), Ok(Value::Boolean(true)));
        assert_eq!(value(b",-inf\r\n"), Ok(Value::Double(f64::NEG_INFINITY)));
        assert_eq!(value(b"(123\r\n"), Ok(Value::BigNumber(Bytes::from_static(b"123"))));
        assert_eq!(
            value(b"=7\r\ntxt:abc\r\n"),
            Ok(Value::Verbatim { markdown: false, text: Bytes::from_static(b"abc") })
        );
        assert_eq!(
            value(b"*2\r\n-ERR a\r\n!5\r\nERR b\r\n"),
            Ok(Value::Array(vec![
                Value::Error(ServerError::from_line(b"ERR a")),
                Value::Error(ServerError::from_line(b"ERR b")),
            ]))
        );
        assert_eq!(
            value(b"%2\r\n$1\r\nz\r\n:1\r\n$1\r\na\r\n*1\r\n_\r\n"),
            Ok(Value::Map(vec![
                (bulk("z"), Value::Integer(1)),
                (bulk("a"), Value::Array(vec![Value::Null])),
            ]))
        );
        assert_eq!(
            value(b"~3\r\n$1\r\nc\r\n$1\r\nb\r\n$1\r\na\r\n"),
            Ok(Value::Set(vec![bulk("c"), bulk("b"), bulk("a")]))
        );
        assert_eq!(value(b">1\r\n$1\r\na\r\n"), Ok(Value::Push(vec![bulk("a")])));
    }

    #[test]
    fn an_aggregate_as_a_map_key_is_an_error() {
        assert!(matches!(value(b"%1\r\n*0\r\n:1\r\n"), Err(ProtocolError::Decode(_))));
    }

    #[test]
    fn values_share_the_bytes_of_their_frame() {
        let bytes = Bytes::from(b"$5\r\nhello\r\n".to_vec());
        let frame = Frame { len: bytes.len(), kind: b'$', resp3: false };
        let Ok(Value::Bulk(text)) = decode(&bytes, frame) else { panic!("a bulk string") };
        assert_eq!(text.as_ptr(), bytes[4..].as_ptr());
    }

    #[test]
    fn parts_are_written_as_bulk_strings() {
        let mut out = Vec::new();
        encode_header(&mut out, 2);
        encode_part(&mut out, b"GET");
        encode_part(&mut out, &[b'x'; 12]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$12\r\nxxxxxxxxxxxx\r\n");
    }
}
