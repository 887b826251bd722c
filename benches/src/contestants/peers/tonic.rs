//! tonic's `Channel`, over HTTP/2. As shipped.
//!
//! The channel is used as a service of HTTP requests, as a generated gRPC client uses it, so that it can
//! use the same server as the other contestants. This leaves out the gRPC framing of
//! messages, their encoding with protobuf, the status in the trailers, and the metadata. A real gRPC
//! call costs more than these figures show; connections are handled as for a real call.
//!
//! Settings, and why:
//! - `connect_lazy`: the channel dials with the first request, so that its dial is inside the turn as
//!   for the others. It is also the only way in which a channel dials again by itself from the start.
//! - All other settings have their defaults: one connection, no keep-alive pings, no deadline, a buffer of
//!   1024 requests in front of the connection.
//!
//! What would make this rival faster: several channels behind `Channel::balance_list`; a larger
//! `buffer_size` does not help while requests are short.

use std::future::poll_fn;

use http_body_util::Full;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Error};
use tower_service::Service;

use super::super::raw::Template;
use super::super::{CallError, Contestant, Reply, Request};
use super::http_exchange::{Errand, chain};
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "tonic",
    category: Category::AsShipped,
    does_not: &[
        "open a second connection",
        "have a deadline unless told to",
        "pause after failed dials",
        "send the framing, encoding and trailers of gRPC here",
    ],
    single: true,
    safety: Safety { check: Some(true), deadline: Some(false), reset: None, bounded: Some(true) },
};

/// One channel for all callers.
pub(super) struct Rival {
    caller: Caller,
}

/// A handle on the channel, and what its requests need.
#[derive(Clone)]
pub(super) struct Caller {
    channel: Channel,
    errand: Errand,
}

impl Rival {
    pub(super) fn new(target: &Target, template: &Template) -> Result<Self, String> {
        let errand = Errand::new(target, template);
        let endpoint = Endpoint::new(errand.dialed.clone()).map_err(|error| chain(&error))?;
        // The name of the server in requests, although a relay may be dialed.
        let endpoint = endpoint.origin(errand.uri.clone());
        Ok(Self { caller: Caller { channel: endpoint.connect_lazy(), errand } })
    }
}

/// The channel does not tell the kind of an error, but a failed dial is among the causes of the error.
fn failed(error: Error) -> CallError {
    let text = chain(&error);
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let mut dials = causes.filter(|cause| cause.is::<tonic::ConnectError>());
    if dials.next().is_some() { CallError::dial(text) } else { CallError::broken(text) }
}

impl Contestant for Rival {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(self.caller.clone())
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let Caller { channel, errand } = caller;
        poll_fn(|cx| channel.poll_ready(cx)).await.map_err(failed)?;
        let asked = errand.request(request, |bytes| Body::new(Full::from(bytes)));
        let response = channel.call(asked).await.map_err(failed)?;
        Ok(Reply::new(errand.read(request, response).await?))
    }
}
