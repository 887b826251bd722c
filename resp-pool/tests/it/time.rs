//! One time limit covers all attempts of a call and the pauses between them. On a paused clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{honest, peer};
use pool_common::{Policy, clock::Clock, policy::Retry, profile};
use resp_pool::{Client, Config, Error, Pipeline, Stage, cmd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How long a call took, to the millisecond that tokio's timers add.
async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let result = call.await;
    (result, started.elapsed())
}

fn assert_took(took: Duration, expected: Duration) {
    assert!(took >= expected && took <= expected + ms(2), "{took:?} instead of {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_one_read_timeout_under_every_rule() {
    for &retry in Retry::ALL {
        let mut config = peer(|_| None).await;
        config.settings.read_timeout = Some(ms(300));
        let policy = Policy { retry, retry_attempts: 4, ..profile::go_redis().policy };
        let client = Client::builder().config(config).policy(policy).build().expect("a client");
        let (error, took) = timed(client.get::<String>("k")).await;
        let error = error.expect_err("silent");
        assert!(matches!(error, Error::Timeout { stage: Stage::Read, .. }), "{error:?}");
        assert_took(took, ms(300));

        let blocking = cmd("GET").arg("k").timeout(ms(700));
        let (error, took) = timed(client.query::<String>(&blocking)).await;
        assert!(error.expect_err("silent").is_timeout());
        assert_took(took, ms(700));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_has_nothing_to_lend_costs_one_acquire_timeout() {
    let config = peer(|asked| Some(honest(asked))).await;
    let policy = Policy {
        max_open_per_key: Some(1),
        acquire_timeout: Some(ms(1000)),
        ..profile::go_redis().policy
    };
    let builder = Client::builder().config(config).policy(policy).clock(Clock::tokio());
    let client = builder.build().expect("a client");
    let _lease = client.acquire().await.expect("the only one");
    let (error, took) = timed(client.get::<String>("k")).await;
    assert!(error.expect_err("nothing to lend").is_timeout());
    assert_took(took, ms(1000));
}

#[tokio::test(start_paused = true)]
async fn attempts_and_pauses_end_within_the_time_of_one_attempt() {
    // Each connection is accepted and closed by a peer that takes its time.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut config =
        Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    config.settings.read_timeout = Some(ms(300));
    config.settings.write_timeout = Some(ms(200));
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                tokio::time::sleep(ms(250)).await;
                drop(stream);
            });
        }
    });
    let policy = Policy {
        acquire_timeout: Some(ms(500)),
        retry: Retry::Attempts,
        retry_attempts: 100,
        ..Policy::default()
    };
    let client = Client::builder().config(config).policy(policy).build().expect("a client");
    let (error, took) = timed(client.get::<String>("k")).await;
    let error = error.expect_err("closed each time");
    assert!(error.may_have_executed(), "{error:?}");
    // 500 + 200 + 300 ms; a pause that would outlast them is not begun.
    assert!(took > ms(250) && took <= ms(1002), "{took:?}");
    assert!(requests.load(Ordering::Relaxed) >= 2);
    let status = client.status();
    assert_eq!((status.leased, status.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_further_attempt_that_is_cut_short_may_have_executed() {
    // The first connection is closed after 250 ms, the second answers nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut config =
        Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    config.settings.read_timeout = Some(ms(300));
    config.settings.write_timeout = Some(ms(50));
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.expect("a connection");
        tokio::time::sleep(ms(250)).await;
        drop(first);
        let _second = listener.accept().await;
        std::future::pending::<()>().await;
    });
    let policy =
        Policy { acquire_timeout: Some(ms(50)), retry: Retry::Attempts, ..Policy::default() };
    let client = Client::builder().config(config).policy(policy).build().expect("a client");
    let (error, took) = timed(client.get::<String>("k")).await;
    let error = error.expect_err("silent");
    assert!(error.is_timeout() && error.may_have_executed(), "{error:?}");
    assert_took(took, ms(400));
    assert!(error.to_string().ends_with("400ms"), "{error}");
    assert_eq!(client.status().open, 0, "a reply may still come on it");
}

/// The first connection answers no login, each other one its login at once and then a command each
/// 200 ms.
async fn slow_from_the_second_connection_on() -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config {
        port: listener.local_addr().expect("bound").port(),
        password: Some("secret".into()),
        ..Config::default()
    };
    tokio::spawn(async move {
        let _silent = listener.accept().await;
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut request = [0; 1024];
                let _login = stream.read(&mut request).await;
                let _ = stream.write_all(b"+OK\r\n").await;
                let _commands = stream.read(&mut request).await;
                while stream.write_all(b"+OK\r\n").await.is_ok() {
                    tokio::time::sleep(ms(200)).await;
                }
            });
        }
    });
    config
}

#[tokio::test(start_paused = true)]
async fn a_further_attempt_of_several_commands_ends_within_the_time_as_well() {
    let mut commands = Pipeline::new();
    for _ in 0..8 {
        commands.add(&["INCR", "n"]);
    }
    let policy = Policy {
        acquire_timeout: Some(ms(500)),
        dial_timeout: ms(250),
        retry_back_off_min: ms(0),
        ..profile::go_redis().policy
    };
    for is_transaction in [false, true] {
        let mut config = slow_from_the_second_connection_on().await;
        config.settings.read_timeout = Some(ms(300));
        config.settings.write_timeout = Some(ms(200));
        let builder = Client::builder().config(config).policy(policy.clone()).clock(Clock::tokio());
        let client = builder.build().expect("a client");
        let call = async {
            if is_transaction {
                client.transaction(&commands).await
            } else {
                client.pipeline(&commands).await
            }
        };
        let (result, took) = timed(call).await;
        let error = result.expect_err("too slow");
        assert!(error.is_timeout() && error.may_have_executed(), "{error:?}");
        assert_took(took, ms(1000));
        assert_eq!(client.status().open, 0, "replies may still come on it");
    }
}
