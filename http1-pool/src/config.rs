//! The settings of a client, and the reason for each default.

use std::time::Duration;

/// Time limits and size limits of a [`Client`](crate::Client).
///
/// Plain data: take the [`Default`], change what you need, hand it to
/// [`ClientBuilder::config`](crate::ClientBuilder::config). The [`Policy`](pool_common::Policy)
/// decides how connections are pooled.
///
/// ```
/// use std::time::Duration;
/// use http1_pool::Config;
///
/// let config = Config { response_timeout: Some(Duration::from_secs(5)), ..Config::default() };
/// assert_eq!(config.limits.head_bytes, 64 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest wait for the head of the final response, counted from the end of the request's
    /// last write. Interim (1xx) responses do not extend it. `None`: wait forever.
    /// Default 30 s. Source: `net/http` `ResponseHeaderTimeout`, which is off by default; here
    /// every wait on a peer has an end unless the user says otherwise.
    pub response_timeout: Option<Duration>,
    /// Longest wait for the next byte of a response body, even while the rest of the request is
    /// still being sent. Counted only while the body is polled: a body that is not polled never times
    /// out. `None`: wait forever, which suits exchanges that stream in both directions. Default
    /// 30 s.
    pub body_timeout: Option<Duration>,
    /// Longest wait for the peer to take the next byte of a request. Waiting for the caller's own
    /// body stream does not count. `None`: wait forever. Default 30 s.
    pub write_timeout: Option<Duration>,
    /// Sizes and counts the peer is held to.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        let limit = Some(Duration::from_secs(30));
        Self {
            response_timeout: limit,
            body_timeout: limit,
            write_timeout: limit,
            limits: Limits::default(),
        }
    }
}

/// The limits on a peer's answer. An answer beyond them is refused, so that no peer decides how much
/// memory or time a client spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of status line and headers, the interim (1xx) responses before the final one
    /// included; also the bound on the trailers of a chunked body. Default 64 KiB: the common
    /// servers stop between 8 and 32 KiB. `net/http` allows 10 MiB (`MaxResponseHeaderBytes`),
    /// which is also how much memory each connection may then cost. Range 64 B to 16 MiB.
    pub head_bytes: usize,
    /// Header lines in one head, or in the trailers. Default 128. Range 1 to 16,384 (where
    /// [`http::HeaderMap`] comes near its own limit).
    pub headers: usize,
    /// Interim (1xx) responses before the final one. Default 32. `net/http` bounds their bytes
    /// only, as [`head_bytes`](Limits::head_bytes) does here too.
    pub interim_responses: usize,
    /// By how many bytes the chunk extensions and padding of a chunked body may exceed its data.
    /// Each byte of data that has arrived makes up for one, and each chunk has 16 more for free; what
    /// was not used up is not saved for later. So no single extension can be longer than this, short
    /// ones are legal in bodies of any length, and a peer cannot send forever without sending data.
    /// Default 16 KiB. hyper allows that much in the whole body, however long it is.
    pub chunk_extension_bytes: usize,
    /// Bytes read to save the connection when a body is dropped before its end; a body with more
    /// left costs its connection. 0 means never read on. Default 256 KiB, as `net/http` 1.27.
    pub drain_bytes: u64,
    /// Longest time spent on reading the rest of a dropped body. Default 50 ms, as `net/http` 1.27.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            headers: 128,
            interim_responses: 32,
            chunk_extension_bytes: 16 * 1024,
            drain_bytes: 256 * 1024,
            drain_time: Duration::from_millis(50),
        }
    }
}

/// A limit out of its range. Names the field and the range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limits.{field} is {value}, it must be from {min} to {max}")]
pub struct InvalidConfig {
    /// The field of [`Limits`].
    pub field: &'static str,
    /// The value that was set.
    pub value: usize,
    /// The least it may be.
    pub min: usize,
    /// The most it may be.
    pub max: usize,
}

impl Config {
    /// Checks that every limit is within its range.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that is not.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let ranges = [
            ("head_bytes", self.limits.head_bytes, 64, 16 * 1024 * 1024),
            ("headers", self.limits.headers, 1, 16 * 1024),
        ];
        for (field, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(InvalidConfig { field, value, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_out_of_range_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let mut config = Config::default();
        config.limits.headers = 0;
        let error = config.validate().unwrap_err();
        assert_eq!(error.to_string(), "limits.headers is 0, it must be from 1 to 16384");
    }
}
