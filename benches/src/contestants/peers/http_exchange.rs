//! Shared code of the HTTP rivals: it builds requests and reads replies.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;

use super::super::http2::joined;
use super::super::raw::Template;
use super::super::{CallError, Echo, Request, RequestKind};
use crate::ask::Ask;
use crate::nonce::Nonce;
use crate::target::Target;

pub(super) const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");

/// The address, and the reply that is expected from it.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    /// What is asked for.
    pub(super) uri: Uri,
    /// The same with the address to dial: that of the relay, if there is one.
    pub(super) dialed: Uri,
    status: StatusCode,
    echoes: bool,
    ask: Ask,
}

impl Errand {
    pub(super) fn new(target: &Target, template: &Template) -> Self {
        Self {
            uri: target.uri(),
            dialed: target.dialed_uri(),
            status: template.status().unwrap_or(StatusCode::OK),
            echoes: target.echoes,
            ask: target.ask.clone(),
        }
    }

    /// The request for the `http` crate's clients, with a body made of bytes.
    pub(super) fn request<B>(
        &self,
        asked: &Request,
        body: impl Fn(Bytes) -> B,
    ) -> http::Request<B> {
        let (method, bytes) = self.parts(asked.kind);
        let mut request = http::Request::new(body(bytes));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(X_NONCE, nonce_value(asked.nonce));
        request
    }

    /// The method and the body of a request.
    pub(super) fn parts(&self, kind: RequestKind) -> (Method, Bytes) {
        self.ask.http(kind)
    }

    /// Reads the body of a reply to its end, and compares it with the nonce.
    pub(super) async fn read<B>(
        &self,
        asked: &Request,
        response: http::Response<B>,
    ) -> Result<Echo, CallError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error,
    {
        let status = response.status();
        let mut body = response.into_body();
        let mut reply = Bytes::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CallError::broken(chain(&error)))?;
            if let Ok(data) = frame.into_data()
                && (self.echoes || reply.is_empty())
            {
                reply = joined(reply, data);
            }
        }
        self.check(asked, status, &reply)
    }

    /// Compares a reply that was read with its request.
    pub(super) fn check(
        &self,
        asked: &Request,
        status: StatusCode,
        body: &[u8],
    ) -> Result<Echo, CallError> {
        if status != self.status {
            return Err(CallError::wrong(format!("status {status}")));
        }
        Ok(Echo::check(self.echoes, asked.nonce, body))
    }
}

/// The nonce as the value of a header.
pub(super) fn nonce_value(nonce: Nonce) -> HeaderValue {
    HeaderValue::from_bytes(nonce.as_bytes()).expect("digits are a header value")
}

/// An error with its causes: these clients print only the outermost one.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
