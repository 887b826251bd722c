//! reqwest, over HTTP/1 and over HTTP/2 with prior knowledge. As shipped, without TLS.
//!
//! Settings, and why:
//! - `pool_max_idle_per_host` is the number of connections of the budget: reqwest has no limit of
//!   open connections, and this is its only setting of size. With its own budget it keeps every idle
//!   connection, each for 90 seconds.
//! - `http2_prior_knowledge` or `http1_only`: the server speaks one of the two, and without TLS
//!   nothing is negotiated.
//! - `no_proxy`: a proxy in the environment would stand between the client and the server.
//! - Without the TLS and charset features: the servers speak plain TCP, and replies are bytes.
//!
//! What would make this rival faster: a request goes through layers for redirects, cookies, proxies
//! and decompression that are not used here; hyper-util below it does without them.

use reqwest::{Client, Error, Url};

use super::super::raw::Template;
use super::super::{CallError, Contestant, ErrorKind, Reply, Request};
use super::http_exchange::{Errand, X_NONCE, chain, nonce_value};
use super::{Category, Facts};
use crate::names::Protocol;
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "reqwest",
    category: Category::AsShipped,
    does_not: &[
        "limit open connections",
        "have a deadline for a request or for a dial unless told to",
        "pause after failed dials",
        "open a second HTTP/2 connection to a host",
    ],
    single: false,
    safety: Safety { check: Some(true), deadline: Some(false), reset: None, bounded: Some(false) },
};

/// One client for all callers.
pub(super) struct Rival {
    caller: Caller,
}

/// A handle on the client, and what its requests need.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    /// Parsed once, as a program would that asks for one address again and again.
    url: Url,
    errand: Errand,
}

impl Rival {
    pub(super) fn new(
        target: &Target,
        template: &Template,
        connections: Option<usize>,
    ) -> Result<Self, String> {
        let mut builder = Client::builder().no_proxy();
        builder = match target.protocol {
            Protocol::Http2 => builder.http2_prior_knowledge(),
            _ => builder.http1_only(),
        };
        if let Some(connections) = connections {
            builder = builder.pool_max_idle_per_host(connections);
        }
        let errand = Errand::new(target, template);
        let mut url = Url::parse(&errand.uri.to_string()).map_err(|error| error.to_string())?;
        if target.relayed {
            // The client dials the port of its URL. So through a relay, requests have the name of the server
            // with the relay's port. A server given by address has no name.
            match url.domain().map(str::to_owned) {
                Some(domain) => {
                    builder = builder.resolve(&domain, target.address);
                    url.set_port(Some(target.address.port()))
                        .map_err(|()| "the URL takes no port".to_owned())?;
                }
                None => {
                    url = Url::parse(&errand.dialed.to_string())
                        .map_err(|error| error.to_string())?;
                }
            }
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        Ok(Self { caller: Caller { client, url, errand } })
    }
}

fn failed(error: Error) -> CallError {
    let text = chain(&error);
    if error.is_connect() {
        CallError::dial(text)
    } else if error.is_timeout() {
        CallError::new(ErrorKind::Timeout, text)
    } else {
        CallError::broken(text)
    }
}

impl Contestant for Rival {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(self.caller.clone())
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let Caller { client, url, errand } = caller;
        let (method, body) = errand.parts(request.kind);
        let mut builder = client.request(method, url.clone());
        builder = builder.header(X_NONCE, nonce_value(request.nonce));
        if !body.is_empty() {
            builder = builder.body(body);
        }
        let response = builder.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        Ok(Reply::new(errand.check(request, status, &body)?))
    }
}
