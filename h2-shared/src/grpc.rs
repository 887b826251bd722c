//! gRPC: what tonic's generated clients need beyond a service of requests.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body::{Frame, SizeHint};
use pool_common::exchange::TotalTimeout;
use tonic::Status;
use tower_service::Service;

use crate::body::Body;
use crate::client::Client;
use crate::error::{Error, InvalidRequest};
use crate::key::Key;
use crate::upload::BodyError;

/// How this client names itself, in the form that gRPC wants.
const AGENT: &str = concat!("grpc-rust-h2-shared/", env!("CARGO_PKG_VERSION"));

/// A [`Client`] as the transport of tonic's generated clients, in place of tonic's `Channel`.
///
/// ```
/// # mod echo { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tonic/echo.rs")); }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// # use echo::{Text, echo_client::EchoClient};
/// use h2_shared::{Client, Config, GrpcTransport};
///
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// # tokio::spawn(echo::serve(listener, echo::Echo::default()));
/// let client = Client::builder().config(Config::grpc()).build()?;
/// let transport = GrpcTransport::new(client, format!("http://{address}").parse()?)?;
/// let mut echo = EchoClient::new(transport);
///
/// let mut request = tonic::Request::new(Text::from("hello"));
/// request.set_timeout(Duration::from_secs(5));
/// assert_eq!(echo.say(request).await?.get_ref().text, "hello");
/// # Ok(())
/// # }
/// ```
///
/// The example `tonic` of this crate has streams, errors and deadlines too.
///
/// # What it adds to the client
/// A [`Client`] is a service of requests already, and carries calls of all four kinds. tonic expects
/// five things more of a transport:
///
/// - **An origin.** The URIs of generated clients have a path only.
/// - **Deadlines.** `tonic::Request::set_timeout` only writes the header `grpc-timeout`. Here it is a
///   [`TotalTimeout`]: the call ends with `DEADLINE_EXCEEDED` in time even if the server is silent, and
///   also while a stream runs. A `TotalTimeout` among the extensions of the call holds too; the
///   earlier one counts. tonic's `Channel` applies the header until the response head has arrived, and
///   reports `CANCELLED`.
/// - **Status codes.** tonic finds a code in an error only if the error is an `h2::Error`, or if a
///   `tonic::Status` or an error of hyper is in its chain of sources; others become `UNKNOWN`. The
///   errors of this transport and of its bodies are a [`Status`]; the table is below.
/// - **A user agent**, `grpc-rust-h2-shared/VERSION`, behind the one of the program, if it sets one.
/// - **No limits of its own on responses.** Take [`Config::grpc`](crate::Config::grpc), as the default
///   `body_timeout` ends streams that are silent for 30 s.
///
/// | [`Error`] | code |
/// |---|---|
/// | [`Acquire`](Error::Acquire): dials fail or pause, no connection in time | `UNAVAILABLE` |
/// | the same at a limit of the pool: `Exhausted`, `TooManyWaiters` | `RESOURCE_EXHAUSTED` |
/// | the same after the pool was closed | `CANCELLED` |
/// | [`Unprocessed`](Error::Unprocessed), [`ConnectionLost`](Error::ConnectionLost) | `UNAVAILABLE` |
/// | [`Reset`](Error::Reset) with CANCEL | `CANCELLED` |
/// | with REFUSED_STREAM | `UNAVAILABLE` |
/// | with ENHANCE_YOUR_CALM | `RESOURCE_EXHAUSTED` |
/// | with INADEQUATE_SECURITY | `PERMISSION_DENIED` |
/// | with STREAM_CLOSED, or a code that HTTP/2 does not know | `UNKNOWN` |
/// | with any other code | `INTERNAL` |
/// | [`TotalTimeout`](Error::TotalTimeout), [`ResponseTimeout`](Error::ResponseTimeout), [`BodyTimeout`](Error::BodyTimeout) | `DEADLINE_EXCEEDED` |
/// | [`RequestBody`](Error::RequestBody) | the status of the request stream |
/// | [`InvalidRequest`](Error::InvalidRequest) | `INTERNAL` |
///
/// The [`Error`] itself is the source of the status.
///
/// # What it leaves to others
/// Balancing over several addresses, service config, and wait-for-ready for a single call:
/// [`wait_for_ready`](pool_common::Policy::wait_for_ready) of the policy holds for all calls of a client.
/// A call that the server did not process is sent again as the policy says; further retries are a
/// layer's.
///
/// # Cancel safety
/// Dropping the future of a call, or its stream, resets the HTTP/2 stream (CANCEL), which is how gRPC
/// cancels a call.
///
/// Source: gRPC over HTTP/2 (`PROTOCOL-HTTP2.md`): "Requests", "Errors" and "User Agents".
#[derive(Clone, Debug)]
pub struct GrpcTransport {
    client: Client,
    scheme: Scheme,
    authority: Authority,
}

