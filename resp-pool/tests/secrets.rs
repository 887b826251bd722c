//! No secret in errors and in what `Debug` shows.

use std::{fmt::Debug, sync::Arc};

use resp_pool::{Config, Connection, Error, Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A peer that answers the first request with `reply` and keeps the connection.
async fn peer(reply: Vec<u8>) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut config = Config::default();
    config.port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(&reply).await;
        let _ = stream.read(&mut [0; 1024]).await;
    });
    config
}

async fn dial(config: &Config) -> Result<Connection, Error> {
    Connection::dial(&config.key()?, Arc::new(config.settings.clone())).await
}

/// As text, and as the list of numbers that `Debug` makes of bytes.
fn assert_hidden(shown: &impl Debug, secret: &str) {
    let shown = format!("{shown:?} {shown:#?}");
    let numbers = format!("{:?}", secret.as_bytes());
    assert!(!shown.contains(secret), "{shown}");
    assert!(!shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
}

#[test]
fn a_password_with_a_question_mark_is_not_repeated_as_a_parameter() {
    for url in ["redis://alice:2024?hunter2@cache:6379/0", "redis://alice:20?hunter=2@cache"] {
        let error = Config::from_url(url).expect_err("no such parameter");
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
    let error = Config::from_url("redis://cache?timeout=5").expect_err("no such parameter");
    assert!(error.to_string().contains("timeout"), "{error}");
}

#[tokio::test]
async fn a_refused_handshake_repeats_no_part_of_a_long_password() {
    let password = format!("topsecret{}", "x".repeat(200));
    // Redis before version 6 repeats the first 128 bytes of the arguments.
    let start = &password[..100];
    let lines = [
        format!(
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `{start}`\r\n"
        ),
        format!("-{start} is not a command\r\n"),
    ];
    for (line, protocol) in
        lines.iter().flat_map(|line| [(line, Protocol::Resp2), (line, Protocol::Resp3)])
    {
        let mut config = peer(line.clone().into_bytes()).await;
        config.protocol = protocol;
        config.password = Some(password.as_str().into());
        let error = dial(&config).await.expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("topsecret"), "{error}");
        assert_eq!(error.server_error().expect("a refusal").code(), "ERR");
    }
}

#[tokio::test]
async fn debug_of_a_connection_shows_no_bytes() {
    let replies = b">2\r\n+kept\r\n+payload\r\n+OK\r\n$7\r\nleft";
    let config = peer(replies.to_vec()).await;
    let mut connection = dial(&config).await.expect("connects");
    connection.query::<()>(&["GET", "k"]).await.expect("GET");
    assert_hidden(&connection, "payload");
    assert_hidden(&connection, "left");

    let config = peer(Vec::new()).await;
    let mut connection = dial(&config).await.expect("connects");
    connection.send(&["AUTH", "hunter2"]).expect("send");
    assert_hidden(&connection, "hunter2");
    assert!(format!("{connection:?}").contains("unwritten"), "something is shown");
}
