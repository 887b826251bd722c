//! A reply as the server typed it.

use std::fmt;

use bytes::Bytes;

use crate::{command_table, text::Shown};

/// A reply, or a part of one.
///
/// Strings share the buffer they were read into, so keeping a short string keeps its neighbours in
/// memory (a read buffer of 2 to 64 KiB, or its frame); convert to `String` or `Vec<u8>` to keep a
/// copy instead. Attributes (`|`) are read and dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value: RESP3 `_`, RESP2 `$-1` and `*-1`.
    Null,
    /// A whole number (`:`).
    Integer(i64),
    /// A floating point number (`,`, RESP3). May be infinite or not a number.
    Double(f64),
    /// A truth value (`#`, RESP3).
    Boolean(bool),
    /// A status such as `OK` (`+`).
    Simple(Bytes),
    /// A string of any bytes (`$`).
    Bulk(Bytes),
    /// A text meant for people (`=`, RESP3).
    Verbatim {
        /// Whether the text is Markdown (`mkd`) rather than plain (`txt`).
        markdown: bool,
        /// The text, without the format.
        text: Bytes,
    },
    /// A whole number of any size, in decimal (`(`, RESP3).
    BigNumber(Bytes),
    /// An ordered list (`*`).
    Array(Vec<Value>),
    /// Pairs (`%`, RESP3), in the order in which they came as far as keys are strings.
    Map(Vec<(Value, Value)>),
    /// A list without order (`~`, RESP3).
    Set(Vec<Value>),
    /// Something the server sent on its own (`>`, RESP3).
    Push(Vec<Value>),
    /// The server's refusal (`-`, `!`). As a whole reply it is turned into
    /// [`Error::Server`](crate::Error); inside a pipeline or transaction it stands in the place of
    /// its command's reply.
    Error(ServerError),
}

