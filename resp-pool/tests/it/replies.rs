//! Replies that are legal and large, and what a server says at the end.

use std::{sync::Arc, time::Duration};

use crate::support::{honest, peer};
use resp_pool::{
    Client, Config, Connection, Error, Pipeline, ProtocolError, ScanError, ServerError, Value,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

async fn answered(reply: String, settle: fn(&mut Config)) -> Result<Value, Error> {
    let mut config =
        peer(move |asked| Some(if asked.is("GET") { reply.clone() } else { honest(asked) })).await;
    settle(&mut config);
    Client::builder().config(config).build().expect("a client").get("k").await
}

#[tokio::test]
async fn a_list_of_one_and_a_half_million_elements_is_a_reply() {
    let list = format!("*1500000\r\n{}", ":7\r\n".repeat(1_500_000));
    let value = answered(list, |_| {}).await.expect("a list");
    assert_eq!(value.as_slice().expect("a list").len(), 1_500_000);
}

#[tokio::test]
async fn a_status_of_a_hundred_kilobytes_is_a_reply() {
    let text = "x".repeat(100 * 1024);
    let value = answered(format!("+{text}\r\n"), |_| {}).await.expect("a status");
    assert_eq!(value.as_bytes().expect("a text"), &text);
}

#[tokio::test]
async fn an_error_of_a_hundred_kilobytes_is_shown_escaped_and_cut() {
    let text = "\u{1b}[31m\u{7}\u{1}".repeat(15_000);
    let error = answered(format!("-ERR {text}\r\n"), |_| {}).await.expect_err("refused");
    let refusal = error.server_error().expect("the server's").clone();
    assert!(refusal.message().starts_with(&text[..50_000]));
    for shown in [error.to_string(), format!("{error:?}"), format!("{refusal:?}")] {
        assert!(shown.contains("ERR \\u{1b}[31m\\u{7}\\u{1}"), "{shown}");
        assert!(!shown.contains(char::is_control), "{shown}");
        assert!(shown.len() < 8 * ServerError::SHOWN, "{}", shown.len());
    }
}

#[tokio::test]
async fn a_reply_beyond_a_limit_names_the_limit_and_its_value() {
    let settle: fn(&mut Config) = |config| {
        let limits = &mut config.settings.limits;
        (limits.max_depth, limits.max_line, limits.max_bulk) = (3, 1000, 2000);
        (limits.max_memory, limits.max_frame) = (3200, 4000);
    };
    for (reply, expected, words) in [
        ("*1\r\n".repeat(4), ScanError::TooDeep(3), "max_depth = 3)"),
        (format!("+{}", "x".repeat(1001)), ScanError::LineTooLong(1000), "max_line = 1000 bytes)"),
        ("$2001\r\n".to_owned(), ScanError::BulkTooLong(2000), "max_bulk = 2000 bytes)"),
        ("*11\r\n".to_owned(), ScanError::TooManyElements(3200), "max_memory = 3200 bytes)"),
        ("~7\r\n".to_owned(), ScanError::TooManyElements(3200), "max_memory = 3200 bytes)"),
        (
            format!("*5\r\n{}", format!("-ERR {}\r\n", "x".repeat(200)).repeat(5)),
            ScanError::TooManyElements(3200),
            "max_memory = 3200 bytes)",
        ),
        (
            format!("*3\r\n{}", format!("$1500\r\n{}\r\n", "x".repeat(1500)).repeat(3)),
            ScanError::FrameTooLong(4000),
            "max_frame = 4000 bytes)",
        ),
    ] {
        let error = answered(reply, settle).await.expect_err("too much");
        let Error::Protocol(ProtocolError::Scan(found)) = error else { panic!("{error:?}") };
        assert_eq!(found, expected);
        assert!(found.to_string().ends_with(words), "{found}");
    }
    let list = "*10\r\n".to_owned() + &":1\r\n".repeat(10);
    assert!(answered(list, settle).await.is_ok(), "just within");
}

#[tokio::test]
async fn a_reply_of_another_type_names_the_command_and_a_type_that_takes_it() {
    for (reply, words) in [
        (
            "$2\r\nab\r\n",
            "expected i64, but the reply to GET is a bulk string, which does not \
                          convert; String or Vec<u8> takes it",
        ),
        ("$-1\r\n", "the reply to GET is null, which does not convert; Option<_> takes it"),
        ("*0\r\n", "the reply to GET is an array"),
        ("%0\r\n", "a HashMap"),
    ] {
        let config = peer(move |_| Some(reply.to_owned())).await;
        let client = Client::builder().config(config.clone()).build().expect("a client");
        let key = config.key().expect("valid");
        let mut connection =
            Connection::dial(&key, Arc::new(config.settings)).await.expect("connects");
        for error in [
            client.get::<i64>("secret").await.expect_err("no number"),
            connection.query::<i64>(&["GET", "secret"]).await.expect_err("no number"),
        ] {
            let Error::Conversion(conversion) = &error else { panic!("{error:?}") };
            assert_eq!(conversion.command(), Some("GET"));
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}

/// Answers the first bytes of the first request with `last_words` and closes; the rest of the request
/// is never read.
async fn refuses_while_it_is_written(last_words: &'static [u8]) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(last_words).await;
        }
    });
    config
}

