//! Profiles over `http1-pool`: a client that keeps its connections, or a client for each request.

use std::sync::atomic::AtomicU32;

use http::header::{CONNECTION, HOST};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http1_pool::{Body, Client, Config, Error, Key, Manager};
use pool_common::Policy;

use super::pooled::{Listener, Sampler};
use super::raw::Template;
use super::{
    CallError, Contestant, Counts, Echo, ErrorKind, PoolStatus, Reply, Request as Asked, pooled,
};
use crate::ask::Ask;
use crate::target::Target;

/// The longest body that is read.
const MAX_BODY: usize = 1024 * 1024;

const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");

/// The data that each request needs.
#[derive(Clone)]
pub(super) struct Errand {
    uri: Uri,
    status: StatusCode,
    echoes: bool,
    /// The name of the server, if the URI has the address of a relay.
    host: Option<HeaderValue>,
    ask: Ask,
    /// Whether each request asks for its connection to be closed.
    keeps_alive: bool,
}

impl Errand {
    fn new(target: &Target, template: &Template) -> Self {
        Self {
            uri: target.dialed_uri(),
            status: template.status().unwrap_or(StatusCode::OK),
            echoes: target.echoes,
            host: target.name(),
            ask: target.ask.clone(),
            keeps_alive: true,
        }
    }

    /// Each request says `Connection: close`, as net/http's does with `DisableKeepAlives`.
    fn without_keep_alive(self) -> Self {
        Self { keeps_alive: false, ..self }
    }

    /// One request, and its reply read to the end.
    async fn run(&self, client: &Client, asked: &Asked) -> Result<Echo, CallError> {
        let nonce = asked.nonce;
        let (method, body) = self.ask.http(asked.kind);
        let body = if body.is_empty() { Body::empty() } else { Body::from(body) };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        let value = HeaderValue::from_bytes(nonce.as_bytes()).expect("digits are a header value");
        request.headers_mut().insert(X_NONCE, value);
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        if !self.keeps_alive {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let response = client.request(request).await.map_err(failed)?;
        let status = response.status();
        let body = response.into_body().read_all(MAX_BODY).await.map_err(failed)?;
        if status != self.status {
            return Err(CallError::wrong(format!("status {status}")));
        }
        Ok(Echo::check(self.echoes, nonce, &body))
    }
}

fn failed(error: Error) -> CallError {
    let text = error.to_string();
    match error {
        Error::Acquire(error) => pooled::acquire_failed(error),
        error if error.is_timeout() => CallError::new(ErrorKind::Timeout, text),
        _ => CallError::broken(text),
    }
}

/// A client that keeps its connections.
pub(super) struct Http1Pool {
    client: Client,
    errand: Errand,
    callers: AtomicU32,
}

impl Http1Pool {
    /// A client with this policy.
    pub(super) fn new(
        target: &Target,
        template: &Template,
        policy: Policy,
        listener: Listener,
    ) -> Result<Self, String> {
        Ok(Self {
            client: client(policy, listener)?,
            errand: Errand::new(target, template),
            callers: AtomicU32::new(0),
        })
    }
}

/// One caller: its handle on the client, and what its requests need.
pub(super) struct Caller {
    client: Client,
    key: Key,
    errand: Errand,
    sampler: Sampler,
}

fn client(policy: Policy, listener: Listener) -> Result<Client, String> {
    let manager = Manager::new(Config::default()).map_err(|error| error.to_string())?;
    Ok(Client::from(pooled::build(manager, policy, listener)?))
}

impl Contestant for Http1Pool {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(Caller {
            client: self.client.clone(),
            key: Key::from_uri(&self.errand.uri).map_err(|error| error.to_string())?,
            errand: self.errand.clone(),
            sampler: Sampler::numbered(&self.callers),
        })
    }

    async fn call(caller: &mut Caller, request: &Asked) -> Result<Reply, CallError> {
        let Caller { client, key, errand, sampler } = caller;
        sampler.around(client.pool(), key, errand.run(client, request)).await
    }

    fn counts(&self) -> Counts {
        pooled::counts(self.client.pool())
    }

    fn status(&self) -> Option<PoolStatus> {
        Some(pooled::status(self.client.pool()))
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

/// A client for each request, without keep-alive, as in a program that makes a new client wherever it
/// needs one. The study that this is compared with sets `DisableKeepAlives`, which sends the same header.
pub(super) struct Http1Fresh {
    policy: Policy,
    errand: Errand,
}

impl Http1Fresh {
    /// Makes clients with this policy.
    pub(super) fn new(target: &Target, template: &Template, policy: Policy) -> Self {
        Self { policy, errand: Errand::new(target, template).without_keep_alive() }
    }
}

impl Contestant for Http1Fresh {
    type Caller = (Policy, Errand);

    async fn caller(&self) -> Result<(Policy, Errand), String> {
        Ok((self.policy.clone(), self.errand.clone()))
    }

    async fn call(
        (policy, errand): &mut (Policy, Errand),
        request: &Asked,
    ) -> Result<Reply, CallError> {
        let client = client(policy.clone(), None).map_err(CallError::broken)?;
        let result = errand.run(&client, request).await;
        client.close().await;
        Ok(Reply::new(result?))
    }
}
