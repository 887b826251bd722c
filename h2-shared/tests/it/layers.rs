//! Layers of tower and tower-http on top of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2_shared::{Body, Client, Error};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use pool_common::testing::servers::NginxServer;
use tower::limit::ConcurrencyLimitLayer;
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, RetryLayer};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::decompression::DecompressionLayer;
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_http::set_header::SetRequestHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::support::echo::EchoServer;
use crate::support::{HANG, assert_clean, eventually, get, plain_client, post, read};

const SITE: &str = r#"
    location /old { return 302 /new; }
    location /new {
        gzip on; gzip_min_length 1; gzip_types text/plain; default_type text/plain;
        return 200 "hello $http_x_name, hello $http_x_name, hello $http_x_name";
    }
    location /busy { return 503; }
"#;

#[tokio::test]
async fn layers_of_tower_http_work_on_the_client() {
    let server = NginxServer::start_http2(SITE);
    let client = Client::new();
    let (requests, responses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (request, response) = (Arc::clone(&requests), Arc::clone(&responses));
    let name = HeaderValue::from_static("pool");
    let trace = TraceLayer::new_for_http().on_response(
        move |_: &Response<_>, _: Duration, _: &tracing::Span| {
            response.fetch_add(1, Ordering::Relaxed);
        },
    );
    let service = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(trace)
        .layer(SetRequestHeaderLayer::overriding(HeaderName::from_static("x-name"), name))
        .layer(DecompressionLayer::new())
        .map_request(move |it: Request<Full<Bytes>>| {
            assert!(it.headers().contains_key("accept-encoding"));
            request.fetch_add(1, Ordering::Relaxed);
            it
        })
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, HANG))
        .service(client.clone());
    for _ in 0..20 {
        let uri = format!("http://{}/old", server.addr());
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        // The layer takes the header away when it unpacks the body.
        assert!(response.headers().get("content-encoding").is_none());
        assert!(response.headers().get("content-length").is_none());
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "hello pool, hello pool, hello pool");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 40);
    assert_eq!(responses.load(Ordering::Relaxed), 40);
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

/// Repeats what the server is too busy for, within a budget.
#[derive(Clone)]
struct BusyPolicy(Arc<TpsBudget>);

impl<B: Clone> Policy<Request<B>, Response<Body>, Error> for BusyPolicy {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<Body>, Error>,
    ) -> Option<Self::Future> {
        let busy = matches!(result, Ok(response) if response.status() == 503);
        if !busy {
            self.0.deposit();
        }
        (busy && self.0.withdraw()).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_retry_budget_bounds_the_repeats_of_all_callers() {
    let server = NginxServer::start_http2(SITE);
    let client = Client::new();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    // Room for 10 repeats in its window, and none for each request.
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.0));
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(BusyPolicy(budget)))
        .map_request(move |it: Request<Full<Bytes>>| {
            counter.fetch_add(1, Ordering::Relaxed);
            it
        })
        .service(client.clone());
    for _ in 0..30 {
        let uri = format!("http://{}/busy", server.addr());
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 503);
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(sent.load(Ordering::Relaxed), 30 + 10);
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_timeout_layer_ends_the_stream_of_a_silent_server() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let limit = Duration::from_millis(20);
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit))
        .service(client.clone());
    let response = service.oneshot(get(server.addr, "/silent")).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    eventually("the server sees the reset", || {
        server.seen.requests() == 0 || server.seen.resets.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_concurrency_limit_bounds_the_requests_at_a_server() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let limited =
        ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(2)).service(client.clone());
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let (service, request) = (limited.clone(), get(server.addr, "/hold"));
            tokio::spawn(async move {
                let response = service.oneshot(request).await.unwrap();
                read(response.into_body()).await.unwrap();
            })
        })
        .collect();
    eventually("two are at the server", || server.seen.active() == 2).await;
    // A request beside the layer: what was sent before it has arrived when it is answered.
    let beside = client.request(post(server.addr, "/echo", "beside")).await.unwrap();
    assert_eq!(read(beside.into_body()).await.unwrap(), "beside");
    assert_eq!(server.seen.requests(), 3, "the others wait at the layer");
    server.release();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(server.seen.requests(), 11);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_borrowed_client_is_a_service() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let response = Service::call(&mut &client, post(server.addr, "/echo", "own")).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), "own");
    assert_clean(&client).await;
}
