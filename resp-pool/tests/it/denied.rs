//! A refused login is not a refused connection: the pool learns which of them it was, and does not
//! repeat a login unasked.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::support::{honest, peer};
use pool_common::{
    DialFailure, Manager as _, Policy,
    clock::Clock,
    connect::{ConnectError, ConnectStage},
    policy::AfterFailedDial,
    profile::Profile,
    testing::servers::RedisServer,
};
use resp_pool::{Client, Config, Error};

fn with_password(mut config: Config, password: &str) -> Config {
    config.password = Some(password.into());
    config
}

async fn failure(config: Config) -> (DialFailure, String) {
    let client = Client::builder().config(config).build().expect("a client");
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
async fn the_text_of_the_refusal_decides() {
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

#[test]
fn a_login_that_a_proxy_refuses_denies() {
    let manager = Client::builder().build().expect("a client").pool().manager().clone();
    for (stage, expected) in
        [(ConnectStage::Proxy, DialFailure::Denied), (ConnectStage::Open, DialFailure::Unreachable)]
    {
        let cause = io::ErrorKind::PermissionDenied.into();
        let error = Error::Connect(ConnectError::new(stage, "a.example:6379", cause));
        assert_eq!(manager.dial_failure(&error), expected, "{stage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_not_repeated_without_a_caller() {
    let profiles = Profile::all().into_iter().map(|profile| profile.policy);
    let told = Policy { after_failed_dial: AfterFailedDial::Tell, ..Policy::default() };
    for policy in profiles.chain([Client::default_policy(), told]) {
        if policy.max_open_per_key.is_some_and(|most| most < 3)
            || policy.max_idle_per_key.is_some_and(|most| most < 3)
        {
            continue; // No room for the floor.
        }
        let logins = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&logins);
        let config = peer(move |asked| {
            Some(if asked.is("AUTH") {
                counter.fetch_add(1, Ordering::Relaxed);
                "-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_owned()
            } else {
                honest(asked)
            })
        })
        .await;
        let policy = Policy { min_idle: 3, ..policy };
        let shown = format!("{:?} {:?}", policy.dial, policy.after_failed_dial);
        let builder = Client::builder().config(with_password(config, "wrong")).policy(policy);
        let client = builder.clock(Clock::tokio()).build().expect("a client");
        client.warm_up();
        // Until the refusals are there.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let first = logins.load(Ordering::Relaxed);
        assert_eq!(first, 1, "{shown}: the first connection of a floor is dialed alone");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let later = logins.load(Ordering::Relaxed) - first;
        assert_eq!(later, 0, "{shown}: logins after the first refusal");
        // The next caller is told the reason.
        let error = client.get::<String>("k").await.expect_err("wrong password");
        assert!(error.to_string().contains("WRONGPASS"), "{error}");
    }
}
