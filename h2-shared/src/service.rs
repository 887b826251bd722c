//! The client as a [`tower_service::Service`].

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use crate::body::Body;
use crate::client::Client;
use crate::error::Error;
use crate::upload::BodyError;

/// # As a tower service
/// A service for requests with any body that [`Client::request`] takes, so that layers of tower and
/// tower-http go on top. A client is one value for all origins, and clones share the pool.
///
/// **Always ready.** Which limit a request meets depends on its origin, and `poll_ready` is asked
/// before there is a request. So `poll_ready` reserves nothing, and the future of the request waits
/// in the pool: in arrival order, for at most `acquire_timeout`. The pool's limits hold whatever
/// the layers above do; a request that the pool turns away fails with [`Error::Acquire`].
/// `max_waiters` of the policy bounds how many wait (tower's `LoadShed` sheds nothing here), and
/// [`Pool::status`](pool_common::Pool::status) tells how many do.
///
/// tower's `ConcurrencyLimit` counts a request until its response head has arrived. The pool counts
/// its stream until both bodies have ended.
///
/// Each call costs one allocation, for the future, that [`Client::request`] does not need.
impl<B> Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    /// Always ready, see above.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// As [`Client::request`].
    #[track_caller]
    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        (&*self).call(request)
    }
}

/// As the service of [`Client`], for a client that is only borrowed.
impl<B> Service<Request<B>> for &Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    /// Always ready, as for [`Client`].
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// As [`Client::request`].
    #[track_caller]
    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (client, place) = (Client::clone(self), Location::caller());
        ResponseFuture(Box::pin(async move { client.carry_out(request, place).await }))
    }
}

/// The future of a request to the client as a service: resolves to what [`Client::request`] does.
///
/// # Cancel safety
/// As [`Client::request`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