impl GrpcTransport {
    /// A transport for calls to `origin`, over the connections of `client`: `http://host:port`, `https://host`
    /// (feature `rustls`), or the URI of a Unix socket as [`unix_uri`](crate::unix_uri) makes it. A
    /// call whose URI has an origin goes there. Dials nothing yet.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when `origin` is not one, or has a path.
    pub fn new(client: Client, origin: Uri) -> Result<Self, Error> {
        Key::from_uri(&origin)?;
        match origin.into_parts() {
            Parts { scheme: Some(scheme), authority: Some(authority), path_and_query, .. }
                if path_and_query.as_ref().is_none_or(|path| path == "/") =>
            {
                Ok(Self { client, scheme, authority })
            }
            _ => Err(InvalidRequest::OriginWithPath.into()),
        }
    }

    /// The client below it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn complete<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        if request.uri().authority().is_none() {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
            let invalid = |_| InvalidRequest::Head;
            *request.uri_mut() = Uri::from_parts(parts).map_err(invalid)?;
        }
        add_user_agent(request.headers_mut());
        let timeout = request.headers().get("grpc-timeout").and_then(parse_timeout);
        if let Some(timeout) = timeout.map(TotalTimeout::after) {
            let own = request.extensions().get::<TotalTimeout>();
            let earlier = own.map_or(timeout, |own| own.min(timeout));
            request.extensions_mut().insert(earlier);
        }
        Ok(())
    }
}

fn add_user_agent(headers: &mut HeaderMap) {
    let agent = match headers.get(USER_AGENT) {
        None => Ok(HeaderValue::from_static(AGENT)),
        Some(own) => HeaderValue::from_bytes(&[own.as_bytes(), b" ", AGENT.as_bytes()].concat()),
    };
    headers.insert(USER_AGENT, agent.expect("both parts are valid, and so is a space"));
}

/// At most eight digits and a unit. Other values count as none, as in tonic.
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    let valid = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = str::from_utf8(digits).ok().filter(|_| valid)?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Always ready, as the client is.
impl<B> Service<Request<B>> for GrpcTransport
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<GrpcBody>;
    type Error = Status;
    type Future = GrpcFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    #[track_caller]
    fn call(&mut self, mut request: Request<B>) -> GrpcFuture {
        let place = Location::caller();
        let complete = self.complete(&mut request);
        let client = self.client.clone();
        GrpcFuture(Box::pin(async move {
            complete?;
            let response = client.carry_out(request, place).await?;
            Ok(response.map(GrpcBody))
        }))
    }
}

/// The future of a call over a [`GrpcTransport`]: resolves to the response when its head has arrived.
///
/// # Cancel safety
/// Dropping it resets the stream (CANCEL).
#[must_use = "futures do nothing unless they are awaited"]
pub struct GrpcFuture(Pin<Box<dyn Future<Output = Result<Response<GrpcBody>, Status>> + Send>>);

impl Future for GrpcFuture {
    type Output = Result<Response<GrpcBody>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for GrpcFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcFuture").finish_non_exhaustive()
    }
}

/// The [`Body`] of a response over a [`GrpcTransport`]. Its errors are a [`Status`].
#[derive(Debug, Default)]
pub struct GrpcBody(Body);

impl http_body::Body for GrpcBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(Status::from)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let parse = |text: &'static str| parse_timeout(&HeaderValue::from_static(text));
        for (text, seconds) in [("2H", 7200.0), ("3M", 180.0), ("4S", 4.0), ("250m", 0.25)] {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!(parse("1u"), Some(Duration::from_micros(1)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "m", "5", "5x", "-5m", "+5m", "123456789m", "1.5S"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        let new = |uri| GrpcTransport::new(Client::new(), Uri::from_static(uri));
        assert!(new("http://host:1").is_ok() && new("http://host:1/").is_ok());
        for uri in ["http://host/path", "/path", "host:1", "ftp://host"] {
            assert!(matches!(new(uri), Err(Error::InvalidRequest { .. })), "{uri}");
        }
    }

    #[test]
    fn the_origin_is_for_uris_without_one() {
        let origin = Uri::from_static("http://one.example:1");
        let transport = GrpcTransport::new(Client::new(), origin).unwrap();
        for (uri, expected) in [
            ("/a.B/C", "http://one.example:1/a.B/C"),
            ("http://two.example/a.B/C", "http://two.example/a.B/C"),
        ] {
            let mut request = Request::post(uri).body(()).unwrap();
            transport.complete(&mut request).unwrap();
            assert_eq!(request.uri(), expected);
            assert_eq!(request.headers()[USER_AGENT], AGENT);
        }
        let mut request = Request::post("/a.B/C").header(USER_AGENT, "program/1").body(()).unwrap();
        transport.complete(&mut request).unwrap();
        assert_eq!(request.headers()[USER_AGENT], format!("program/1 {AGENT}"));
    }
}