#[tokio::test]
async fn the_last_words_of_a_server_that_refuses_a_request_being_written_are_told() {
    let value = vec![b'x'; 16 * 1024 * 1024];
    let request = [&b"SET"[..], b"k", &value];
    let refusal = b"-ERR Protocol error: invalid bulk length\r\n";
    // Again and again: the end can meet the write at any point.
    for _ in 0..10 {
        let config = refuses_while_it_is_written(refusal).await;
        let key = config.key().expect("valid");
        let mut connection =
            Connection::dial(&key, Arc::new(config.settings.clone())).await.expect("connects");
        let error = connection.query::<()>(&request).await.expect_err("refused");
        let said = error.server_error().unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!(said.message(), "Protocol error: invalid bulk length");
        assert!(error.may_have_executed() && connection.is_broken());
        assert!(matches!(connection.query::<()>(&["PING"]).await, Err(Error::Broken)));

        let mut raw = Connection::dial(&key, Arc::new(config.settings)).await.expect("connects");
        raw.send(&request).expect("send");
        let error = raw.receive().await.expect_err("refused");
        assert!(error.server_error().is_some() && raw.is_broken(), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_reply_to_an_earlier_command_is_not_the_reason_of_a_lost_write() {
    let value = vec![b'x'; 16 * 1024 * 1024];
    let set = [&b"SET"[..], b"k", &value];
    let dial = async |last_words| {
        let config = refuses_while_it_is_written(last_words).await;
        let key = config.key().expect("valid");
        Connection::dial(&key, Arc::new(config.settings)).await.expect("connects")
    };
    let earlier = b"-WRONGTYPE not a number\r\n";
    let both = b"-WRONGTYPE not a number\r\n-OOM no memory\r\n";
    let limit = b"-ERR max number of clients reached\r\n";
    let midway = b"+OK\r\n-ERR Protocol error: invalid bulk length\r\n";
    let late = b"+OK\r\n-ERR max number of clients reached\r\n";
    // What comes while [INCR, SET] is written, and the code of the refusal that is told.
    for (words, code) in [(&earlier[..], None), (&both[..], Some("OOM"))] {
        let mut sent = dial(words).await;
        sent.send(&["INCR", "list"]).expect("send");
        let sent = sent.call(&set).await.expect_err("lost");
        let mut piped = dial(words).await;
        let mut pipeline = Pipeline::new();
        pipeline.add(&["INCR", "list"]).add(&set);
        let piped = piped.pipeline(&pipeline).await.expect_err("lost");
        let mut raw = dial(words).await;
        raw.send(&["INCR", "list"]).expect("send");
        raw.send(&set).expect("send");
        let raw = raw.flush().await.expect_err("lost");
        for error in [sent, piped, raw] {
            assert_eq!(error.server_error().map(ServerError::code), code, "{error:?}");
            assert!(code.is_some() || matches!(error, Error::Io { .. }), "{error:?}");
            assert!(error.may_have_executed(), "{error:?}");
        }
    }
    // A refusal of the connection is told, although the last command has no answer.
    let mut commands = Pipeline::new();
    commands.add(&set).add(&["GET", "k"]);
    for (words, told) in [(&limit[..], true), (&midway[..], true), (&late[..], false)] {
        let error = dial(words).await.transaction(&commands).await.expect_err("lost");
        assert_eq!(error.server_error().is_some(), told, "{error:?}");
    }
}

#[tokio::test]
async fn without_last_words_a_lost_write_is_a_lost_connection() {
    let value = vec![b'x'; 16 * 1024 * 1024];
    for words in [&b""[..], b"+OK\r\n", b"-ERR half a li"] {
        let config = refuses_while_it_is_written(words).await;
        let key = config.key().expect("valid");
        let mut connection =
            Connection::dial(&key, Arc::new(config.settings)).await.expect("connects");
        let request = [&b"SET"[..], b"k", &value];
        let call = connection.query::<()>(&request);
        let result = tokio::time::timeout(Duration::from_secs(30), call).await.expect("it ends");
        let error = result.expect_err("lost");
        assert!(matches!(error, Error::Io { sent: true, .. }), "{error:?}");
    }
}
