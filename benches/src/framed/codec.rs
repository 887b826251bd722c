//! The frame of the plain TCP template: 4-byte big-endian length of the body, 8-byte request id,
//! body. The delimiting is tokio-util's; this file adds the id.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// The longest body that is read or written: 1 MiB. A longer one is an error before anything is
/// allocated for it.
pub const MAX_BODY: usize = 1024 * 1024;

const ID_LEN: usize = 8;

/// One message, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the client, returned by the server.
    pub id: u64,
    /// What the server echoes.
    pub body: Bytes,
}

/// Reads and writes [`Frame`]s.
#[derive(Debug)]
pub struct FrameCodec {
    delimiter: LengthDelimitedCodec,
}

impl FrameCodec {
    /// A codec at the start of a frame.
    pub fn new() -> Self {
        // The length field counts the body alone, so the delimiter adds the id to it, after it has
        // compared the field with its limit.
        let delimiter = LengthDelimitedCodec::builder()
            .big_endian()
            .length_field_length(4)
            .length_adjustment(ID_LEN as isize)
            .max_frame_length(MAX_BODY)
            .new_codec();
        Self { delimiter }
    }
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = std::io::Error;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Self::Error> {
        Ok(self.delimiter.decode(input)?.map(|mut frame| {
            // The delimiter never returns fewer bytes than the adjustment.
            let id = frame.get_u64();
            Frame { id, body: frame.freeze() }
        }))
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = std::io::Error;

    fn encode(&mut self, frame: Frame, output: &mut BytesMut) -> Result<(), Self::Error> {
        if frame.body.len() > MAX_BODY {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "the body is longer than a frame may be",
            ));
        }
        // Written here and not by the delimiter, which needs head and body in one buffer.
        output.reserve(4 + ID_LEN + frame.body.len());
        output.put_u32(frame.body.len() as u32);
        output.put_u64(frame.id);
        output.extend_from_slice(&frame.body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, body: &'static [u8]) -> Frame {
        Frame { id, body: Bytes::from_static(body) }
    }

    #[test]
    fn frames_survive_delivery_byte_by_byte_and_all_at_once() {
        let frames = [frame(1, b"one"), frame(u64::MAX, b""), frame(3, b"three")];
        let mut wire = BytesMut::new();
        for frame in &frames {
            FrameCodec::new().encode(frame.clone(), &mut wire).unwrap();
        }
        assert_eq!(wire.len(), 3 * 12 + 8);

        let mut codec = FrameCodec::new();
        let (mut input, mut got) = (BytesMut::new(), Vec::new());
        for byte in wire.iter() {
            input.put_u8(*byte);
            got.extend(codec.decode(&mut input).unwrap());
        }
        assert_eq!(got, frames);

        let mut codec = FrameCodec::new();
        let got: Vec<_> = std::iter::from_fn(|| codec.decode(&mut wire).unwrap()).collect();
        assert_eq!(got, frames);
    }

    #[test]
    fn an_oversized_length_is_an_error_before_its_bytes_arrive() {
        for length in [MAX_BODY as u32 + 1, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            let before = input.capacity();
            assert!(FrameCodec::new().decode(&mut input).is_err());
            assert!(input.capacity() <= before);
        }
    }
}
