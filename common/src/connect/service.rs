//! Connectors of the user's: `tower_service::Service<http::Uri>`.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::stream::Stream;

type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// A service without its types.
pub(super) trait Dial: Send + Sync {
    /// Opens a connection to `peer`, which is `host:port`.
    fn dial<'a>(&'a self, scheme: &str, peer: &str) -> Dialing<'a>;
}

/// Each dial takes a clone, since a service may be busy from `poll_ready` until its call has ended.
pub(super) struct Cloned<S>(pub(super) S);

impl<S> Dial for Cloned<S>
where
    S: Service<Uri> + Clone + Send + Sync + 'static,
    S::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    fn dial<'a>(&'a self, scheme: &str, peer: &str) -> Dialing<'a> {
        let mut service = self.0.clone();
        let uri = Uri::builder().scheme(scheme).authority(peer).path_and_query("/").build();
        Box::pin(async move {
            let uri = uri.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
            Ok(Stream::other(service.call(uri).await.map_err(failed)?))
        })
    }
}

/// An I/O error keeps its kind.
fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    match error.into().downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::connect::{ConnectStage, Connector, Target, granted_until};

    /// Echoes what is written, unless the host is `silent` or `closed`.
    #[derive(Clone)]
    struct Echo;

    impl Service<Uri> for Echo {
        type Response = DuplexStream;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, uri: Uri) -> Self::Future {
            Box::pin(async move {
                match uri.host() {
                    Some("silent") => std::future::pending().await,
                    Some("closed") => return Err(io::ErrorKind::ConnectionRefused.into()),
                    _ => {}
                }
                let (near, mut far) = duplex(64);
                tokio::spawn(async move {
                    let mut bytes = [0; 64];
                    while let Ok(count @ 1..) = far.read(&mut bytes).await {
                        far.write_all(&bytes[..count]).await.expect("the reader is there");
                    }
                });
                Ok(near)
            })
        }
    }

    #[tokio::test]
    async fn stray_bytes_and_the_end_are_seen_on_the_stream_of_a_service() {
        let connector = Connector::service(Echo);
        let mut stream = connector.connect(Target::host("::1", 80)).await.expect("it opens");
        assert!(stream.is_quiet(Instant::now()));
        assert_eq!(stream.try_write(b"hello").expect("there is room"), 5);
        tokio::task::yield_now().await;
        let mut bytes = [0; 8];
        assert_eq!(stream.read_seen(&mut bytes).expect("the echo is there"), 5);
        assert!(stream.is_quiet(Instant::now()));

        let (near, far) = duplex(1);
        let mut stream = Stream::other(near);
        assert!(stream.is_quiet(Instant::now()));
        drop(far);
        assert!(!stream.is_quiet(Instant::now()), "the peer has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_has_the_time_of_the_dial() {
        let connector = Connector::service(Echo);
        let start = Instant::now();
        let end = Some(start + Duration::from_secs(3));
        let dial = granted_until(end, connector.connect(Target::host("silent", 80)));
        let error = dial.await.expect_err("it never answers");
        assert_eq!((error.kind(), error.stage()), (io::ErrorKind::TimedOut, ConnectStage::Open));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let error = connector.connect(Target::host("closed", 80)).await.expect_err("it is closed");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("closed:80: "), "{error}");
    }
}
