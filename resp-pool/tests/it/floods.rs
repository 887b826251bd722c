//! Peers that send without end: no flood holds a deadline off or fills the memory.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use resp_pool::{ATTRIBUTE, Config, Connection, Error, ProtocolError, ScanError, Value};

/// A peer that answers the first request with `first` and then sends `frame` until the client closes. It
/// sends from a separate thread, so the client always finds something to read.
async fn flooded(first: &'static [u8], frame: &[u8], settle: fn(&mut Config)) -> Connection {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut config =
        Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    settle(&mut config);
    let block = frame.repeat((64 * 1024 / frame.len()).max(1));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(first);
        while stream.write_all(&block).is_ok() {}
    });
    let key = config.key().expect("valid");
    Connection::dial(&key, Arc::new(config.settings)).await.expect("connects")
}

/// The call ends by itself; how soon is not measured, only that it does.
async fn ends<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), call).await.expect("the flood is left")
}

fn soon(config: &mut Config) {
    config.settings.read_timeout = Some(Duration::from_millis(100));
}

#[tokio::test]
async fn attributes_without_end_are_an_error() {
    let mut connection = flooded(b"", b"|0\r\n", soon).await;
    let error = ends(connection.call(&["GET", "k"])).await.expect_err("no reply");
    let expected = ScanError::Misplaced(ATTRIBUTE);
    assert!(
        matches!(&error, Error::Protocol(ProtocolError::Scan(found)) if *found == expected),
        "{error:?}"
    );
}

#[tokio::test]
async fn confirmations_of_nothing_are_an_error() {
    for frame in [
        &b">3\r\n+unsubscribe\r\n+x\r\n:0\r\n"[..],
        b">3\r\n+unsubscribe\r\n+x\r\n:-9\r\n",
        b">3\r\n+subscribe\r\n+x\r\n:1\r\n",
    ] {
        let mut connection = flooded(b"", frame, soon).await;
        let error = ends(connection.call(&["GET", "k"])).await.expect_err("no reply");
        assert!(matches!(error, Error::Protocol(ProtocolError::Unsolicited)), "{error:?}");
        assert!(connection.is_broken());
    }
}

#[tokio::test]
async fn pushes_without_end_do_not_outlast_the_read_timeout() {
    let mut connection = flooded(b"", b">2\r\n+invalidate\r\n_\r\n", |config| {
        soon(config);
        config.settings.max_pushes = usize::MAX;
        config.settings.max_push_bytes = usize::MAX;
    })
    .await;
    let error = ends(connection.call(&["GET", "k"])).await.expect_err("no reply");
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn other_pushes_without_end_do_not_outlast_the_wait_for_a_message() {
    let mut connection = flooded(b"+OK\r\n", b">2\r\n+invalidate\r\n+x\r\n", |_| {}).await;
    assert!(connection.call(&["GET", "k"]).await.expect("a reply").is_ok());
    let limit = Duration::from_millis(100);
    assert_eq!(ends(connection.receive_message(limit)).await.expect("alive"), None);
}

#[tokio::test]
async fn a_flood_leaves_other_tasks_their_turn() {
    let mut connection = flooded(b"+OK\r\n", b">2\r\n+invalidate\r\n+x\r\n", |_| {}).await;
    assert!(connection.call(&["GET", "k"]).await.expect("a reply").is_ok());
    let reading = async {
        let _ = connection.receive_message(Duration::from_secs(3600)).await;
    };
    // On the same thread; the reader never has to wait for bytes.
    let turns = tokio::spawn(async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    });
    ends(async {
        tokio::select! {
            () = reading => panic!("no message came"),
            result = turns => result.expect("no panic"),
        }
    })
    .await;
}

#[tokio::test]
async fn replies_that_are_all_there_leave_other_tasks_their_turn() {
    const REPLIES: usize = 4000;
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let (arrived, have_arrived) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(&b":7\r\n".repeat(REPLIES));
        let _ = arrived.send(());
        while let Ok(1..) = stream.read(&mut [0; 1024]) {}
    });
    let key = config.key().expect("valid");
    let mut connection = Connection::dial(&key, Arc::new(config.settings)).await.expect("connects");
    for _ in 0..REPLIES {
        connection.send(&["PING"]).expect("send");
    }
    connection.flush().await.expect("flush");
    have_arrived.recv().expect("the peer runs");
    let turns = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&turns);
    // On the same thread: it runs when the reader lets it.
    let other = tokio::spawn(async move {
        loop {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    while connection.pending_replies() > 0 {
        assert_eq!(connection.receive().await.expect("a reply"), Value::Integer(7));
    }
    other.abort();
    // The few reads of 16 KB give it some; every hundred replies or so another one.
    assert!(turns.load(Ordering::Relaxed) >= 20, "{turns:?}");
}

#[tokio::test]
async fn unreceived_large_pushes_are_bounded_by_their_bytes() {
    let mut push = b">2\r\n+invalidate\r\n$1048576\r\n".to_vec();
    push.resize(push.len() + 1024 * 1024, b'x');
    push.extend_from_slice(b"\r\n");
    let mut connection = flooded(b"", &push, |_| {}).await;
    let error = ends(connection.call(&["GET", "k"])).await.expect_err("too much");
    let most = Config::default().settings.max_push_bytes;
    assert_eq!(most, 16 * 1024 * 1024);
    assert!(
        matches!(error, Error::Protocol(ProtocolError::TooManyPushBytes(bound)) if bound == most),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reply_behind_many_pushes_and_replies_in_one_buffer_is_still_read() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1024]);
        let many = [b">1\r\n+x\r\n".repeat(4000), b":7\r\n".to_vec()].concat();
        let _ = stream.write_all(&many);
        let _ = stream.read(&mut [0; 1024]);
    });
    let key = config.key().expect("valid");
    let mut connection = Connection::dial(&key, Arc::new(config.settings)).await.expect("connects");
    let reply = connection.call(&["GET", "k"]).await.expect("a reply");
    assert_eq!(reply, Value::Integer(7));
    for _ in 0..4000 {
        assert!(connection.receive_push(Duration::from_secs(5)).await.expect("alive").is_some());
    }
}
