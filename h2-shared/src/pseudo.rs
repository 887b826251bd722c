//! Checks the first fields of a header block for pseudo-header fields that do not belong there.
//!
//! h2 refuses pseudo-header fields after others and a response without `:status`, and drops other
//! pseudo-header fields of a response or its trailers. RFC 9113, 8.1 and 8.3 call such a message
//! malformed. Decoding all blocks a second time would cost more than it is worth, so a field that is only
//! an index into the dynamic table counts as harmless: the block that entered it there was checked.

/// The block begins with padding of a length that is given first.
const PADDED: u8 = 0x8;
/// The block follows five bytes about priority.
const PRIORITY: u8 = 0x20;
/// `:` in the Huffman code of HPACK: the first seven bits (RFC 7541, appendix B).
const HUFFMAN_COLON: u8 = 0b101_1100;

/// How a header block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With a field like any other, or one that is not known.
    Regular,
    /// With a pseudo-header field that a response may have.
    Pseudo,
    /// With a pseudo-header field that only requests have, or with several.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Status,
    OfRequests,
    Regular,
    Unknown,
}

/// How the block of a HEADERS frame begins, as far as `payload` has it.
pub(crate) fn start(flags: u8, payload: &[u8]) -> Start {
    let skipped = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let mut block = Block(payload.get(skipped..).unwrap_or(&[]));
    let first = block.next_name();
    let second = block.next_name();
    match (first, second) {
        (Some(Name::OfRequests), _) => Start::Bad,
        (Some(Name::Status | Name::Unknown), Some(Name::Status | Name::OfRequests)) => Start::Bad,
        (Some(Name::Status), _) => Start::Pseudo,
        _ => Start::Regular,
    }
}

/// What is left of a header block (RFC 7541, 6).
struct Block<'a>(&'a [u8]);

impl Block<'_> {
    /// The name of the next field; `None` where the bytes end.
    fn next_name(&mut self) -> Option<Name> {
        while *self.0.first()? & 0b1110_0000 == 0b0010_0000 {
            self.integer(5)?; // a new size of the dynamic table
        }
        let first = *self.0.first()?;
        if first & 0b1000_0000 != 0 {
            return Some(indexed(self.integer(7)?));
        }
        let index = self.integer(if first & 0b0100_0000 != 0 { 6 } else { 4 })?;
        let name = if index == 0 { self.string().map(named)? } else { indexed(index) };
        // A field whose value is cut off still counts, but there is none after it.
        if self.string().is_none() {
            self.0 = &[];
        }
        Some(name)
    }

    /// An integer with a prefix of so many bits (RFC 7541, 5.1).
    fn integer(&mut self, prefix: u8) -> Option<usize> {
        let most = (1_usize << prefix) - 1;
        let (first, mut rest) = self.0.split_first()?;
        let mut value = usize::from(*first) & most;
        if value == most {
            for shift in [0, 7, 14, 21] {
                let (byte, after) = rest.split_first()?;
                rest = after;
                value += (usize::from(*byte) & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        self.0 = rest;
        Some(value)
    }

    /// A string, and whether it is in the Huffman code; what of it has come.
    fn string(&mut self) -> Option<(bool, &[u8])> {
        let huffman = *self.0.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((huffman, string))
    }
}

/// The names of the static table (RFC 7541, appendix A).
fn indexed(index: usize) -> Name {
    match index {
        1..=7 => Name::OfRequests,
        8..=14 => Name::Status,
        15..=61 => Name::Regular,
        _ => Name::Unknown,
    }
}

fn named((huffman, name): (bool, &[u8])) -> Name {
    match (huffman, name) {
        (false, b":status") => Name::Status,
        (false, [b':', ..]) => Name::OfRequests,
        // Peers take `:status` from the static table, so a name that is spelled out is another one. If it
        // is `:status` after all, h2's own check of the response decides.
        (true, [first, ..]) if first >> 1 == HUFFMAN_COLON => Name::Unknown,
        _ => Name::Regular,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A literal field without indexing, its name spelled out.
    fn literal(name: &str, value: &str) -> Vec<u8> {
        let mut field = vec![0, u8::try_from(name.len()).unwrap()];
        field.extend(name.bytes());
        field.push(u8::try_from(value.len()).unwrap());
        field.extend(value.bytes());
        field
    }

    #[test]
    fn responses_and_trailers_as_they_are_sent_pass() {
        assert_eq!(start(0, &[0x88]), Start::Pseudo);
        // A new size of the table, `:status: 307` by its name's index, then `server: x`.
        let block = [&[0x3f, 0xe1, 0x1f, 0x48, 3][..], b"307", &[0x76, 1, b'x']].concat();
        assert_eq!(start(0, &block), Start::Pseudo);
        assert_eq!(start(0, &literal("grpc-status", "0")), Start::Regular);
        assert_eq!(start(0, &[0xbe, 0xbf]), Start::Regular, "entries of the dynamic table");
        assert_eq!(start(0, &[]), Start::Regular);
    }

    #[test]
    fn fields_of_requests_are_found_first_and_second() {
        let path = literal(":path", "/");
        for block in [path.clone(), [vec![0x88], path.clone()].concat(), vec![0x88, 0x84]] {
            assert_eq!(start(0, &block), Start::Bad, "{block:?}");
        }
        assert_eq!(start(0, &[0x88, 0x88]), Start::Bad, "twice");
        assert_eq!(start(0, &[vec![0xbe], path].concat()), Start::Bad);
    }

    #[test]
    fn padding_and_priority_come_before_the_block() {
        let block = [&[2][..], &[0; 5], &[0x84], &[0, 0]].concat();
        assert_eq!(start(PADDED | PRIORITY, &block), Start::Bad);
    }

    #[test]
    fn any_bytes_are_survived() {
        for first in 0..=u8::MAX {
            for length in 0..12 {
                let mut block = vec![first];
                block.extend(vec![0xff; length]);
                start(0xff, &block);
                start(0, &block);
            }
        }
    }
}
