//! The nonce: what a request carries and its reply must return.
//!
//! Sixteen hexadecimal digits: eight for the run, eight for the sequence number in it. Fixed width,
//! so that every request and every reply of a turn has the same length and the contestant `limit`
//! needs no parsing.
//!
//! Several processes may load one server at a time, and a counter of a turn that was killed may still be
//! there. So the runs of a process are numbered from a random number on.

/// Bytes of a nonce on the wire.
pub const NONCE_LEN: usize = 16;

/// The number of a process's first run. Two processes have the same number in the same moment once in four
/// thousand million times.
pub fn first_run() -> u32 {
    // 0 is the run of a server that was told of none.
    fastrand::u32(1..)
}

/// The number of the run after `run`.
pub fn next_run(run: u32) -> u32 {
    run.checked_add(1).unwrap_or(1)
}

/// A request's identity: which turn it belongs to and which request of the turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    digits: [u8; NONCE_LEN],
}

impl Nonce {
    /// The nonce of request `sequence` in turn `run`.
    pub fn new(run: u32, sequence: u32) -> Self {
        let mut digits = [0; NONCE_LEN];
        write_hex(run, &mut digits[..8]);
        write_hex(sequence, &mut digits[8..]);
        Self { digits }
    }

    /// The digits as they go over the wire.
    pub fn as_bytes(&self) -> &[u8; NONCE_LEN] {
        &self.digits
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).expect("hexadecimal digits are ASCII")
    }

    /// The run and the sequence number that `bytes` stand for; `None` when they are no nonce.
    pub fn parse(bytes: &[u8]) -> Option<(u32, u32)> {
        if bytes.len() != NONCE_LEN {
            return None;
        }
        Some((read_hex(&bytes[..8])?, read_hex(&bytes[8..])?))
    }
}

fn write_hex(value: u32, digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = DIGITS[(value >> (4 * place)) as usize & 0xf];
    }
}

fn read_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_survives_the_wire() {
        for (run, sequence) in [(0, 0), (1, u32::MAX), (0xdead_beef, 0x0123_4567)] {
            let nonce = Nonce::new(run, sequence);
            assert_eq!(Nonce::parse(nonce.as_bytes()), Some((run, sequence)));
        }
        assert_eq!(Nonce::new(0xab, 0x10).as_str(), "000000ab00000010");
    }

    #[test]
    fn runs_of_two_processes_differ() {
        assert_ne!(first_run(), first_run());
        assert_eq!([next_run(7), next_run(u32::MAX)], [8, 1]);
    }

    #[test]
    fn what_is_no_nonce_is_refused() {
        assert_eq!(Nonce::parse(b"00000001"), None);
        assert_eq!(Nonce::parse(b"0000000G00000000"), None);
        assert_eq!(Nonce::parse(b"+000000100000000"), None);
    }
}
