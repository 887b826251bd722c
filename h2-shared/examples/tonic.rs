//! A generated client of tonic over the shared connections of this crate, against a real tonic server:
//!
//! ```sh
//! cargo run -p h2-shared --features tonic --example tonic
//! ```

#![allow(clippy::print_stdout)] // It is a program that shows something.

#[path = "tonic/echo.rs"]
mod echo;

use std::time::Duration;

use echo::Text;
use echo::echo_client::EchoClient;
use h2_shared::{Client, Config, GrpcTransport};
use pool_common::exchange::{ExchangeRecord, RecordExchange};
use tonic::Request;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(echo::serve(listener, echo::Echo::default()));

    // Calls have their own deadlines, so no other limits on responses.
    let client = Client::builder().config(Config::grpc()).build()?;
    let transport = GrpcTransport::new(client.clone(), origin.parse()?)?;
    let mut echo = EchoClient::new(transport);

    let mut request = Request::new(Text::from("hello"));
    request.extensions_mut().insert(RecordExchange);
    let response = echo.say(request).await?;
    println!("unary: {}", response.get_ref().text);
    let record = response.extensions().get::<ExchangeRecord>().ok_or("it was asked for")?;
    println!("its exchange: {record}");

    let mut words = echo.count(Text::from("one two three")).await?.into_inner();
    while let Some(word) = words.message().await? {
        println!("server streaming: {}", word.text);
    }

    let questions = tokio_stream::iter(["first", "second"].map(Text::from));
    let mut answers = echo.talk(questions).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        println!("bidirectional: {}", answer.text);
    }

    let status = echo.say(Text::from("fail")).await.expect_err("it fails");
    println!("an error of the service: {:?}: {}", status.code(), status.message());

    // A server that sends again and again: the deadline ends the stream, too.
    let mut request = Request::new(Text::from("forever"));
    request.set_timeout(Duration::from_millis(200));
    let mut stream = echo.count(request).await?.into_inner();
    let status = loop {
        if let Err(status) = stream.message().await {
            break status;
        }
    };
    println!("after its deadline: {:?}: {}", status.code(), status.message());

    println!("{}", client.pool().status());
    Ok(())
}
