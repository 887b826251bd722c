//! Why a URI cannot be dialed.

/// Why no connection can be opened for a URI: the caller's fault, found before anything is dialed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUri {
    /// The URI has no scheme, so it is not known what to speak.
    #[error("the URI has no scheme, it must start with http://")]
    NoScheme,
    /// An unknown scheme; `https` without the feature `rustls` is one.
    #[error(
        "the scheme {0:?} is not supported; http and http+unix are, and https with the feature rustls"
    )]
    UnsupportedScheme(String),
    /// The URI has no host.
    #[error("the URI has no host")]
    NoHost,
    /// The host of an `http+unix` URI is not the path of a socket in hexadecimal, or a port follows it.
    #[error(
        "the host of an http+unix URI must be the socket's path in hexadecimal, as unix_uri makes it"
    )]
    UnixHost,
    /// The port of the URI is not a number from 1 to 65535.
    #[error("the port of the URI is not a number from 1 to 65535")]
    InvalidPort,
    /// The URI carries a user name or password (which this error does not repeat). They would end
    /// up in logs and caches; set `Authorization` instead.
    #[error("the URI has a user name or password in it, set the Authorization header instead")]
    Credentials,
}
