//! Lending never hands out a connection that holds bytes of another request. Peers are scripted.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use pool_common::{Policy, clock::Clock, policy::Check};
use resp_pool::{Client, ClientBuilder, Config, Connection, Error, Pipeline, ProtocolError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

/// A peer that hands each request it reads to `answer` and sends what that returns.
async fn peer(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut space = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut space).await {
                    let reply = answer(&String::from_utf8_lossy(&space[..count]));
                    if stream.write_all(reply.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    config
}

fn one(config: Config, check: Check) -> ClientBuilder {
    let policy = Policy { max_open_per_key: Some(1), check, ..Policy::default() };
    Client::builder().config(config).policy(policy)
}

/// The answer to `PING` with a word.
fn pong(request: &str) -> String {
    let word = request.split("\r\n").nth(4).expect("PING has a word");
    format!("${}\r\n{word}\r\n", word.len())
}

#[tokio::test]
async fn a_reply_that_the_driver_has_not_seen_is_not_lent() {
    // One thread for tasks and driver, and the caller keeps it busy while the stray reply arrives.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    let may_go_on = Arc::new(std::sync::Mutex::new(may_go_on));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let (arrived, may_go_on) = (arrived.clone(), Arc::clone(&may_go_on));
            std::thread::spawn(move || {
                let mut space = [0; 1024];
                let _ = stream.read(&mut space);
                let _ = stream.write_all(if number == 0 { b"+first\r\n" } else { b"+good\r\n" });
                if number == 0 {
                    let _ = may_go_on.lock().expect("no panic").recv();
                    let _ = stream.write_all(b"+stray\r\n");
                    let _ = arrived.send(());
                }
                let _ = stream.read(&mut space);
            });
        }
    });
    let (clock, hands) = Clock::manual();
    let client = one(config, Check::Never).clock(clock).build().expect("a client");
    assert_eq!(client.get::<String>("a").await.expect("GET"), "first");
    go_on.send(()).expect("the peer runs");
    has_arrived.recv().expect("the peer runs");
    // Idle for long enough to be looked at harder.
    hands.advance(Duration::from_millis(5));
    assert_eq!(client.get::<String>("b").await.expect("GET"), "good");
    assert_eq!(client.stats().opened, 2);
}

#[tokio::test]
async fn an_unrequested_reply_is_found_when_the_connection_comes_back() {
    // With the reply in one segment, so it is there at once.
    for (stray, idle) in [
        ("", 1),
        // A push may come at any time.
        (">2\r\n+invalidate\r\n_\r\n", 1),
        ("+stray\r\n", 0),
        (":1\r\n", 0),
        ("-ERR stray\r\n", 0),
        ("*1\r\n:1\r\n", 0),
        ("$5\r\nstr", 0),
        ("+", 0),
    ] {
        let config = peer(move |_| format!("+OK\r\n{stray}")).await;
        let client = one(config, Check::Never).build().expect("a client");
        for release in [false, true] {
            let mut lease = client.acquire().await.expect("a connection");
            lease.query::<()>(&["SET", "a", "b"]).await.expect("SET");
            if release {
                lease.release().await;
            } else {
                drop(lease);
            }
            assert_eq!(client.status().idle, idle, "{stray:?} {release}");
        }
        assert_eq!(client.stats().opened, if idle == 1 { 1 } else { 2 }, "{stray:?}");
    }
}

#[tokio::test]
async fn an_unrequested_reply_is_found_before_an_idle_connection_is_lent() {
    for stray in ["+stray\r\n", ":1\r\n", "-ERR stray\r\n", "$5\r\nstr", "+"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let config =
            Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let (arrived, has_arrived) = oneshot::channel();
        tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.expect("a connection");
            let _ = first.read(&mut [0; 1024]).await;
            let _ = first.write_all(b"+OK\r\n").await;
            let _ = may_go_on.await;
            let _ = first.write_all(stray.as_bytes()).await;
            let _ = arrived.send(());
            let _second = listener.accept().await;
            while let Ok(1..) = first.read(&mut [0; 1024]).await {}
        });
        // Not idle for long enough to be looked at harder, however long this takes.
        let (clock, _hands) = Clock::manual();
        let client = one(config, Check::Never).clock(clock).build().expect("a client");
        client.set("a", "b").await.expect("SET");
        assert_eq!(client.status().idle, 1);
        go_on.send(()).expect("the peer runs");
        has_arrived.await.expect("the peer runs");
        // A round trip elsewhere, in which the driver looks at its sockets.
        let other = one(peer(|_| "+OK\r\n".to_owned()).await, Check::Never).build().unwrap();
        other.set("a", "b").await.expect("SET");
        let lease = client.acquire().await.expect("a connection");
        assert!(!lease.is_reused(), "{stray:?}");
        assert_eq!(client.stats().opened, 2, "{stray:?}");
    }
}

