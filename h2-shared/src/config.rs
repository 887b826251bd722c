//! The knobs of an HTTP/2 connection and of the client.

use std::time::Duration;

use crate::keep_alive::SUSPECT_PART;

/// Largest flow-control window HTTP/2 knows, in bytes (RFC 9113, 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// Smallest and largest value of SETTINGS_MAX_FRAME_SIZE, in bytes (RFC 9113, 6.5.2).
const FRAME_SIZES: std::ops::RangeInclusive<u32> = 16_384..=16_777_215;

/// Most round trips take less time than this, and so does the answer to a PING.
const LONGEST_GRACE: Duration = Duration::from_millis(100);

/// Longer than any program runs: stands for a duration that an instant cannot be moved by.
pub(crate) const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// How connections are opened and watched, and what a request may cost.
///
/// Plain data: write `Config { body_timeout: None, ..Config::default() }` and give it to
/// [`ClientBuilder::config`](crate::ClientBuilder::config). The choices of the *pool* (how many
/// connections, which callers wait, when idle connections are closed) are in the
/// [`Policy`](pool_common::Policy), not here.
///
/// Durations that are `None` mean "no limit". With the defaults every wait on a peer has a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams allowed at a time before the peer's first SETTINGS frame has told its limit. Default
    /// 100, at least 1. A cap of our own, before and after, is
    /// [`Policy::max_leases_per_connection`](pool_common::Policy::max_leases_per_connection).
    ///
    /// Source: `net/http` `initialMaxConcurrentStreams` and gRPC's quota, both 100, the smallest
    /// limit that RFC 9113, 6.5.2 recommends to servers.
    pub streams_before_settings: u32,

    /// Whether a dial is complete only when the peer's SETTINGS have arrived and allow a stream.
    /// Default `true`.
    ///
    /// A server sends them as soon as it has accepted, so this rarely costs more than what the
    /// first request would wait anyway. It buys two things: the stream limit is never overshot
    /// (`net/http`, which does not wait, has requests refused by servers with a low limit), and an
    /// address that accepts connections without speaking HTTP/2 counts as a failed dial, so that
    /// back-off works.
    ///
    /// Source: gRPC, connection back-off protocol ("wait for the SETTINGS frame").
    pub wait_for_settings: bool,

    /// Longest wait for these SETTINGS. Default 10 s. The pool's `dial_timeout` bounds the whole
    /// dial as well; the shorter one wins.
    pub settings_timeout: Duration,

    /// Longest wait for the response head. The clock runs while we wait for the peer: from the
    /// moment the request has been handed over completely, or while flow control keeps its body
    /// back. It does not run while the caller's body has nothing to send. Default 30 s.
    ///
    /// Ends the stream with CANCEL. The connection stays in use if any byte came on it during the
    /// wait, for whichever stream. Otherwise the peer has to answer a PING, even with
    /// `keep_alive_interval` off: the PING goes out after three quarters of the wait. Once it is out
    /// for 100 ms in silence (or for a quarter of `keep_alive_timeout` if that is shorter), and the
    /// limit has passed, the connection is retired: no new requests. After `keep_alive_timeout`
    /// from the missed limit it is closed, and its other streams fail with
    /// [`Error::ConnectionLost`](crate::Error::ConnectionLost). Any byte before that lets them
    /// finish.
    ///
    /// Source: `net/http` `ResponseHeaderTimeout` (off by default there).
    pub response_timeout: Option<Duration>,

    /// Longest silence of the peer while the response body is being read. Default 30 s; long-lived
    /// streams with rare messages want `None`. Ends the stream with CANCEL.
    /// [`response_timeout`](Self::response_timeout) describes what happens to the connection.
    pub body_timeout: Option<Duration>,

    /// Silence on the connection after which a PING is sent. Default `None`: no PINGs at intervals,
    /// as in `net/http` and gRPC; a peer that vanished is then noticed by the timeouts above, which
    /// send a PING too, by TCP keep-alive and by `TCP_USER_TIMEOUT`. At least 1 ms.
    ///
    /// Source: `net/http` `HTTP2Config.SendPingTimeout`, gRPC keepalive time.
    pub keep_alive_interval: Option<Duration>,

    /// Longest wait for an answer to a PING; any byte counts. After a quarter of it the connection
    /// is retired: requests go to another connection, for good, and it is closed when its last
    /// stream has ended, or at once if it has none. After the whole of it the connection is closed,
    /// and its streams fail. Default 15 s, at least 1 ms.
    ///
    /// Holds for the PINGs of `keep_alive_interval` and for the one that follows a missed
    /// [`response_timeout`](Self::response_timeout) or [`body_timeout`](Self::body_timeout), which
    /// retires the connection after 100 ms if that is less than a quarter.
    ///
    /// Source: `net/http` `PingTimeout` 15 s; gRPC keepalive timeout 20 s.
    pub keep_alive_timeout: Duration,

    /// Whether a connection without open streams is pinged, too. Default `true` as in `net/http`;
    /// gRPC servers punish such pings unless they permit them.
    pub keep_alive_while_idle: bool,

    /// Longest time the socket may refuse to take bytes while some are waiting. Default 30 s.
    /// Closes the connection.
    ///
    /// Source: `net/http` `WriteByteTimeout` (off by default there).
    pub write_timeout: Option<Duration>,

    /// Longest time to close a connection in order (GOAWAY, flush, shutdown). Default 1 s.
    pub close_timeout: Duration,

    /// Receive window of a stream, in bytes: how much of one response the peer may send before it
    /// is read. Default 1 MiB, 1 to 2^31 - 1. `net/http` 4 MiB, the protocol's own default 64 KiB -
    /// 1.
    pub stream_window: u32,

    /// Receive window of a connection, in bytes: how much of all its responses together the peer
    /// may send before they are read. Default 8 MiB, 65,535 to 2^31 - 1. `net/http` 1 GiB.
    pub connection_window: u32,

    /// How far that window grows, in bytes. Default 64 MiB; below
    /// [`connection_window`](Self::connection_window) it does not grow.
    ///
    /// Responses that the program does not read keep the window from all streams of their
    /// connection. When they hold most of it, it grows by `connection_window` at a time, so that the
    /// other streams go on. This is the bound on the memory that unread responses of one connection
    /// occupy; at the bound the connection takes no new streams until some of it has been read, and
    /// requests go to another connection.
    pub max_connection_window: u32,

    /// Largest frame we accept, in bytes. Default 16,384, which is also the least; at most
    /// 16,777,215. `net/http` `MaxReadFrameSize` 1 MiB.
    pub max_frame_size: u32,

    /// Largest response head, in bytes as RFC 9113, 6.5.2 counts them (name + value + 32 per
    /// field). Default 64 KiB. A larger one fails its stream; one beyond 1 MiB, and beyond this
    /// limit, can end the connection, because its fields must be decoded for the sake of the other
    /// streams. Peers are told the larger of the two numbers. `net/http` `MaxResponseHeaderBytes`
    /// 10 MiB.
    pub max_header_list_size: u32,

    /// How much of a request body one stream may keep in memory until it is written, in bytes.
    /// Default 256 KiB, at least 1.
    pub max_send_buffer: usize,

    /// How many streams that we reset are remembered, for 1 s, to ignore what the peer had already
    /// sent. Default 20,480. With too few, callers that give up in masses make the peer's late
    /// frames count as errors, see [`max_error_resets`](Self::max_error_resets). A remembered
    /// stream takes some hundred bytes.
    pub max_remembered_resets: usize,

    /// How many frames that fit no stream one connection accepts before it is closed with
    /// ENHANCE_YOUR_CALM. Default 16,384 over the life of the connection. h2's own default of 1,024
    /// is reached by honest peers when many callers give up.
    pub max_error_resets: usize,

    /// How many bytes of a request body may have been sent and the request is still sent again when
    /// the peer did not process it. Default 256 KiB; a body of which more was sent is not repeated.
    /// Sent bytes are kept for that long: they are shared with the caller's, not copied.
    ///
    /// Source: gRPC's per-call retry buffer (256 KiB in grpc-go); `net/http` asks the caller for
    /// `GetBody` instead.
    pub replay_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            streams_before_settings: 100,
            wait_for_settings: true,
            settings_timeout: Duration::from_secs(10),
            response_timeout: Some(Duration::from_secs(30)),
            body_timeout: Some(Duration::from_secs(30)),
            keep_alive_interval: None,
            keep_alive_timeout: Duration::from_secs(15),
            keep_alive_while_idle: true,
            write_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(1),
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            max_connection_window: 64 << 20,
            max_frame_size: 16_384,
            max_header_list_size: 64 << 10,
            max_send_buffer: 256 << 10,
            max_remembered_resets: 20_480,
            max_error_resets: 16_384,
            replay_limit: 256 << 10,
        }
    }
}

