//! Settings of connections, and URLs.

use std::{path::PathBuf, str::FromStr, time::Duration};

use pool_common::connect::Partition;

use crate::{
    error::InvalidConfig,
    key::{Key, Parts, Protocol, Secret},
    limits::Limits,
};

/// Where to connect, as whom, and how.
///
/// Plain data: take the [`Default`], change what you need, hand it to
/// [`ClientBuilder::config`](crate::ClientBuilder::config); or read it from a URL. How connections are
/// pooled is not said here but in the [`Policy`](pool_common::Policy).
///
/// ```
/// # fn main() -> Result<(), resp_pool::InvalidConfig> {
/// use resp_pool::Config;
///
/// let config: Config = "redis://alice:secret@cache.example:6380/2?protocol=3".parse()?;
/// assert_eq!(config.port, 6380);
/// assert!(!format!("{config:?}").contains("secret"));
/// let same_server = Config { database: 3, ..config };
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name or address of the server. Default `127.0.0.1`.
    pub host: String,
    /// TCP port. Default 6379.
    pub port: u16,
    /// The Unix socket on which the server listens. If it is set, host and port have no meaning. Default
    /// none.
    pub unix_socket: Option<PathBuf>,
    /// Whether to speak TLS, as `rediss://` does. How it is spoken is said by the connector
    /// ([`ClientBuilder::tls`](crate::ClientBuilder)). Needs the feature `rustls`. Default no.
    pub tls: bool,
    /// User for `AUTH` (Redis 6 access control lists). Needs a password. Default none, which is the
    /// user `default`.
    pub username: Option<String>,
    /// Password for `AUTH`. Default none.
    pub password: Option<Secret>,
    /// Database to `SELECT`. Default 0.
    pub database: u32,
    /// Name for `CLIENT SETNAME`; printable ASCII without spaces, as the server wants it. Default
    /// none.
    pub client_name: Option<String>,
    /// Protocol version. Default RESP2.
    pub protocol: Protocol,
    /// Keeps connections apart that otherwise lead to the same place. Default [`Partition::default`].
    pub partition: Partition,
    /// How connections behave.
    pub settings: Settings,
}

/// How connections behave: times and bounds. These do not separate connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a reply may take, each one. Default 5 s (go-redis `ReadTimeout`; redigo has none).
    /// `None` is no limit. A command can have its own, see
    /// [`Command::timeout`](crate::Command::timeout).
    pub read_timeout: Option<Duration>,
    /// How long writing may take, each time. Default 5 s (go-redis `WriteTimeout`; redigo has
    /// none).
    pub write_timeout: Option<Duration>,
    /// The limits of a frame that the server sends.
    pub limits: Limits,
    /// How many messages a connection keeps that the server sent on its own while their receiver was
    /// waiting for a reply. One more ends the connection, rather than losing one silently. Default
    /// `usize::MAX`: only their memory is bounded.
    pub max_pushes: usize,
    /// How much memory these messages may take together, in bytes. More ends the connection.
    /// Default 16 MiB.
    pub max_push_bytes: usize,
    /// How many frames a reset reads and drops before it gives the connection up. Default 1000.
    pub drain_replies: usize,
    /// How many bytes a reset reads and drops before it gives the connection up. Default 1 MiB.
    pub drain_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 6379,
            unix_socket: None,
            tls: false,
            username: None,
            password: None,
            database: 0,
            client_name: None,
            protocol: Protocol::default(),
            partition: Partition::default(),
            settings: Settings::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_timeout: Some(Duration::from_secs(5)),
            write_timeout: Some(Duration::from_secs(5)),
            limits: Limits::default(),
            max_pushes: usize::MAX,
            max_push_bytes: 16 * 1024 * 1024,
            drain_replies: 1000,
            drain_bytes: 1024 * 1024,
        }
    }
}

impl Config {
    /// The key of connections with this configuration.
    ///
    /// # Errors
    /// As for [`validate`](Self::validate).
    pub fn key(&self) -> Result<Key, InvalidConfig> {
        self.validate()?;
        Ok(self.to_key())
    }

    /// The key, where the configuration is known to be valid.
    pub(crate) fn to_key(&self) -> Key {
        Key::new(Parts {
            host: self.host.clone(),
            port: self.port,
            unix_socket: self.unix_socket.clone(),
            tls: self.tls,
            database: self.database,
            username: self.username.clone(),
            password: self.password.clone(),
            protocol: self.protocol,
            client_name: self.client_name.clone(),
            partition: self.partition.clone(),
        })
    }

