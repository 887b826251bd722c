//! Where a response's body ends, and whether the connection can be used again after it
//! (RFC 9112 sections 6.3 and 9.3).
//!
//! A connection is reused only after a message that was framed beyond doubt. A message that two
//! readers could understand in two ways is an error here, because on a reused connection the
//! difference becomes the response to another caller's request.

use std::time::Duration;

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::chunked::{ChunkedDecoder, Step};
use crate::config::Limits;
use crate::error::ProtocolError;
use crate::head::ResponseHead;

/// How a request's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    /// No body, and no header about it.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Reads one response body out of a connection's buffer.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    /// This many bytes are left; 0 for every response without a body.
    Length(u64),
    /// The chunked coding.
    Chunked(ChunkedDecoder),
    /// Everything until the peer closes.
    UntilClose,
}

impl BodyDecoder {
    /// Takes as many bytes as possible from the front of `buf`.
    pub(crate) fn decode(
        &mut self,
        buf: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Step, ProtocolError> {
        match self {
            Self::Length(0) => Ok(Step::End),
            Self::Chunked(decoder) => decoder.decode(buf, limits),
            _ if buf.is_empty() => Ok(Step::More),
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= take as u64;
                Ok(Step::Data(buf.split_to(take).freeze()))
            }
            Self::UntilClose => Ok(Step::Data(buf.split().freeze())),
        }
    }

    /// Whether the body is known to be over without reading further.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// How many bytes of the body are left, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

/// How to read the body after a response head.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// How the body is read.
    pub(crate) decoder: BodyDecoder,
    /// Whether the connection may carry another request once the body is over.
    pub(crate) reusable: bool,
}

/// A connection is not kept for all of the time that its peer announced, because a request that is on
/// its way when the peer closes is lost. The connection is closed earlier by this time, or by a
/// quarter of a short time.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// The headers of a response that concern its body and its connection. They are read while the
/// headers are parsed, so that they need not be looked up again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signals {
    length: Option<u64>,
    length_in_doubt: bool,
    /// Lines of `Transfer-Encoding`.
    codings: u8,
    chunked: bool,
    options: Options,
    /// Seconds, from `Keep-Alive: timeout`.
    keep_alive: Option<u32>,
}

impl Signals {
    /// Looks at one header line.
    #[inline]
    pub(crate) fn read(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == header::CONTENT_LENGTH {
            match parse_length(value.as_bytes()) {
                // Repeated lines must agree exactly.
                Ok(length) if self.length.is_none_or(|other| other == length) => {
                    self.length = Some(length);
                }
                _ => self.length_in_doubt = true,
            }
        } else if *name == header::TRANSFER_ENCODING {
            self.codings = self.codings.saturating_add(1);
            self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
        } else if *name == header::CONNECTION {
            self.options.read(value);
        } else if name.as_str() == "keep-alive" {
            self.keep_alive = keep_alive_timeout(value).or(self.keep_alive);
        }
    }

    /// For how long the connection may be idle before the next request, if the peer announced it
    /// (`Keep-Alive: timeout`), less a margin.
    pub(crate) fn idle_limit(&self) -> Option<Duration> {
        let announced = Duration::from_secs(self.keep_alive?.into());
        Some(announced - KEEP_ALIVE_MARGIN.min(announced / 4))
    }

    /// Whether the body is chunked. Codings that the client did not ask for, and every coding from an
    /// HTTP/1.0 server, are an error (RFC 9112 section 6.1).
    fn is_chunked(&self, version: Version) -> Result<bool, ProtocolError> {
        match self.codings {
            0 => Ok(false),
            1 if self.chunked && version == Version::HTTP_11 => Ok(true),
            _ => Err(ProtocolError::TransferEncoding),
        }
    }

    /// Whether the sender is willing to keep the connection (RFC 9112 section 9.3).
    fn is_persistent(&self, version: Version) -> bool {
        !self.options.close
            && self.keep_alive != Some(0)
            && (version == Version::HTTP_11 || self.options.keep_alive)
    }
}

/// Decides how to read the body of the answer `head` to a request with `method`, and whether the
/// connection may be used again.
pub(crate) fn decide(method: &Method, head: &ResponseHead) -> Result<Delivery, ProtocolError> {
    let signals = &head.signals;
    if signals.length_in_doubt {
        return Err(ProtocolError::ContentLength);
    }
    let length = signals.length;
    let chunked = signals.is_chunked(head.version)?;
    if chunked && length.is_some() {
        return Err(ProtocolError::LengthAndTransferEncoding);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        || (method == Method::CONNECT && head.status.is_success())
    {
        return Ok(Delivery { decoder: BodyDecoder::UntilClose, reusable: false });
    }
    let reusable = signals.is_persistent(head.version) && method != Method::CONNECT;
    if method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
        return Ok(Delivery { decoder: BodyDecoder::Length(0), reusable });
    }
    if head.status == StatusCode::NO_CONTENT {
        // A length here is forbidden; a server that sends one may also send the body.
        let reusable = reusable && !chunked && length.unwrap_or(0) == 0;
        return Ok(Delivery { decoder: BodyDecoder::Length(0), reusable });
    }
    Ok(match length {
        Some(length) => Delivery { decoder: BodyDecoder::Length(length), reusable },
        None if chunked => {
            Delivery { decoder: BodyDecoder::Chunked(ChunkedDecoder::new()), reusable }
        }
        None => Delivery { decoder: BodyDecoder::UntilClose, reusable: false },
    })
}

