//! Bytes that were in the socket before a command was written are not its reply. Timers and sockets
//! of a runtime that has ended, or stands still, do no harm on another.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use pool_common::{Policy, policy::Retry};
use resp_pool::{Client, Config, Connection, Error, Request, Stage, Value};
use tokio::runtime::{Builder, Runtime};

/// The unrequested act of the server after the first reply of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Replies,
    Pushes,
    Ends,
    Nothing,
}

/// Replies to `ECHO word` with the word, to `ECHO silent` never, after a moment for which a client
/// has to wait. Sends a message when it has done something without a command.
struct Server {
    config: Config,
    done: Receiver<()>,
    commands: Arc<AtomicUsize>,
}

impl Server {
    fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let config =
            Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
        let (tell, done) = channel();
        let commands = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&commands);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tell, counter) = (tell.clone(), Arc::clone(&counter));
                std::thread::spawn(move || serve(stream, then, &tell, &counter));
            }
        });
        Self { config, done, commands }
    }

    fn wait_until_done(&self) {
        self.done.recv_timeout(Duration::from_secs(60)).expect("the server did it");
    }
}

fn serve(mut stream: TcpStream, then: Then, tell: &Sender<()>, commands: &AtomicUsize) {
    let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    // `*2`, `$4`, `ECHO`, `$n`, the word.
    let words = lines.map_while(Result::ok).skip(4).step_by(5);
    let mut first = true;
    for word in words {
        commands.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        if word == "silent" {
            continue;
        }
        if stream.write_all(format!("${}\r\n{word}\r\n", word.len()).as_bytes()).is_err() {
            return;
        }
        if std::mem::take(&mut first) && then != Then::Nothing {
            // Late enough that the first reply is read by itself.
            std::thread::sleep(Duration::from_millis(1));
            match then {
                Then::Replies => stream.write_all(b"+stray\r\n").unwrap_or_default(),
                Then::Pushes => stream.write_all(b">2\r\n+any\r\n+push\r\n").unwrap_or_default(),
                Then::Ends => stream.shutdown(Shutdown::Write).unwrap_or_default(),
                Then::Nothing => {}
            }
            let _ = tell.send(());
        }
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

fn workers(count: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(count).enable_all().build().expect("a runtime starts")
}

fn client(config: &Config, change: impl FnOnce(&mut Policy)) -> Client {
    let mut policy = Policy { retry: Retry::Never, ..Policy::default() };
    change(&mut policy);
    Client::builder().config(config.clone()).policy(policy).build().expect("a valid policy")
}

async fn echo(client: &Client, word: &str) -> Result<String, Error> {
    client.query(&["ECHO", word]).await
}

/// Commands in pairs; between the two the thread is busy until the server has sent its message, so that nothing lets the driver run on this thread before the second command.
fn pairs(then: Then, second_is_lent_anew: bool) {
    for runtime in [one_thread(), workers(2)] {
        let server = Server::start(then);
        let client = client(&server.config, |_| ());
        let all = async move {
            for round in 0..20 {
                let (first, second) = (format!("first{round}"), format!("second{round}"));
                if second_is_lent_anew {
                    assert_eq!(echo(&client, &first).await.expect("a reply"), first);
                    server.wait_until_done();
                    assert_eq!(echo(&client, &second).await.expect("a reply"), second);
                    if then != Then::Pushes {
                        server.wait_until_done();
                    }
                } else {
                    let mut lease = client.acquire().await.expect("dialed");
                    let reply: String = lease.query(&["ECHO", &first]).await.expect("a reply");
                    assert_eq!(reply, first);
                    server.wait_until_done();
                    let error = lease.query::<Value>(&["ECHO", &second]).await;
                    assert!(matches!(error, Err(Error::Stale)), "{error:?}");
                }
                if then == Then::Pushes {
                    client.pool().retire_all();
                }
            }
        };
        runtime.block_on(async { tokio::spawn(all).await.expect("each got its own reply") });
    }
}

#[test]
fn a_reply_that_was_there_before_the_command_is_not_its_reply() {
    pairs(Then::Replies, true);
    pairs(Then::Replies, false);
}

#[test]
fn a_command_is_not_written_to_a_connection_that_has_ended() {
    pairs(Then::Ends, true);
    pairs(Then::Ends, false);
}

#[test]
fn a_push_between_two_leases_does_not_discard_the_connection() {
    pairs(Then::Pushes, true);
}

/// Runs a test that hangs, or kills a thread, when it fails.
fn within(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        test();
        let _ = tell.send(());
    });
    told.recv_timeout(Duration::from_secs(60)).expect("it ends, without a panic");
}

/// A client with one connection, dialed on `lives`, whose first wait was on another runtime: that.
fn waited_elsewhere(lives: &Runtime, server: &Server) -> (Client, Runtime) {
    let mut config = server.config.clone();
    config.settings.read_timeout = Some(Duration::from_millis(300));
    let client = client(&config, |policy| policy.max_open_per_key = Some(1));
    lives.block_on(async { drop(client.acquire().await.expect("dialed")) });
    let elsewhere = one_thread();
    elsewhere.block_on(echo(&client, "there")).expect("a reply");
    assert_eq!(client.pool().stats().opened, 1, "the connection was used on two runtimes");
    (client, elsewhere)
}