impl Value {
    /// The bytes of a string of any kind, `None` for everything else.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::BigNumber(bytes) => Some(bytes),
            Self::Verbatim { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is the status `OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if &text[..] == b"OK")
    }

    /// The type in words, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "integer",
            Self::Double(_) => "double",
            Self::Boolean(_) => "boolean",
            Self::Simple(_) => "simple string",
            Self::Bulk(_) => "bulk string",
            Self::Verbatim { .. } => "verbatim string",
            Self::BigNumber(_) => "big number",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Set(_) => "set",
            Self::Push(_) => "push",
            Self::Error(_) => "error",
        }
    }
}

/// An error reply: the server understood the frame and refused the command. The connection stays
/// usable.
///
/// The first word is the [`code`](Self::code), by which programs tell errors apart.
///
/// `Display` and `Debug` escape control characters and show at most [`SHOWN`](Self::SHOWN) bytes of
/// the text; [`code`](Self::code) and [`message`](Self::message) give it as the server sent it.
#[derive(Clone)]
pub struct ServerError {
    line: Box<str>,
    code: u32,
    /// Whether it is known that nothing was carried out. Not part of what the server said.
    nothing_ran: bool,
}

impl PartialEq for ServerError {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line
    }
}

impl Eq for ServerError {}

impl std::hash::Hash for ServerError {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.line.hash(state);
    }
}

impl ServerError {
    /// How much of the text `Display` and `Debug` show, in bytes: 1 KiB.
    pub const SHOWN: usize = 1024;

    /// How much of the text is kept, in bytes as they came: 64 KiB. An error can outlive its reply by
    /// hours.
    pub const KEPT: usize = 64 * 1024;

    /// Takes the text of an error reply, up to [`KEPT`](Self::KEPT) bytes. Bytes that are not UTF-8
    /// are replaced.
    pub fn from_line(line: &[u8]) -> Self {
        let line = text_of(&line[..line.len().min(Self::KEPT)]);
        let code = line.find(' ').unwrap_or(line.len());
        // Far below 4 GiB, see `KEPT`.
        Self { code: u32::try_from(code).unwrap_or(0), line, nothing_ran: false }
    }

    /// The most memory that [`from_line`](Self::from_line) takes for a text of `length` bytes: a byte
    /// that is not UTF-8 is replaced by three.
    pub(crate) fn memory_for(length: usize) -> usize {
        3 * length.min(Self::KEPT)
    }

    /// The same, as the reply to the command of this name: whether it proves that nothing ran.
    pub(crate) fn answering(mut self, name: Option<&[u8]>) -> Self {
        self.nothing_ran =
            self.kind().is_retryable() && name.is_some_and(command_table::is_built_in);
        self
    }

    /// The same, as what a server said before any command was sent.
    pub(crate) fn before_any_command(mut self) -> Self {
        self.nothing_ran = true;
        self
    }

    /// Whether it is no answer to a command: the server does not want the connection, or cannot read
    /// what comes on it, and closes. The first is said before any answer (`is_first`) or never.
    pub(crate) fn refuses_connection(&self, is_first: bool) -> bool {
        (self.code() == "ERR" && self.message().starts_with("Protocol error"))
            || (is_first && (self.kind() == ServerErrorKind::MaxClients || self.code() == "DENIED"))
    }

    /// Whether the text holds `secret`.
    pub(crate) fn repeats(&self, secret: &str) -> bool {
        self.line.contains(secret)
    }

    pub(crate) fn proves_nothing_ran(&self) -> bool {
        self.nothing_ran
    }

    /// The first word: `ERR`, `WRONGTYPE`, `NOAUTH`, `LOADING`, ...
    pub fn code(&self) -> &str {
        &self.line[..self.code as usize]
    }

    /// Everything after the code.
    pub fn message(&self) -> &str {
        self.line[self.code as usize..].trim_start()
    }

    /// The code as one of those this crate knows.
    pub fn kind(&self) -> ServerErrorKind {
        match self.code() {
            "WRONGTYPE" => ServerErrorKind::WrongType,
            "NOAUTH" => ServerErrorKind::NoAuth,
            "WRONGPASS" => ServerErrorKind::WrongPass,
            "NOPERM" => ServerErrorKind::NoPermission,
            "NOSCRIPT" => ServerErrorKind::NoScript,
            "NOPROTO" => ServerErrorKind::NoProtocol,
            "EXECABORT" => ServerErrorKind::ExecAbort,
            "LOADING" => ServerErrorKind::Loading,
            "READONLY" => ServerErrorKind::ReadOnly,
            "MASTERDOWN" => ServerErrorKind::MasterDown,
            "CLUSTERDOWN" => ServerErrorKind::ClusterDown,
            "TRYAGAIN" => ServerErrorKind::TryAgain,
            "NOREPLICAS" => ServerErrorKind::NoReplicas,
            "BUSY" => ServerErrorKind::Busy,
            "OOM" => ServerErrorKind::OutOfMemory,
            "MOVED" => ServerErrorKind::Moved,
            "ASK" => ServerErrorKind::Ask,
            "ERR" if self.message().starts_with("max number of clients") => {
                ServerErrorKind::MaxClients
            }
            _ => ServerErrorKind::Other,
        }
    }
}

/// The same as `String::from_utf8_lossy`, but allocated once and at its exact size.
fn text_of(bytes: &[u8]) -> Box<str> {
    let pieces = || {
        bytes.utf8_chunks().flat_map(|chunk| {
            [chunk.valid(), if chunk.invalid().is_empty() { "" } else { "\u{fffd}" }]
        })
    };
    let mut text = String::with_capacity(pieces().map(str::len).sum());
    text.extend(pieces());
    text.into_boxed_str()
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown { text: &self.line, most: Self::SHOWN }.fmt(f)
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

impl std::error::Error for ServerError {}

/// The error codes that callers commonly act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerErrorKind {
    /// `WRONGTYPE`: the key holds another type of value.
    WrongType,
    /// `NOAUTH`: the server wants credentials first.
    NoAuth,
    /// `WRONGPASS`: the credentials are wrong.
    WrongPass,
    /// `NOPERM`: the user may not do this.
    NoPermission,
    /// `NOSCRIPT`: the server does not know this script.
    NoScript,
    /// `NOPROTO`: the server does not speak the protocol version asked for.
    NoProtocol,
    /// `EXECABORT`: the transaction was discarded because a command in it was refused.
    ExecAbort,
    /// `LOADING`: the server reads its data set into memory.
    Loading,
    /// `READONLY`: a write was sent to a replica.
    ReadOnly,
    /// `MASTERDOWN`: a replica lost its primary.
    MasterDown,
    /// `CLUSTERDOWN`: the cluster does not serve this slot.
    ClusterDown,
    /// `TRYAGAIN`: keys of the command are being moved.
    TryAgain,
    /// `NOREPLICAS`: too few replicas to accept a write.
    NoReplicas,
    /// `BUSY`: a script runs.
    Busy,
    /// `OOM`: out of memory.
    OutOfMemory,
    /// `MOVED`: another node has this slot.
    Moved,
    /// `ASK`: another node has this slot for now.
    Ask,
    /// `ERR max number of clients reached`: the server had no room for this connection.
    MaxClients,
    /// Everything else; see [`ServerError::code`].
    Other,
}

impl ServerErrorKind {
    /// Whether the same command may succeed a little later. Whether it was executed is another
    /// question, see [`Error::may_have_executed`](crate::Error::may_have_executed).
    ///
    /// Source: the list on which go-redis repeats a command.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::MaxClients
                | Self::Loading
                | Self::ReadOnly
                | Self::MasterDown
                | Self::ClusterDown
                | Self::TryAgain
                | Self::NoReplicas
        )
    }

    /// Whether the refusal is about the state of the server, not about this client.
    pub(crate) fn is_not_now(self) -> bool {
        self.is_retryable() || matches!(self, Self::Busy | Self::OutOfMemory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_has_a_code_and_a_message() {
        let error = ServerError::from_line(b"WRONGTYPE Operation against a key");
        assert_eq!(error.code(), "WRONGTYPE");
        assert_eq!(error.message(), "Operation against a key");
        assert_eq!(error.kind(), ServerErrorKind::WrongType);
        assert_eq!(ServerError::from_line(b"").code(), "");
        assert_eq!(ServerError::from_line(b"ODD").message(), "");
        assert_eq!(
            ServerError::from_line(b"ERR max number of clients reached").kind(),
            ServerErrorKind::MaxClients
        );
        assert_eq!(ServerError::from_line(b"ERR \xff").message(), "\u{fffd}");
    }

    #[test]
    fn a_long_text_with_control_bytes_is_shown_escaped_and_cut() {
        let error =
            ServerError::from_line(&[b"ERR ", &b"\x1b[31m\n"[..].repeat(20_000)[..]].concat());
        assert_eq!(error.code(), "ERR");
        assert_eq!(error.message().len(), ServerError::KEPT - 4);
        for shown in
            [error.to_string(), format!("{error:?}"), format!("{:?}", Value::Error(error.clone()))]
        {
            assert!(!shown.contains(char::is_control), "{shown}");
            assert!(shown.len() < 5 * ServerError::SHOWN, "{}", shown.len());
            assert!(shown.contains("ERR \\u{1b}[31m\\n"), "{shown}");
            assert!(shown.contains("(cut after 1024 bytes)"), "{shown}");
        }
    }
}