impl Config {
    /// The choices of `net/http`'s HTTP/2 transport (Go 1.27) where they differ from ours: SETTINGS
    /// are not awaited, windows are 4 MiB and 1 GiB, frames up to 1 MiB, heads up to 10 MiB.
    ///
    /// Deliberate difference: our timeouts stay on; `net/http` leaves every one of them off.
    pub fn net_http() -> Self {
        Self {
            wait_for_settings: false,
            stream_window: 4 << 20,
            connection_window: 1 << 30,
            max_frame_size: 1 << 20,
            max_header_list_size: 10 << 20,
            ..Self::default()
        }
    }

    /// The choices of a gRPC channel (grpc-go 1.85) where they differ from ours: SETTINGS may take
    /// 20 s as the whole attempt may, a response may take and pause as long as it likes (calls
    /// carry their own deadlines), keep-alive waits 20 s and leaves idle connections alone.
    pub fn grpc() -> Self {
        Self {
            settings_timeout: Duration::from_secs(20),
            response_timeout: None,
            body_timeout: None,
            keep_alive_timeout: Duration::from_secs(20),
            keep_alive_while_idle: false,
            ..Self::default()
        }
    }

    /// How long the PING of a missed deadline has to be without an answer before the connection is
    /// retired. Short timeouts leave less than a round trip for it, which proves nothing.
    pub(crate) fn ping_grace(&self) -> Duration {
        (self.keep_alive_timeout / SUSPECT_PART).min(LONGEST_GRACE)
    }