#[tokio::test]
async fn an_unrequested_reply_among_messages_ends_the_connection() {
    for stray in ["+stray\r\n", ":1\r\n", "-ERR stray\r\n", "*2\r\n+stray\r\n:1\r\n"] {
        let config =
            peer(move |_| format!("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n{stray}")).await;
        let client = one(config, Check::Never).build().expect("a client");
        let mut lease = client.acquire().await.expect("a connection");
        lease.subscribe(&["news"]).await.expect("SUBSCRIBE");
        let error = lease.receive_message(Duration::from_secs(5)).await.expect_err("no message");
        assert!(matches!(error, Error::Protocol(ProtocolError::Unsolicited)), "{error:?}");
        lease.release().await;
        assert_eq!(client.status().idle, 0, "{stray:?}");
    }
}

#[tokio::test]
async fn a_leftover_in_a_changed_session_is_not_the_next_reply() {
    let config = peer(|request| {
        if request.contains("SELECT") { "+OK\r\n+stray\r\n" } else { "+honest\r\n" }.to_owned()
    })
    .await;
    let key = config.key().expect("valid");
    let mut connection = Connection::dial(&key, Arc::new(config.settings)).await.expect("connects");
    connection.query::<()>(&["SELECT", "1"]).await.expect("SELECT");
    assert!(connection.needs_reset());
    let error = connection.query::<String>(&["GET", "x"]).await.expect_err("stale");
    assert!(matches!(error, Error::Stale), "{error:?}");
}

#[tokio::test]
async fn a_push_during_the_check_does_not_reach_the_borrower() {
    let config = peer(|request| {
        if request.contains("PING") {
            format!(">3\r\n+message\r\n+news\r\n+foreign\r\n{}", pong(request))
        } else {
            "+OK\r\n".to_owned()
        }
    })
    .await;
    let client = one(config, Check::Always).build().expect("a client");
    client.set("a", "b").await.expect("SET");
    let mut lease = client.acquire().await.expect("a connection");
    assert!(lease.is_reused());
    let push = lease.receive_push(Duration::from_millis(1)).await.expect("alive");
    assert_eq!(push, None);
}

#[tokio::test]
async fn a_check_that_swallows_the_failure_does_not_lend_a_broken_connection() {
    let config = peer(|request| {
        // Another reply than the check's PING asks for.
        if request.contains("PING") { "+PONG\r\n" } else { "+OK\r\n" }.to_owned()
    })
    .await;
    let client = one(config, Check::Always)
        .check_with(|connection, _idle| {
            Box::pin(async move {
                let _ = connection.ping().await;
                Ok(())
            })
        })
        .build()
        .expect("a client");
    for opened in 1..4 {
        client.set("a", "b").await.expect("on a connection that works");
        assert_eq!(client.stats().opened, opened);
    }
}

#[tokio::test]
async fn a_transaction_that_the_server_aborted_is_an_error_on_the_client() {
    let config = peer(|_| "+OK\r\n+QUEUED\r\n*-1\r\n".to_owned()).await;
    let client = one(config, Check::Never).build().expect("a client");
    let mut increment = Pipeline::new();
    increment.add(&["INCR", "n"]);
    let error = client.transaction(&increment).await.expect_err("aborted");
    assert!(matches!(error, Error::Aborted), "{error:?}");
    assert!(!error.may_have_executed());
}

#[tokio::test]
async fn a_lease_tells_the_line_that_borrowed_it() {
    let config = peer(|_| "+OK\r\n".to_owned()).await;
    let client = Client::builder().config(config).leak_detection(Duration::MAX).build().unwrap();
    let (lease, line) = (client.acquire().await.unwrap(), line!());
    let (fresh, second) = (client.acquire_fresh().await.unwrap(), line!());
    let places: Vec<_> =
        client.pool().leases().iter().map(|l| (l.taken_at.file(), l.taken_at.line())).collect();
    assert_eq!(places.len(), 2);
    assert!(places.contains(&(file!(), line)) && places.contains(&(file!(), second)), "{places:?}");
    drop((lease, fresh));
    assert_eq!(client.pool().leases(), []);
}