/// A `Content-Length` that is not one number.
#[derive(Debug)]
pub(crate) struct InvalidLength;

/// The `Content-Length` of a request, if there is one. Repeated lines must agree exactly.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, InvalidLength> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let length = parse_length(first.as_bytes())?;
    for value in values {
        if parse_length(value.as_bytes())? != length {
            return Err(InvalidLength);
        }
    }
    Ok(Some(length))
}

/// `1*DIGIT` and nothing else: no sign, no list, no overflow.
fn parse_length(text: &[u8]) -> Result<u64, InvalidLength> {
    if text.is_empty() {
        return Err(InvalidLength);
    }
    text.iter().try_fold(0_u64, |length, &byte| {
        let digit = char::from(byte).to_digit(10).ok_or(InvalidLength)?;
        length.checked_mul(10).and_then(|n| n.checked_add(digit.into())).ok_or(InvalidLength)
    })
}

/// The `timeout` of a `Keep-Alive` header, in seconds. Anything else in it is left alone: the header
/// is a hint, described nowhere but in RFC 2068 section 19.7.1 and its sequels.
fn keep_alive_timeout(value: &HeaderValue) -> Option<u32> {
    value.as_bytes().split(|&byte| byte == b',').find_map(|parameter| {
        let (name, seconds) = parameter.split_at(parameter.iter().position(|&it| it == b'=')?);
        if !name.trim_ascii().eq_ignore_ascii_case(b"timeout") {
            return None;
        }
        let seconds = parse_length(seconds[1..].trim_ascii()).ok()?;
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    })
}

/// Whether a request's `Connection` header asks to close.
pub(crate) fn asks_to_close(value: &HeaderValue) -> bool {
    let mut options = Options::default();
    options.read(value);
    options.close
}

