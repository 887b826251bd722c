//! Profiles over `h2-shared`: a stream slot for each request.

use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use h2_shared::{Client, Config, Error, Key, Manager};
use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use pool_common::Policy;

use super::pooled::{Listener, Sampler};
use super::raw::Template;
use super::{
    CallError, Contestant, Counts, Echo, ErrorKind, PoolStatus, Reply, Request as Asked, pooled,
};
use crate::ask::Ask;
use crate::target::Target;

const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");

/// A client whose requests share connections.
pub(super) struct Http2Pool {
    errand: Errand,
    key: Key,
    callers: AtomicU32,
}

/// One caller.
pub(super) struct Caller {
    errand: Errand,
    key: Key,
    sampler: Sampler,
}

/// A handle on the client, and what each request needs to know.
#[derive(Clone)]
struct Errand {
    client: Client,
    uri: Uri,
    /// The name of the server, if the URI has the address of a relay.
    host: Option<HeaderValue>,
    status: StatusCode,
    echoes: bool,
    ask: Ask,
}

impl Http2Pool {
    /// A client with the policy of the profile `name`, and its choices for connections where
    /// `h2-shared` knows them.
    pub(super) fn new(
        target: &Target,
        template: &Template,
        name: &str,
        policy: Policy,
        listener: Listener,
    ) -> Result<Self, String> {
        let config = match name {
            "grpc" => Config::grpc(),
            "net-http-h2" => Config::net_http(),
            _ => Config::default(),
        };
        let manager = Manager::new(config).map_err(|error| error.to_string())?;
        let client = Client::from(pooled::build(manager, policy, listener)?);
        Ok(Self {
            key: Key::from_uri(&target.dialed_uri()).map_err(|error| error.to_string())?,
            callers: AtomicU32::new(0),
            errand: Errand {
                client,
                uri: target.dialed_uri(),
                host: target.name(),
                status: template.status().unwrap_or(StatusCode::OK),
                echoes: target.echoes,
                ask: target.ask.clone(),
            },
        })
    }
}

impl Errand {
    async fn run(&self, asked: &Asked) -> Result<Echo, CallError> {
        let nonce = asked.nonce;
        let (method, body) = self.ask.http(asked.kind);
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        let value = HeaderValue::from_bytes(nonce.as_bytes()).expect("digits are a header value");
        request.headers_mut().insert(X_NONCE, value);
        if let Some(host) = &self.host {
            // The client makes it the `:authority`.
            request.headers_mut().insert(HOST, host.clone());
        }
        let response = self.client.request(request).await.map_err(failed)?;
        let status = response.status();
        let mut body = response.into_body();
        let mut reply = Bytes::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(failed)?.into_data()
                && (self.echoes || reply.is_empty())
            {
                reply = joined(reply, data);
            }
        }
        if status != self.status {
            return Err(CallError::wrong(format!("status {status}")));
        }
        Ok(Echo::check(self.echoes, nonce, &reply))
    }
}

/// The part of an echo that has arrived. Usually it is one frame, which is not copied.
pub(super) fn joined(before: Bytes, data: Bytes) -> Bytes {
    if before.is_empty() { data } else { [before, data].concat().into() }
}

fn failed(error: Error) -> CallError {
    let text = error.to_string();
    match error {
        Error::Acquire(error) => pooled::acquire_failed(error),
        error if error.is_timeout() => CallError::new(ErrorKind::Timeout, text),
        _ => CallError::broken(text),
    }
}

impl Contestant for Http2Pool {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(Caller {
            errand: self.errand.clone(),
            key: self.key.clone(),
            sampler: Sampler::numbered(&self.callers),
        })
    }

    async fn call(caller: &mut Caller, request: &Asked) -> Result<Reply, CallError> {
        let Caller { errand, key, sampler } = caller;
        sampler.around(errand.client.pool(), key, errand.run(request)).await
    }

    fn counts(&self) -> Counts {
        pooled::counts(self.errand.client.pool())
    }

    fn status(&self) -> Option<PoolStatus> {
        Some(pooled::status(self.errand.client.pool()))
    }

    async fn close(&self) {
        self.errand.client.close().await;
    }
}
