//! What a caller asks of one exchange: a limit on all of it, and a record. The server is in memory, so
//! that virtual time is exact.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2_shared::{Body, Client, Error};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use pool_common::clock::Clock;
use pool_common::connect::Connector;
use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalTimeout};
use pool_common::policy::Policy;
use pool_common::retry::Fate;
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use crate::support::echo::EchoServer;
use crate::support::{assert_clean, get, plain_client, post, send};

/// Dials take this long.
const DIAL: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

/// Makes each connection one in memory, with a server at its other end. Paths: `/hello` answers,
/// `/silent` does not, `/slow` sends 100 bytes a second without an end.
#[derive(Clone)]
struct InMemory;

impl Service<Uri> for InMemory {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(async {
            sleep(DIAL).await;
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(serve(far));
            Ok(near)
        })
    }
}

async fn serve(stream: DuplexStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request.uri().path().to_owned(), respond));
    }
}

async fn answer(path: String, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    if path == "/silent" {
        std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
        return Ok(());
    }
    let mut out = respond.send_response(Response::new(()), false)?;
    if path == "/slow" {
        loop {
            sleep(Duration::from_millis(100)).await;
            out.send_data(Bytes::from_static(b"ten bytes."), false)?;
        }
    }
    out.send_data(Bytes::from_static(b"hello"), true)
}

fn client(change: impl FnOnce(&mut Policy)) -> Client {
    let builder = Client::builder().connector(Connector::service(InMemory)).clock(Clock::tokio());
    // Each dial takes long here, and needs no second one.
    let builder = builder.change_policy(|policy| policy.dial_hedge = None);
    builder.change_policy(change).build().unwrap()
}

fn request(path: &str) -> http::request::Builder {
    Request::get(format!("http://memory.example{path}"))
}

/// How far a request had come that ended by its limit, which passed exactly.
async fn ended(client: &Client, path: &str) -> Fate {
    let start = Instant::now();
    let limited = request(path).extension(TotalTimeout::after(LIMIT));
    let error = match client.request(limited.body(Body::default()).unwrap()).await {
        Ok(response) => {
            let body = tokio::time::timeout(10 * LIMIT, response.into_body().collect()).await;
            body.expect("the body goes on").unwrap_err()
        }
        Err(error) => error,
    };
    assert_eq!(start.elapsed(), LIMIT);
    assert!(error.is_timeout());
    let Error::TotalTimeout { fate, limit: LIMIT } = error else { panic!("{error}") };
    sleep(Duration::from_secs(60)).await;
    let status = client.pool().status();
    assert_eq!((status.leases, status.waiting, status.dialing), (0, 0, 0), "{status}");
    fate
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_ends_every_stage() {
    let client = client(|policy| {
        policy.max_open_per_key = Some(1);
        policy.max_leases_per_connection = Some(1);
    });
    assert_eq!(ended(&client, "/silent").await, Fate::Unknown);
    assert_eq!(ended(&client, "/slow").await, Fate::Answered);
    let slow = request("/slow").body(Body::default()).unwrap();
    let holder = client.request(slow).await.unwrap();
    let start = Instant::now();
    let limited = request("/hello").extension(TotalTimeout::until(start + LIMIT));
    let error = client.request(limited.body(Body::default()).unwrap()).await.unwrap_err();
    assert_eq!(start.elapsed(), LIMIT);
    assert!(matches!(error, Error::TotalTimeout { fate: Fate::NotSent, .. }), "{error}");
    drop(holder);
}

async fn record(client: &Client) -> ExchangeRecord {
    let asked = request("/hello").extension(RecordExchange).body(Body::default()).unwrap();
    let response = client.request(asked).await.unwrap();
    let record = response.extensions().get::<ExchangeRecord>().unwrap().clone();
    assert_eq!(response.into_body().read_all(5).await.unwrap(), "hello");
    record
}

#[tokio::test(start_paused = true)]
async fn a_record_tells_where_the_time_went() {
    let client = client(|_| {});
    let zero = Duration::ZERO;
    // Both wait for one dial.
    let (first, second) = tokio::join!(record(&client), record(&client));
    assert_eq!((first.queued, first.dialed, first.attempts), (zero, DIAL, 1));
    assert_eq!((second.queued, second.dialed), (zero, DIAL));
    assert_eq!(first.connection, second.connection);
    assert_eq!((first.reused, second.reused), (false, true));
    let third = record(&client).await;
    assert_eq!((third.reused, third.queued, third.dialed), (true, zero, zero));
}

#[tokio::test]
async fn a_record_names_the_peer() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let mut request = get(server.addr, "/bytes/1");
    request.extensions_mut().insert(RecordExchange);
    let response = send(&client, request).await.unwrap();
    let record = response.extensions().get::<ExchangeRecord>().unwrap();
    assert_eq!(record.peer, Some(server.addr));
    drop(response);
    let response = send(&client, get(server.addr, "/bytes/1")).await.unwrap();
    assert!(response.extensions().get::<ExchangeRecord>().is_none());
    drop(response);
    assert_clean(&client).await;
}

#[tokio::test]
async fn read_all_reads_bodies_up_to_its_limit() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let read = async |path, limit| {
        let response = send(&client, post(server.addr, path, "12345")).await.unwrap();
        response.into_body().read_all(limit).await
    };
    assert_eq!(read("/echo", 5).await.unwrap(), "12345");
    assert_eq!(read("/trailers", 5).await.unwrap(), "5");
    assert_eq!(read("/bytes/100000", 100_000).await.unwrap(), vec![7; 100_000]);
    for (path, limit) in [("/echo", 4), ("/bytes/100000", 99_999)] {
        let error = read(path, limit).await.unwrap_err();
        assert!(matches!(error, Error::BodyTooLarge { limit: told } if told == limit), "{error}");
    }
    assert_clean(&client).await;
}