/// Whether a request's `Connection` header has the option `upgrade`.
pub(crate) fn asks_to_upgrade(value: &HeaderValue) -> bool {
    let mut options = value.as_bytes().split(|&byte| byte == b',');
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Whether a request's `Connection` header names a field that says where the request ends or goes.
/// A proxy removes the fields named there (RFC 9110 section 7.6.1), so the next server would see
/// another message.
pub(crate) fn gives_up_framing(value: &HeaderValue) -> bool {
    value.as_bytes().split(|&byte| byte == b',').any(|option| {
        let option = option.trim_ascii();
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST]
            .iter()
            .any(|name| option.eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// The options of `Connection` that matter for reuse.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
}

impl Options {
    fn read(&mut self, value: &HeaderValue) {
        for option in value.as_bytes().split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(
        version: Version,
        status: u16,
        fields: &[(&'static str, &'static str)],
    ) -> ResponseHead {
        let mut signals = Signals::default();
        for (name, value) in fields {
            signals.read(&HeaderName::from_static(name), &HeaderValue::from_static(value));
        }
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), HeaderMap::new());
        ResponseHead { status, version, headers, signals }
    }

    fn answer(
        method: Method,
        version: Version,
        status: u16,
        fields: &[(&'static str, &'static str)],
    ) -> Result<(String, bool), ProtocolError> {
        let delivery = decide(&method, &head(version, status, fields))?;
        let name = match delivery.decoder {
            BodyDecoder::Length(length) => length.to_string(),
            BodyDecoder::Chunked(_) => "chunked".to_owned(),
            BodyDecoder::UntilClose => "until close".to_owned(),
        };
        Ok((name, delivery.reusable))
    }

    const V1: Version = Version::HTTP_11;
    const V0: Version = Version::HTTP_10;

    #[test]
    fn the_body_ends_where_rfc_9112_section_6_3_says() {
        for (method, version, status, fields, end, reusable) in [
            (Method::GET, V1, 200, &[("content-length", "5")][..], "5", true),
            (Method::GET, V1, 200, &[("content-length", "0")], "0", true),
            (Method::GET, V1, 200, &[("content-length", "007")], "7", true),
            (Method::GET, V1, 200, &[("content-length", "5"), ("content-length", "5")], "5", true),
            (Method::GET, V1, 200, &[("transfer-encoding", "Chunked")], "chunked", true),
            (Method::GET, V1, 200, &[], "until close", false),
            (Method::GET, V1, 200, &[("connection", "keep-alive")], "until close", false),
            (Method::HEAD, V1, 200, &[("content-length", "5")], "0", true),
            (Method::HEAD, V1, 200, &[("transfer-encoding", "chunked")], "0", true),
            (Method::HEAD, V1, 200, &[], "0", true),
            (Method::GET, V1, 304, &[("content-length", "5")], "0", true),
            (Method::GET, V1, 204, &[], "0", true),
            (Method::GET, V1, 204, &[("content-length", "0")], "0", true),
            (Method::GET, V1, 204, &[("content-length", "5")], "0", false),
            (Method::GET, V1, 204, &[("transfer-encoding", "chunked")], "0", false),
            (Method::GET, V1, 205, &[("content-length", "5")], "5", true),
            (Method::GET, V1, 101, &[("content-length", "5")], "until close", false),
            (Method::CONNECT, V1, 200, &[("content-length", "5")], "until close", false),
            (Method::CONNECT, V1, 407, &[("content-length", "5")], "5", false),
        ] {
            let got = answer(method.clone(), version, status, fields);
            assert_eq!(got, Ok((end.to_owned(), reusable)), "{method} {status} {fields:?}");
        }
    }

    #[test]
    fn either_side_may_refuse_to_keep_the_connection() {
        for (version, connection, reusable) in [
            (V1, "close", false),
            (V1, "Close", false),
            (V1, "x , close", false),
            (V1, "closed", true),
            (V1, "keep-alive", true),
            (V1, "keep-alive, close", false),
            (V0, "keep-alive", true),
            (V0, "Upgrade, Keep-Alive", true),
            (V0, "x", false),
        ] {
            let fields = [("content-length", "1"), ("connection", connection)];
            let got = answer(Method::GET, version, 200, &fields);
            assert_eq!(got, Ok(("1".to_owned(), reusable)), "{version:?} {connection}");
        }
        let got = answer(Method::GET, V0, 200, &[("content-length", "1")]);
        assert_eq!(got, Ok(("1".to_owned(), false)));
    }

    #[test]
    fn a_keep_alive_timeout_is_respected_with_a_margin() {
        let seconds = |text| Some(Duration::from_secs_f64(text));
        for (value, limit) in [
            ("timeout=1", seconds(0.75)),
            ("timeout=2, max=100", seconds(1.5)),
            ("max=5, Timeout = 5", seconds(4.0)),
            ("timeout=60", seconds(59.0)),
            ("timeout=0", seconds(0.0)),
            ("timeout=99999999999", seconds(f64::from(u32::MAX) - 1.0)),
            ("timeout", None),
            ("timeout=", None),
            ("timeout=-1", None),
            ("timeout=5s", None),
            ("x-timeout=5", None),
            ("max=5", None),
        ] {
            let head = head(V1, 200, &[("keep-alive", value)]);
            assert_eq!(head.signals.idle_limit(), limit, "{value}");
        }
        // No time at all means that the peer closes.
        let fields = [("content-length", "1"), ("keep-alive", "timeout=0")];
        assert_eq!(answer(Method::GET, V1, 200, &fields), Ok(("1".to_owned(), false)));
    }

    #[test]
    fn a_length_in_doubt_is_an_error() {
        for value in
            ["", "+5", "-5", "5,5", "5 5", "0x5", "5.0", "18446744073709551616", "five", "5;q=1"]
        {
            for method in [Method::GET, Method::HEAD] {
                let got = answer(method, V1, 200, &[("content-length", value)]);
                assert_eq!(got, Err(ProtocolError::ContentLength), "{value:?}");
            }
        }
        let got = answer(Method::GET, V1, 200, &[("content-length", "5"), ("content-length", "6")]);
        assert_eq!(got, Err(ProtocolError::ContentLength));
        let got = answer(Method::GET, V1, 200, &[("content-length", "18446744073709551615")]);
        assert_eq!(got, Ok((u64::MAX.to_string(), true)));
    }

    #[test]
    fn a_transfer_encoding_in_doubt_is_an_error() {
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(
            answer(Method::GET, V1, 200, &both),
            Err(ProtocolError::LengthAndTransferEncoding)
        );
        for value in ["", "gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked"] {
            let got = answer(Method::GET, V1, 200, &[("transfer-encoding", value)]);
            assert_eq!(got, Err(ProtocolError::TransferEncoding), "{value:?}");
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(answer(Method::GET, V1, 200, &twice), Err(ProtocolError::TransferEncoding));
        let old = answer(Method::GET, V0, 200, &[("transfer-encoding", "chunked")]);
        assert_eq!(old, Err(ProtocolError::TransferEncoding));
    }
}
