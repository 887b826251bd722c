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
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(&reply).await;
        let _ = stream.read(&mut [0; 1024]).await;
    });
    config
}

async fn dial(config: &Config) -> Result<Connection, Error> {
    Connection::dial(&config.key().expect("a valid config"), Arc::new(config.settings.clone()))
        .await
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
async fn only_texts_that_may_repeat_the_password_are_withheld() {
    for (protocol, database, replies, command, words) in [
        // The refusals of other commands are shown.
        (
            Protocol::Resp2,
            99,
            "+OK\r\n-ERR DB index is out of range\r\n",
            "SELECT",
            "ERR DB index is out of range",
        ),
        (
            Protocol::Resp3,
            99,
            "%0\r\n-ERR DB index is out of range\r\n",
            "SELECT",
            "ERR DB index is out of range",
        ),
        // And so are texts that are the same for every password.
        (Protocol::Resp2, 0, "-ERR invalid password\r\n", "AUTH", "ERR invalid password"),
        (
            Protocol::Resp3,
            0,
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            "HELLO",
            "WRONGPASS invalid username-password pair or user is disabled.",
        ),
        (
            Protocol::Resp2,
            0,
            "-ERR max number of clients reached\r\n",
            "AUTH",
            "ERR max number of clients reached",
        ),
        // An old server: what it says is withheld, what it means is said.
        (
            Protocol::Resp3,
            0,
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `hunter2`\r\n",
            "HELLO",
            "use protocol=2",
        ),
        // Others are withheld, and so is whatever repeats the password.
        (Protocol::Resp2, 0, "-ERR no hunter2 here\r\n", "AUTH", "withheld"),
        (Protocol::Resp2, 0, "-SORRY no\r\n", "AUTH", "SORRY the server's text is withheld"),
        (Protocol::Resp2, 9, "+OK\r\n-ERR hunter2 again\r\n", "SELECT", "withheld"),
    ] {
        let mut config = peer(replies.as_bytes().to_vec()).await;
        config.password = Some("hunter2".into());
        (config.protocol, config.database) = (protocol, database);
        let error = dial(&config).await.expect_err("refused");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let start = format!("{command} was refused in the handshake: ");
        assert!(shown.starts_with(&start) && shown.contains(words), "{shown}");
        assert!(matches!(error, Error::Handshake { .. }) && !error.may_have_executed());
    }
}

#[tokio::test]
async fn without_a_password_an_old_server_is_still_told_by_name() {
    let mut config = peer(b"-ERR unknown command 'HELLO'\r\n".to_vec()).await;
    config.protocol = Protocol::Resp3;
    let error = dial(&config).await.expect_err("refused").to_string();
    assert!(error.contains("older than Redis 6") && error.contains("use protocol=2"), "{error}");
}

#[test]
fn a_key_is_shown_as_a_url_that_can_be_read() {
    for (url, shown) in [
        ("redis://bob:x@[::1]:7000/3", "redis://bob@[::1]:7000/3"),
        ("redis://cache", "redis://cache:6379/0"),
    ] {
        let key = Config::from_url(url).expect("valid").key().expect("valid");
        assert_eq!(key.to_string(), shown);
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
