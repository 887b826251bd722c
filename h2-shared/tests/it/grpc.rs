//! A generated client of tonic over the client, against a real tonic server.

#[path = "../../examples/tonic/echo.rs"]
mod echo;

use std::sync::atomic::Ordering;
use std::time::Duration;

use h2::Reason;
use h2_shared::{Client, Config, Error, GrpcTransport};
use pool_common::Policy;
use pool_common::exchange::{ExchangeRecord, RecordExchange, TotalTimeout};
use pool_common::policy::AtLimit;
use tokio::net::TcpListener;
use tonic::{Code, Request, Status};

use self::echo::echo_client::EchoClient;
use self::echo::{Echo, Text};
use crate::support::raw::RawServer;
use crate::support::{HANG, assert_clean, eventually};

type Calls = EchoClient<GrpcTransport>;

/// A deadline that passes in a test, and has room for a slow machine.
const LIMIT: Duration = Duration::from_millis(500);

fn client(change: impl FnOnce(&mut Policy)) -> Client {
    Client::builder().config(Config::grpc()).change_policy(change).build().unwrap()
}

fn calls(client: &Client, addr: std::net::SocketAddr) -> Calls {
    let origin = format!("http://{addr}").parse().unwrap();
    EchoClient::new(GrpcTransport::new(client.clone(), origin).unwrap())
}

async fn served() -> (Client, Calls, Echo) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let echo = Echo::default();
    tokio::spawn(echo::serve(listener, echo.clone()));
    let client = client(|_| {});
    let calls = calls(&client, addr);
    (client, calls, echo)
}

async fn within<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, call).await.expect("the call hangs")
}

fn timed(text: &str, limit: Duration) -> Request<Text> {
    let mut request = Request::new(Text::from(text));
    request.set_timeout(limit);
    request
}

/// The messages of a stream, and how it ended.
async fn all(mut stream: tonic::Streaming<Text>) -> (Vec<String>, Result<(), Status>) {
    let mut texts = Vec::new();
    loop {
        match within(stream.message()).await {
            Ok(Some(text)) => texts.push(text.text),
            Ok(None) => return (texts, Ok(())),
            Err(status) => return (texts, Err(status)),
        }
    }
}