    /// Checks that the settings make sense.
    ///
    /// # Errors
    /// [`InvalidConfig::Setting`] names the setting and how to mend it.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let refuse = |field, reason| Err(InvalidConfig::Setting { field, reason });
        let limits = &self.settings.limits;
        if self.host.is_empty() {
            return refuse("host", "is empty");
        }
        if self.unix_socket.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return refuse("unix_socket", "is empty; use none");
        }
        if self.tls && !cfg!(feature = "rustls") {
            return refuse("tls", "needs the feature rustls of resp-pool");
        }
        if self.username.is_some() && self.password.is_none() {
            return refuse("username, password", "a user needs a password; set both or none");
        }
        if self
            .client_name
            .as_ref()
            .is_some_and(|name| !name.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return refuse("client_name", "only printable ASCII without spaces is allowed");
        }
        if self.client_name.as_ref().is_some_and(String::is_empty) {
            return refuse("client_name", "is empty; use none");
        }
        if !(1..=Limits::DEEPEST).contains(&limits.max_depth) {
            return refuse("limits.max_depth", "must be between 1 and 64");
        }
        if limits.max_bulk > limits.max_frame {
            return refuse(
                "limits.max_bulk, limits.max_frame",
                "a bulk string would not fit its frame",
            );
        }
        if limits.max_line > limits.max_frame {
            return refuse("limits.max_line, limits.max_frame", "a line would not fit its frame");
        }
        for (field, time) in [
            ("read_timeout", self.settings.read_timeout),
            ("write_timeout", self.settings.write_timeout),
        ] {
            if time.is_some_and(|time| time.is_zero()) {
                return refuse(field, "zero would fail every request; use none for no limit");
            }
        }
        Ok(())
    }

    /// Reads `redis://[[user]:password@]host[:port][/database][?protocol=2|3][&client_name=NAME]`.
    /// User, password and name may be percent-encoded; an address of version 6 stands in brackets.
    ///
    /// `rediss` in place of `redis` asks for TLS (feature `rustls`).
    ///
    /// A server on a Unix socket is `redis+unix://[[user]:password@]/path[?db=DATABASE]`, with the same
    /// parameters; `unix` will do for the scheme. The path may be percent-encoded.
    ///
    /// ```
    /// let config = resp_pool::Config::from_url("unix:///run/redis/redis.sock?db=2")?;
    /// assert_eq!(config.unix_socket.as_deref(), Some("/run/redis/redis.sock".as_ref()));
    /// assert_eq!(config.database, 2);
    /// # Ok::<(), resp_pool::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`], which never repeats more of the URL than a scheme or the name of a
    /// parameter.
    pub fn from_url(url: &str) -> Result<Self, InvalidConfig> {
        let malformed = |part| InvalidConfig::Url { part };
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| InvalidConfig::Scheme(String::new()))?;
        let scheme = scheme.to_ascii_lowercase();
        let is_unix = match scheme.as_str() {
            "redis" | "rediss" => false,
            "unix" | "redis+unix" => true,
            other
                if other
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) =>
            {
                return Err(InvalidConfig::Scheme(other.to_owned()));
            }
            _ => return Err(InvalidConfig::Scheme(String::new())),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, query),
            None => (rest, ""),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut config = Self { tls: scheme == "rediss", ..Self::default() };

        let server = match authority.rsplit_once('@') {
            None => authority,
            Some((credentials, server)) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let user = decoded(user).ok_or(malformed("user"))?;
                let password = decoded(password).ok_or(malformed("password"))?;
                config.username = Some(user).filter(|user| !user.is_empty());
                config.password = Some(password).filter(|text| !text.is_empty()).map(Secret::new);
                server
            }
        };
        let path = match is_unix {
            true if !server.is_empty() => return Err(malformed("path of the socket")),
            true => {
                let socket = decoded(&format!("/{path}")).ok_or(malformed("path of the socket"))?;
                config.unix_socket = Some(socket.into());
                ""
            }
            false => path,
        };
        let (host, port) = match server.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or(malformed("host"))?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or(malformed("port"))?),
                };
                (host, port)
            }
            None => match server.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (server, None),
            },
        };
        if !host.is_empty() {
            config.host = host.to_owned();
        }
        if let Some(port) = port {
            config.port = plain_number(port).ok_or(malformed("port"))?;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() {
            config.database = plain_number(path).ok_or(malformed("database"))?;
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (name, value) {
                ("db", number) if is_unix => {
                    config.database = plain_number(number).ok_or(malformed("database"))?;
                }
                ("protocol", "2" | "resp2") => config.protocol = Protocol::Resp2,
                ("protocol", "3" | "resp3") => config.protocol = Protocol::Resp3,
                ("protocol", _) => return Err(malformed("protocol")),
                ("client_name", name) => {
                    config.client_name = Some(decoded(name).ok_or(malformed("client_name"))?);
                }
                (other, _) => {
                    // With a `?` in the password, this is the rest of the password.
                    let harmless = !query.contains('@')
                        && other.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                    let name = if harmless { other } else { "" };
                    return Err(InvalidConfig::Parameter(name.to_owned()));
                }
            }
        }
        config.validate()?;
        Ok(config)
    }
}

impl FromStr for Config {
    type Err = InvalidConfig;

    fn from_str(url: &str) -> Result<Self, InvalidConfig> {
        Self::from_url(url)
    }
}

