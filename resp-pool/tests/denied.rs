//! A refused login is not a refused connection: the pool learns which of them it was.

mod support;

use pool_common::{DialFailure, Manager as _, testing::servers::RedisServer};
use resp_pool::{Client, Config, Error};
use support::peer;

fn with_password(mut config: Config, password: &str) -> Config {
    config.password = Some(password.into());
    config
}

async fn failure(config: Config) -> (DialFailure, String) {
    let client = Client::builder(config).build().expect("a client");
    let error = client.get::<String>("k").await.expect_err("no connection");
    let Error::Acquire(error) = &error else { panic!("{error:?}") };
    let Some(pool_common::DialError::Failed(cause)) = error.dial_error() else {
        panic!("{error:?}")
    };
    (client.pool().manager().dial_failure(cause), error.to_string())
}

#[tokio::test]
async fn a_real_server_that_refuses_the_handshake_denies() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    let at = server.addr();
    for url in [
        format!("redis://:wrong@{at}"),
        format!("redis://nobody:secret@{at}"),
        format!("redis://:secret@{at}/99"),
        format!("redis://{at}/1"),
        format!("redis://:wrong@{at}?protocol=3"),
        format!("redis://:secret@{at}/99?protocol=3"),
        format!("redis://{at}?protocol=3"),
    ] {
        let (failure, text) = failure(Config::from_url(&url).expect("valid")).await;
        assert_eq!(failure, DialFailure::Denied, "{url}: {text}");
    }
    drop(server);
    let url = format!("redis://:wrong@{at}");
    let (failure, text) = failure(Config::from_url(&url).expect("valid")).await;
    assert_eq!(failure, DialFailure::Unreachable, "{text}");
}

#[tokio::test]
async fn what_a_server_says_decides() {
    for (line, expected) in [
        ("-ERR invalid password\r\n", DialFailure::Denied),
        ("-ERR Client sent AUTH, but no password is set\r\n", DialFailure::Denied),
        ("-NOPERM not you\r\n", DialFailure::Denied),
        ("-ERR max number of clients reached\r\n", DialFailure::Unreachable),
        ("-LOADING Redis is loading the dataset in memory\r\n", DialFailure::Unreachable),
        ("-MASTERDOWN Link with MASTER is down\r\n", DialFailure::Unreachable),
        ("-BUSY Redis is busy running a script\r\n", DialFailure::Unreachable),
        ("x", DialFailure::Unreachable),
    ] {
        let config = peer(move |_| Some(line.to_owned())).await;
        let (failure, text) = failure(with_password(config, "wrong")).await;
        assert_eq!(failure, expected, "{line} {text}");
    }
}
