//! Commands, encoded while they are built.

use crate::{codec, effect::Effect};
use std::time::Duration;

/// Something that can be written to a server as one command.
///
/// Besides [`Command`] these are slices and arrays of strings or bytes, which are encoded straight
/// into the connection's buffer: `connection.query(&["GET", "key"])` allocates nothing for the
/// request.
pub trait Request: Sync {
    /// Appends the encoded command.
    fn encode(&self, out: &mut Vec<u8>);

    /// The parts as they were given: 0 is the name. `None` past the end.
    fn part(&self, index: usize) -> Option<&[u8]>;

    /// How many parts there are, the name included.
    fn len(&self) -> usize;

    /// Whether there is not even a name. Such a request is refused.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long the reply may take, when it differs from
    /// [`Settings::read_timeout`](crate::Settings). The outer `None` means no difference, the inner
    /// one no limit.
    fn read_timeout(&self) -> Option<Option<Duration>> {
        None
    }
}

/// The name of a command and the start of its arguments: `cmd("SET").arg("key").arg(5)`.
pub fn cmd(name: &str) -> Command {
    Command::new(name)
}

/// A command in its encoded form. Sending the same one again costs nothing to encode.
///
/// Some commands change the session of the connection (`MULTI`, `SELECT`, `SUBSCRIBE`, ...): see
/// [`Session`](crate::Session) for what happens then.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    parts: Vec<u8>,
    count: usize,
    read_timeout: Option<Option<Duration>>,
}

impl Command {
    /// A command without arguments yet. Any letter case will do. A name of several words is given
    /// word by word: `cmd("CLIENT").arg("LIST")`.
    pub fn new(name: &str) -> Self {
        let mut parts = Vec::with_capacity(64);
        codec::encode_part(&mut parts, name.as_bytes());
        Self { parts, count: 1, read_timeout: None }
    }

    /// Adds an argument (or several, for a slice or a tuple of them).
    #[must_use]
    pub fn arg(mut self, argument: impl Argument) -> Self {
        argument.write(&mut self);
        self
    }

    /// Sets how long the reply may take, instead of the connection's `read_timeout`. A blocking
    /// command (`BLPOP`, `XREAD BLOCK`, `WAIT`) needs more than its own timeout: go-redis adds 10
    /// s. Dropping the call is safe: what a `BLPOP` has not popped yet stays in the list, see
    /// [`Client::query`](crate::Client::query).
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = Some(Some(limit));
        self
    }

    /// Sets no time limit for the reply. Then only TCP keep-alive notices a dead peer.
    #[must_use]
    pub fn no_timeout(mut self) -> Self {
        self.read_timeout = Some(None);
        self
    }

    /// Adds one argument of any bytes.
    pub fn push(&mut self, argument: &[u8]) {
        codec::encode_part(&mut self.parts, argument);
        self.count += 1;
    }
}

/// Shows the name only: arguments may be secret.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.part(0).unwrap_or_default();
        write!(f, "Command({}, {} arguments)", name.escape_ascii(), self.count - 1)
    }
}

