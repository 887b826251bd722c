//! The key: everything that shaped a connection.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use pool_common::connect::Partition;

/// A password. `Debug` and errors show `***`, whatever they are part of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps the secret text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The version of the protocol between client and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Version 2, which every server speaks without being asked. The default: it saves the `HELLO`.
    #[default]
    Resp2,
    /// Version 3 (Redis 6 and later): typed maps, sets, doubles, pushes. Asked for with `HELLO 3`.
    Resp3,
}

/// Everything that shaped a connection. Two requests share connections exactly when their keys are
/// equal.
///
/// Cheap to clone and to hash: the parts are shared, and hashed once.
#[derive(Clone)]
pub struct Key(Arc<Hashed>);

struct Hashed {
    parts: Parts,
    hash: u64,
}

/// The parts of a key. A new field automatically takes part in comparison and hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Parts {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) unix_socket: Option<PathBuf>,
    pub(crate) tls: bool,
    pub(crate) database: u32,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) protocol: Protocol,
    pub(crate) client_name: Option<String>,
    pub(crate) partition: Partition,
}

impl Key {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Self(Arc::new(Hashed { parts, hash: hasher.finish() }))
    }

    /// The same in another database.
    #[must_use]
    pub fn with_database(&self, database: u32) -> Self {
        Self::new(Parts { database, ..self.0.parts.clone() })
    }

    /// The same in another partition.
    #[must_use]
    pub fn with_partition(&self, partition: impl Into<Partition>) -> Self {
        let partition = partition.into();
        Self::new(Parts { partition, ..self.0.parts.clone() })
    }

    /// Name or address of the server; without meaning if there is a
    /// [`unix_socket`](Self::unix_socket).
    pub fn host(&self) -> &str {
        &self.0.parts.host
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.0.parts.port
    }

    /// The Unix socket of the server, if the connection leads through one.
    pub fn unix_socket(&self) -> Option<&Path> {
        self.0.parts.unix_socket.as_deref()
    }

    /// Whether the connection is encrypted with TLS.
    pub fn tls(&self) -> bool {
        self.0.parts.tls
    }

    /// The database that is selected.
    pub fn database(&self) -> u32 {
        self.0.parts.database
    }

    /// The user that is authenticated, when it is not the default one.
    pub fn username(&self) -> Option<&str> {
        self.0.parts.username.as_deref()
    }

    /// The password, if the connection is authenticated.
    pub fn password(&self) -> Option<&Secret> {
        self.0.parts.password.as_ref()
    }

    /// The protocol version.
    pub fn protocol(&self) -> Protocol {
        self.0.parts.protocol
    }

    /// What the user keeps apart from other connections to the server.
    pub fn partition(&self) -> &Partition {
        &self.0.parts.partition
    }

    /// The name under which the connection appears in `CLIENT LIST`.
    pub fn client_name(&self) -> Option<&str> {
        self.0.parts.client_name.as_deref()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.parts == other.0.parts)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.parts.fmt(f)
    }
}

/// Percent-encodes what has a meaning in a URL, and what cannot stand in one.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// `redis://host:port/database` (`rediss` with TLS), or `redis+unix:///path?db=database`, with user but without
/// password. [`Config::from_url`](crate::Config::from_url) reads it; if there is a user, with the password put
/// in again. No URL asks for TLS on a Unix socket or for a partition, so these are not in it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.username().map(|user| format!("{}@", encoded(user))).unwrap_or_default();
        if let Some(path) = self.unix_socket() {
            let path = encoded(&path.to_string_lossy()).replace("%2F", "/");
            return write!(f, "redis+unix://{user}{path}?db={}", self.database());
        }
        let host = self.host();
        // As in a URL: brackets around an address of version 6.
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let scheme = if self.tls() { "rediss" } else { "redis" };
        write!(f, "{scheme}://{user}{open}{host}{close}:{}/{}", self.port(), self.database())
    }
}