#[test]
fn a_wait_does_not_panic_when_the_runtime_of_an_earlier_wait_has_ended() {
    within(|| {
        let (server, lives) = (Server::start(Then::Nothing), workers(1));
        let (client, elsewhere) = waited_elsewhere(&lives, &server);
        drop(elsewhere);
        assert_eq!(lives.block_on(echo(&client, "here")).expect("a reply"), "here");
        assert_eq!(client.pool().stats().opened, 1);
    });
}

/// A blocking facade: a runtime for each call, one after another on one thread of another runtime.
#[test]
fn each_call_of_a_task_may_bring_its_own_runtime() {
    within(|| {
        let (server, lives) = (Server::start(Then::Nothing), workers(1));
        let client = client(&server.config, |policy| policy.max_open_per_key = Some(1));
        lives.block_on(async { drop(client.acquire().await.expect("dialed")) });
        let user = client.clone();
        let calls = lives.spawn_blocking(move || {
            for word in ["one", "two", "three"] {
                let reply = workers(1).block_on(echo(&user, word));
                assert_eq!(reply.expect("a reply"), word);
            }
        });
        lives.block_on(calls).expect("no panic");
        assert_eq!(client.pool().stats().opened, 1);
    });
}

#[test]
fn a_read_timeout_passes_although_the_runtime_of_an_earlier_wait_stands_still() {
    within(|| {
        let (server, lives) = (Server::start(Then::Nothing), workers(1));
        let (client, elsewhere) = waited_elsewhere(&lives, &server);
        let error = lives.block_on(echo(&client, "silent")).expect_err("no reply comes");
        assert!(matches!(error, Error::Timeout { stage: Stage::Read, .. }), "{error}");
        drop(elsewhere);
    });
}

#[test]
fn connections_of_a_runtime_that_has_ended_are_not_lent() {
    const AT_ONCE: usize = 10;
    async fn echo_at_once(client: &Client) {
        let sent = |number: usize| {
            let client = client.clone();
            tokio::spawn(async move { echo(&client, &number.to_string()).await })
        };
        for command in (0..AT_ONCE).map(sent).collect::<Vec<_>>() {
            command.await.expect("no panic").expect("it was sent where the driver lives");
        }
    }
    within(|| {
        let server = Server::start(Then::Nothing);
        let client = client(&server.config, |_| ());
        let ends = one_thread();
        ends.block_on(echo_at_once(&client));
        drop(ends);
        one_thread().block_on(echo_at_once(&client));
        assert_eq!(server.commands.load(Ordering::SeqCst), 2 * AT_ONCE, "each was sent once");
    });
}

/// A connection to a server that answers nothing, and a function that makes it send a reply and waits
/// until that was sent.
async fn unasked() -> (Connection, impl Fn() + Sync) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let (go, asked) = channel::<()>();
    let (tell, done) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        while asked.recv().is_ok() {
            stream.write_all(b"$5\r\nstray\r\n").expect("sent");
            let _ = tell.send(());
        }
    });
    let key = config.key().expect("a key");
    let connection = Connection::dial(&key, Arc::new(config.settings.clone())).await;
    let sides = std::sync::Mutex::new((go, done));
    let send_stray = move || {
        let sides = sides.lock().expect("no panic");
        sides.0.send(()).expect("the server is there");
        sides.1.recv_timeout(Duration::from_secs(60)).expect("the server did it");
    };
    (connection.expect("dialed"), send_stray)
}

#[tokio::test]
async fn bytes_between_a_send_and_its_first_byte_are_not_its_reply() {
    for way in 0..4 {
        let (mut connection, send_stray) = unasked().await;
        connection.send(&["GET", "a"]).expect("it is encoded");
        send_stray();
        let result = match way {
            0 => connection.flush().await.map(|()| Value::Null),
            1 => connection.receive().await,
            2 => connection.query(&["GET", "b"]).await,
            _ => {
                connection.send(&["GET", "b"]).expect("it is encoded");
                connection.receive().await
            }
        };
        assert!(matches!(result, Err(Error::Stale)), "{way}: {result:?}");
        assert!(connection.is_broken(), "{way}");
    }
}

/// Something happens while it is encoded.
struct Slow<'a>(&'a (dyn Fn() + Sync), &'a str);

impl Request for Slow<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0)();
        ["SET", "a", self.1].encode(out);
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        ["SET", "a", self.1].get(index).map(|part| part.as_bytes())
    }

    fn len(&self) -> usize {
        3
    }
}

#[tokio::test]
async fn bytes_that_come_while_a_large_request_is_encoded_are_not_its_reply() {
    let (mut connection, send_stray) = unasked().await;
    let large = "x".repeat(100_000);
    let result = connection.call(&Slow(&send_stray, &large)).await;
    assert!(matches!(result, Err(Error::Stale)), "{result:?}");
}
