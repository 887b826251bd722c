//! Paths of Unix sockets, as a URI can hold them.
//!
//! The host of a URI takes no slash, and the `http` crate no percent sign. So the path stands there in
//! hexadecimal, as hyperlocal does it.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The scheme of URIs whose host is the path of a Unix socket, see [`unix_host`].
pub const UNIX_SCHEME: &str = "http+unix";

/// `path` as the host of a URI with [`UNIX_SCHEME`]: its bytes in hexadecimal.
///
/// ```
/// use pool_common::connect::{unix_host, unix_path};
///
/// assert_eq!(unix_host("/a.sock"), "2f612e736f636b");
/// assert_eq!(unix_path("2F612e736f636b"), Some("/a.sock".into()));
/// assert_eq!(unix_path("a.sock"), None);
/// ```
pub fn unix_host(path: impl AsRef<Path>) -> String {
    let mut host = String::new();
    for byte in path.as_ref().as_os_str().as_encoded_bytes() {
        write!(host, "{byte:02x}").expect("a string takes everything");
    }
    host
}

/// The path that [`unix_host`] wrote; `None` if it is not one.
pub fn unix_path(host: &str) -> Option<PathBuf> {
    let digits = host.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let bytes = digits.chunks(2).map(|pair| Some(digit(pair[0])? * 16 + digit(pair[1])?));
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    // No system has a path with a zero byte.
    if bytes.contains(&0) { None } else { Some(os_string(bytes)?.into()) }
}

/// The URI of `target` (path and query) at the server that listens on the Unix socket `socket`:
/// `http+unix://HOST/path?query`, with the path of the socket in hexadecimal as HOST. The request names
/// `localhost` as its host unless it has a `Host` header.
///
/// ```
/// let uri = pool_common::connect::unix_uri("/run/docker.sock", "/containers/json?all=1")?;
/// assert_eq!(uri, "http+unix://2f72756e2f646f636b65722e736f636b/containers/json?all=1");
/// # Ok::<(), http::Error>(())
/// ```
///
/// # Errors
/// When `target` is not a path and query.
#[cfg(feature = "uri")]
pub fn unix_uri(socket: impl AsRef<Path>, target: &str) -> Result<http::Uri, http::Error> {
    let target = http::uri::PathAndQuery::try_from(target)?;
    http::Uri::builder()
        .scheme(UNIX_SCHEME)
        .authority(unix_host(socket))
        .path_and_query(target)
        .build()
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}