/// A number of digits only.
fn plain_number<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let config = Config::from_url("redis://").expect("valid");
        assert_eq!(config, Config::default());
        let config = Config::from_url("redis://:p%40ss@[::1]:7000/3?protocol=3&client_name=web")
            .expect("valid");
        assert_eq!(config.host, "::1");
        assert_eq!(config.port, 7000);
        assert_eq!(config.database, 3);
        assert_eq!(config.username, None);
        assert_eq!(config.password, Some("p@ss".into()));
        assert_eq!(config.protocol, Protocol::Resp3);
        assert_eq!(config.client_name.as_deref(), Some("web"));
        let config = Config::from_url("redis+unix://bob:x@/run/my%20redis.sock?db=4&protocol=3");
        let config = config.expect("valid");
        assert_eq!(config.unix_socket.as_deref(), Some("/run/my redis.sock".as_ref()));
        assert_eq!((config.database, config.protocol), (4, Protocol::Resp3));
        assert_eq!(config.username.as_deref(), Some("bob"));
        let written = "redis+unix://bob@/run/my%20redis.sock?db=4";
        assert_eq!(config.key().expect("valid").to_string(), written);
        let odd = Config {
            unix_socket: Some("/run/50%?@:é/s".into()),
            username: Some("a:b@c/d".to_owned()),
            password: Some(Secret::new("x")),
            ..Config::default()
        };
        let url = odd.key().expect("valid").to_string();
        let read = Config::from_url(&url.replacen('@', ":x@", 1)).expect(&url);
        assert_eq!((read.unix_socket, read.username), (odd.unix_socket, odd.username), "{url}");
        let config = Config::from_url("redis://bob:x@cache/").expect("valid");
        assert_eq!((config.username.as_deref(), config.host.as_str()), (Some("bob"), "cache"));
    }

    #[test]
    fn bad_urls_are_refused_without_repeating_secrets() {
        for (url, words) in [
            #[cfg(not(feature = "rustls"))]
            ("rediss://:secret@host", "tls"),
            ("http://:secret@host", "scheme"),
            ("user:secret@host", "scheme"),
            ("redis://user:secret@host:port", "port"),
            ("redis://user:secret@host:+80", "port"),
            ("redis://user:secret@host/one", "database"),
            ("redis://user:secret%zz@host", "password"),
            ("redis://user@host", "password"),
            ("redis://:secret@host?protocol=4", "protocol"),
            ("redis://:secret@host?tls=secret", "parameter"),
            ("redis://:secret@[::1", "host"),
            ("redis://alice:2024?secret2@cache:6379/0", "parameter"),
            ("redis://alice:2024?secret=@cache:6379/0", "parameter"),
            ("redis://cache:6379/0?Secret2", "parameter"),
            ("redis://host?client_name=a%20b", "client_name"),
            ("redis://host?db=1", "parameter"),
            ("unix://:secret@host/run/redis.sock", "path"),
            ("unix://:secret@/run/redis.sock?db=x", "database"),
        ] {
            let error = Config::from_url(url).expect_err(url);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(words), "{url}: {shown}");
            assert!(!shown.contains("secret"), "{url}: {shown}");
        }
    }

    #[test]
    fn the_key_holds_what_shapes_a_connection_and_shows_no_secret() {
        let base = Config { password: Some("secret".into()), ..Config::default() };
        let key = base.key().expect("valid");
        assert_eq!(key, base.clone().key().expect("valid"));
        let others = [
            Config { host: "h".to_owned(), ..base.clone() },
            Config { port: 1, ..base.clone() },
            Config { unix_socket: Some("/a.sock".into()), ..base.clone() },
            Config { unix_socket: Some("/b.sock".into()), ..base.clone() },
            #[cfg(feature = "rustls")]
            Config { tls: true, ..base.clone() },
            Config { database: 1, ..base.clone() },
            Config { username: Some("u".to_owned()), ..base.clone() },
            Config { password: Some("other".into()), ..base.clone() },
            Config { protocol: Protocol::Resp3, ..base.clone() },
            Config { client_name: Some("n".to_owned()), ..base.clone() },
            Config { partition: 1.into(), ..base.clone() },
        ];
        for other in others {
            assert_ne!(key, other.key().expect("valid"), "{other:?}");
        }
        // A new setting has to be in the key as well, and in the list above.
        let Config {
            host: _,
            port: _,
            unix_socket: _,
            tls: _,
            username: _,
            password: _,
            database: _,
            client_name: _,
            protocol: _,
            partition: _,
            settings: _,
        } = base;
        assert!(!format!("{key:?} {key}").contains("secret"));
    }

    #[test]
    fn settings_that_contradict_each_other_name_both() {
        let mut config = Config::default();
        config.settings.limits.max_frame = 100;
        let error = config.validate().expect_err("too small").to_string();
        assert!(error.contains("max_bulk") && error.contains("max_frame"), "{error}");
        config = Config { username: Some("u".to_owned()), ..Config::default() };
        assert!(config.validate().is_err());
        config = Config::default();
        config.settings.limits.max_depth = 129;
        assert!(config.validate().is_err());
    }
}