impl Request for Command {
    fn encode(&self, out: &mut Vec<u8>) {
        codec::encode_header(out, self.count);
        out.extend_from_slice(&self.parts);
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        let mut rest = &self.parts[..];
        let mut skip = index;
        loop {
            // Our own encoding: `$<length>\r\n<bytes>\r\n`.
            let line = memchr::memchr(b'\r', rest)?;
            let length =
                rest[1..line].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
            let start = line + 2;
            if skip == 0 {
                return rest.get(start..start + length);
            }
            skip -= 1;
            rest = rest.get(start + length + 2..)?;
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    fn read_timeout(&self) -> Option<Option<Duration>> {
        self.read_timeout
    }
}

impl<P: AsRef<[u8]> + Sync> Request for [P] {
    fn encode(&self, out: &mut Vec<u8>) {
        codec::encode_header(out, self.len());
        for part in self {
            codec::encode_part(out, part.as_ref());
        }
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        self.get(index).map(AsRef::as_ref)
    }

    fn len(&self) -> usize {
        <[P]>::len(self)
    }
}

impl<P: AsRef<[u8]> + Sync, const N: usize> Request for [P; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        self.as_slice().part(index)
    }

    fn len(&self) -> usize {
        N
    }
}

/// The effect of a request on the session, from its name and first words.
pub(crate) fn effect_of<R: Request + ?Sized>(request: &R) -> Effect {
    match request.part(0) {
        Some(name) => Effect::of(name, |index| request.part(index), request.len()),
        None => Effect::None,
    }
}

/// Something that can be an argument: bytes, text, numbers, and slices, options and pairs of them.
pub trait Argument {
    /// Adds it to `command`; nothing for `None` and empty slices.
    fn write(&self, command: &mut Command);
}

impl<T: Argument + ?Sized> Argument for &T {
    fn write(&self, command: &mut Command) {
        (**self).write(command);
    }
}

macro_rules! bytes_argument {
    ($($type:ty),*) => {$(
        impl Argument for $type {
            fn write(&self, command: &mut Command) {
                command.push(self.as_ref());
            }
        }
    )*};
}

bytes_argument!(str, String, [u8], Vec<u8>, bytes::Bytes);

impl<const N: usize> Argument for [u8; N] {
    fn write(&self, command: &mut Command) {
        command.push(self);
    }
}

macro_rules! integer_argument {
    ($($type:ty),*) => {$(
        impl Argument for $type {
            fn write(&self, command: &mut Command) {
                command.push(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}

integer_argument!(i16, u16, i32, u32, i64, u64, isize, usize);

/// In the shortest form that reads back as the same number.
impl Argument for f64 {
    fn write(&self, command: &mut Command) {
        command.push(self.to_string().as_bytes());
    }
}

impl<T: Argument> Argument for Option<T> {
    fn write(&self, command: &mut Command) {
        if let Some(argument) = self {
            argument.write(command);
        }
    }
}

/// Each text is a separate argument.
impl Argument for [&str] {
    fn write(&self, command: &mut Command) {
        self.iter().for_each(|argument| argument.write(command));
    }
}

/// Each text is a separate argument.
impl Argument for [String] {
    fn write(&self, command: &mut Command) {
        self.iter().for_each(|argument| argument.write(command));
    }
}

impl<A: Argument, B: Argument> Argument for (A, B) {
    fn write(&self, command: &mut Command) {
        self.0.write(command);
        self.1.write(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(request: &(impl Request + ?Sized)) -> String {
        let mut out = Vec::new();
        request.encode(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn commands_and_arrays_encode_alike() {
        let command = cmd("SET").arg("key").arg(-5).arg(("PX", 1500_u64)).arg(None::<&str>);
        let expected = "*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2\r\n-5\r\n$2\r\nPX\r\n$4\r\n1500\r\n";
        assert_eq!(encoded(&command), expected);
        assert_eq!(encoded(&["SET", "key", "-5", "PX", "1500"]), expected);
        assert_eq!(encoded(&cmd("DEL").arg(&["a", "b"][..])), encoded(&["DEL", "a", "b"]));
    }

    #[test]
    fn parts_are_found_again() {
        let command = cmd("A").arg("").arg(b"\r\n$1\r\n").arg("last");
        assert_eq!(command.part(0), Some(&b"A"[..]));
        assert_eq!(command.part(1), Some(&b""[..]));
        assert_eq!(command.part(2), Some(&b"\r\n$1\r\n"[..]));
        assert_eq!(command.part(3), Some(&b"last"[..]));
        assert_eq!(command.part(4), None);
    }

    #[test]
    fn debug_shows_no_arguments() {
        let shown = format!("{:?}", cmd("AUTH").arg("hunter2"));
        assert_eq!(shown, "Command(AUTH, 1 arguments)");
    }
}
