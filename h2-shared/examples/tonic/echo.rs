// A small gRPC service for the example and the tests: its message, the code that tonic-build made for it,
// and a server. No doc comments of the file itself, as it is also included by other files.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

include!("echo_service.rs");

/// The only message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    /// Its text.
    #[prost(string, tag = "1")]
    pub text: String,
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

/// The service. Special texts: `silent` is never answered, `fail` is an error, `agent` is answered with
/// the user agent, `forever` with a stream that has no end.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// How many calls without an end were given up.
    pub given_up: Arc<AtomicUsize>,
}

/// A call without an end.
struct Endless(Arc<AtomicUsize>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

type Texts = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

fn answer(text: &str) -> Result<Text, Status> {
    match text {
        "fail" => Err(Status::failed_precondition("as the text says")),
        text => Ok(text.into()),
    }
}

#[tonic::async_trait]
impl echo_server::Echo for Echo {
    type CountStream = Texts;
    type TalkStream = Texts;

    async fn say(&self, request: Request<Text>) -> Result<Response<Text>, Status> {
        let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
        let text = match request.get_ref().text.as_str() {
            "agent" => agent.unwrap_or_default(),
            "silent" => {
                let _endless = Endless(Arc::clone(&self.given_up));
                std::future::pending().await
            }
            text => text,
        };
        answer(text).map(Response::new)
    }

    async fn count(&self, request: Request<Text>) -> Result<Response<Texts>, Status> {
        let text = request.into_inner().text;
        if text == "forever" {
            let endless = Endless(Arc::clone(&self.given_up));
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                while sender.send(Ok(Text::from("again"))).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                drop(endless);
            });
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            return Ok(Response::new(Box::pin(stream)));
        }
        let words: Vec<_> = text.split(' ').map(answer).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(words))))
    }

    async fn talk(&self, request: Request<Streaming<Text>>) -> Result<Response<Texts>, Status> {
        let texts = request.into_inner().map(|text| answer(&text?.text));
        Ok(Response::new(Box::pin(texts)))
    }
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, echo: Echo) {
    let service = echo_server::EchoServer::new(echo);
    let incoming = TcpListenerStream::new(listener);
    let served = tonic::transport::Server::builder().serve_with_incoming(service, incoming).await;
    served.expect("the listener works");
}
