//! hyper-util's legacy client, over HTTP/1 and over HTTP/2 with prior knowledge. As shipped.
//!
//! Settings, and why:
//! - `pool_max_idle_per_host` is the number of connections of the budget: the client has no limit of
//!   open connections, and this is its only setting of size. With its own budget it keeps every idle
//!   connection.
//! - `http2_only` for HTTP/2: without TLS nothing else tells the client to speak it.
//! - `pool_timer` is the timer of tokio: without one the client never closes idle connections, and
//!   its documentation asks for it.
//! - `nodelay` of the connector: it is set for every contestant.
//!
//! What would make this rival faster: the two HTTP/2 windows of hyper are sized for throughput of
//! large bodies already; several HTTP/2 connections would help, but the client keeps one for each
//! host.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use super::super::raw::Template;
use super::super::{CallError, Contestant, Reply, Request};
use super::http_exchange::{Errand, chain};
use super::{Category, Facts};
use crate::names::Protocol;
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "hyper-util",
    category: Category::AsShipped,
    does_not: &[
        "limit open connections",
        "have a deadline for a request or for a dial",
        "pause after failed dials",
        "open a second HTTP/2 connection to a host",
    ],
    single: false,
    // Before it lends a connection it notices a close that has arrived, as our peek does.
    safety: Safety { check: Some(true), deadline: Some(false), reset: None, bounded: Some(false) },
};

type HyperClient = Client<Connector, Full<Bytes>>;

/// Dials the address of the errand, whatever name of the server a request has, since a relay may stand in
/// front of it.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    dialed: Uri,
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, _named: Uri) -> Self::Future {
        self.tcp.call(self.dialed.clone())
    }
}

/// One client for all callers.
pub(super) struct Rival {
    caller: Caller,
}

/// A handle on the client, and what its requests need.
#[derive(Clone)]
pub(super) struct Caller {
    client: HyperClient,
    errand: Errand,
}

impl Rival {
    pub(super) fn new(target: &Target, template: &Template, connections: Option<usize>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        builder.http2_only(target.protocol == Protocol::Http2);
        if let Some(connections) = connections {
            builder.pool_max_idle_per_host(connections);
        }
        let errand = Errand::new(target, template);
        let client = builder.build(Connector { tcp: connector, dialed: errand.dialed.clone() });
        Self { caller: Caller { client, errand } }
    }
}

fn failed(error: Error) -> CallError {
    let text = chain(&error);
    if error.is_connect() { CallError::dial(text) } else { CallError::broken(text) }
}

impl Contestant for Rival {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(self.caller.clone())
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let Caller { client, errand } = caller;
        let response = client.request(errand.request(request, Full::from)).await.map_err(failed)?;
        Ok(Reply::new(errand.read(request, response).await?))
    }
}