    /// How many bytes one connection may hold for its readers.
    pub(crate) fn most_unread(&self) -> u32 {
        self.max_connection_window.max(self.connection_window)
    }

    /// Checks every field against the range its documentation gives.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let least = Duration::from_millis(1);
        let rules = [
            (self.streams_before_settings > 0, "streams_before_settings must be at least 1"),
            (
                self.keep_alive_interval.is_none_or(|i| i >= least),
                "keep_alive_interval must be at least 1 ms",
            ),
            (self.keep_alive_timeout >= least, "keep_alive_timeout must be at least 1 ms"),
            (
                (1..=MAX_WINDOW).contains(&self.stream_window),
                "stream_window must be 1 to 2147483647 bytes",
            ),
            (
                (65_535..=MAX_WINDOW).contains(&self.connection_window),
                "connection_window must be 65535 to 2147483647 bytes",
            ),
            (
                self.max_connection_window <= MAX_WINDOW,
                "max_connection_window must be at most 2147483647 bytes",
            ),
            (
                FRAME_SIZES.contains(&self.max_frame_size),
                "max_frame_size must be 16384 to 16777215 bytes",
            ),
            (
                (1..=u32::MAX as usize).contains(&self.max_send_buffer),
                "max_send_buffer must be 1 to 4294967295 bytes",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(InvalidConfig { rule }),
            None => Ok(()),
        }
    }
}

/// A field of [`Config`] is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidConfig {
    rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        for config in [Config::default(), Config::net_http(), Config::grpc()] {
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let config = Config { connection_window: 1, ..Config::default() };
        let error = config.validate().unwrap_err();
        assert!(error.to_string().starts_with("connection_window"));
    }
}