#[tokio::test]
async fn calls_of_all_kinds_share_one_connection() {
    let (client, mut calls, _) = served().await;
    for number in 0..20 {
        let text = format!("text {number}");
        let answer = within(calls.say(Text::from(text.as_str()))).await.unwrap();
        assert_eq!(answer.get_ref().text, text);
        let words = within(calls.count(Text::from("a b c"))).await.unwrap().into_inner();
        assert_eq!(all(words).await.0, ["a", "b", "c"]);
    }
    let (questions, receiver) = tokio::sync::mpsc::channel(1);
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = within(calls.talk(receiver)).await.unwrap().into_inner();
    // Each question is asked only after the answer to the one before.
    for text in ["first", "second", "third"] {
        questions.send(Text::from(text)).await.unwrap();
        let answer = within(answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.text, text);
    }
    drop(questions);
    assert!(within(answers.message()).await.unwrap().is_none());
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_call_carries_the_user_agent_and_its_record() {
    let (client, mut calls, _) = served().await;
    let mut request = Request::new(Text::from("agent"));
    request.metadata_mut().insert("user-agent", "program/1".parse().unwrap());
    request.extensions_mut().insert(RecordExchange);
    let answer = within(calls.say(request)).await.unwrap();
    let expected = concat!("program/1 grpc-rust-h2-shared/", env!("CARGO_PKG_VERSION"));
    assert_eq!(answer.get_ref().text, expected);
    assert!(answer.extensions().get::<ExchangeRecord>().is_some());
    assert_clean(&client).await;
}

#[tokio::test]
async fn errors_of_the_service_arrive_without_and_behind_messages() {
    let (client, mut calls, _) = served().await;
    // A response of trailers only.
    let status = within(calls.say(Text::from("fail"))).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "as the text says");
    assert_eq!((status.code(), status.message()), expected);
    let words = within(calls.count(Text::from("a b fail"))).await.unwrap().into_inner();
    let (texts, end) = all(words).await;
    assert_eq!(texts, ["a", "b"]);
    assert_eq!(end.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_to_a_silent_server() {
    let server = RawServer::start().await;
    let client = client(|_| {});
    let mut calls = calls(&client, server.addr);
    let silent = async {
        let _peer = server.accept(None).await;
        std::future::pending::<()>().await;
    };
    let call = within(calls.say(timed("never answered", Duration::from_millis(200))));
    let status = tokio::select! {
        answer = call => answer.unwrap_err(),
        () = silent => unreachable!("it has no end"),
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let source = std::error::Error::source(&status).unwrap().downcast_ref::<Error>().unwrap();
    assert!(matches!(source, Error::TotalTimeout { .. }), "{source}");
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_runs() {
    let (client, mut calls, echo) = served().await;
    let stream = within(calls.count(timed("forever", LIMIT))).await.unwrap().into_inner();
    let (texts, end) = within(all(stream)).await;
    assert!(!texts.is_empty());
    assert_eq!(end.unwrap_err().code(), Code::DeadlineExceeded);
    eventually("the server is told", || echo.given_up.load(Ordering::SeqCst) == 1).await;
    // The connection serves on.
    within(calls.say(Text::from("next"))).await.unwrap();
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn the_earlier_of_two_deadlines_counts() {
    let (client, mut calls, _) = served().await;
    let mut request = timed("silent", HANG * 10);
    request.extensions_mut().insert(TotalTimeout::after(LIMIT));
    let status = within(calls.say(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_at_the_server() {
    let (client, mut calls, echo) = served().await;
    let mut stream = within(calls.count(Text::from("forever"))).await.unwrap().into_inner();
    within(stream.message()).await.unwrap().unwrap();
    drop(stream);
    eventually("the stream has ended", || echo.given_up.load(Ordering::SeqCst) == 1).await;
    let mut other = calls.clone();
    let call = tokio::spawn(async move { other.say(Text::from("silent")).await });
    eventually("the call is open", || client.pool().status().leases == 1).await;
    // The next call goes out behind it.
    within(calls.say(Text::from("next"))).await.unwrap();
    call.abort();
    eventually("the call has ended", || echo.given_up.load(Ordering::SeqCst) == 2).await;
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

/// The code of a call whose stream the server resets.
async fn reset_with(reason: Reason) -> Code {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            respond.send_reset(reason);
        }
    });
    let client = client(|policy| policy.retry_attempts = 1);
    let status = within(calls(&client, addr).say(Text::from("x"))).await.unwrap_err();
    assert_clean(&client).await;
    server.abort();
    status.code()
}

#[tokio::test]
async fn resets_have_the_codes_that_grpc_gives_them() {
    for (reason, code) in [
        (Reason::NO_ERROR, Code::Internal),
        (Reason::PROTOCOL_ERROR, Code::Internal),
        (Reason::INTERNAL_ERROR, Code::Internal),
        (Reason::REFUSED_STREAM, Code::Unavailable),
        (Reason::CANCEL, Code::Cancelled),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
    ] {
        assert_eq!(reset_with(reason).await, code, "{reason:?}");
    }
}

#[tokio::test]
async fn errors_of_the_pool_and_the_connection_have_codes() {
    // No server there.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nowhere = client(|_| {});
    let status = within(calls(&nowhere, gone).say(Text::from("x"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    nowhere.close().await;
    let status = within(calls(&nowhere, gone).say(Text::from("x"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "{status}");

    // A server that goes away before it answers.
    let server = RawServer::start().await;
    let lost = client(|policy| policy.retry_attempts = 1);
    let mut one = calls(&lost, server.addr);
    let going = async {
        let mut peer = server.accept(None).await;
        peer.request().await;
    };
    let (answer, ()) = tokio::join!(within(one.say(Text::from("x"))), going);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    assert_clean(&lost).await;
}

#[tokio::test]
async fn a_full_pool_that_does_not_wait_is_an_exhausted_resource() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(echo::serve(listener, Echo::default()));
    let client = client(|policy| {
        policy.max_open_per_key = Some(1);
        policy.max_leases_per_connection = Some(1);
        policy.at_limit = AtLimit::Fail;
    });
    let mut calls = calls(&client, addr);
    let stream = within(calls.count(Text::from("forever"))).await.unwrap();
    let status = within(calls.say(Text::from("x"))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    drop(stream);
    assert_clean(&client).await;
}
