//! A pool for another protocol: memcached's text protocol, get and set.
//!
//! `cargo run -p pool-common --example memcached` brings a little server along and needs nothing
//! else; `-- --target 127.0.0.1:11211` uses a real one. Everything up to `run` is what a client
//! would contain; `run` shows what comes of it.

#![allow(clippy::print_stdout)] // It is a program that shows something.

pub(crate) mod server;

use std::error::Error;
use std::fmt;
use std::future::ready;
use std::io;
use std::time::Duration;

use pool_common::connect::{TcpConnector, has_unread};
use pool_common::event::CloseCause;
use pool_common::policy::Check;
use pool_common::{Exclusive, Manager, Notifier, Policy, Pool, Stats, profile};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The key: everything that shaped a connection. The login belongs to it, or one user would be
/// lent a connection that another has logged in on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    host: String,
    port: u16,
    /// User and password, where the server wants them.
    login: Option<(String, String)>,
}

/// Keys appear in errors and logs, so this one keeps the password to itself.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map_or("nobody", |(user, _)| user);
        write!(f, "{user}@{}:{}", self.host, self.port)
    }
}

/// One connection.
struct Memcached {
    stream: BufReader<TcpStream>,
    /// Set before the first byte of a request goes out, cleared when its answer was read to the
    /// end. A borrower can be cancelled at any await in between; the bytes that are left then
    /// answer another request, and only the mark tells.
    in_flight: bool,
}

impl Memcached {
    async fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.send(format!("get {}\r\n", checked(name)?).as_bytes()).await?;
        let first = self.line().await?;
        let mut value = None;
        if first != "END" {
            // VALUE name flags size, the value, END
            let size = first.rsplit(' ').next().and_then(|size| size.parse().ok());
            // A peer does not decide how much memory is taken.
            let size: usize = size.filter(|size| *size <= 1 << 20).ok_or_else(|| odd(&first))?;
            let mut bytes = vec![0; size + 2];
            self.stream.read_exact(&mut bytes).await?;
            bytes.truncate(size);
            let last = self.line().await?;
            if last != "END" {
                return Err(odd(&last));
            }
            value = Some(bytes);
        }
        self.in_flight = false;
        Ok(value)
    }

    async fn set(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut request = format!("set {} 0 0 {}\r\n", checked(name)?, value.len()).into_bytes();
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
        self.command(&request, "STORED").await
    }

    /// A request whose answer is one line. With any other answer the mark stays, and the
    /// connection is not lent again: simple, and never wrong.
    async fn command(&mut self, request: &[u8], answer: &str) -> io::Result<()> {
        self.send(request).await?;
        let line = self.line().await?;
        if !line.starts_with(answer) {
            return Err(odd(&line));
        }
        self.in_flight = false;
        Ok(())
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.in_flight = true;
        self.stream.write_all(request).await
    }

    /// At most 512 bytes: a longer one is no answer of memcached's.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(512).read_line(&mut line).await?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| odd(&line))
    }
}

/// A space or a line end in a name would make it another request.
fn checked(name: &str) -> io::Result<&str> {
    let fine = (1..=250).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    fine.then_some(name).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a name"))
}

fn odd(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {line:?}"))
}

/// How the pool dials, checks and closes connections of this protocol.
struct Connector(TcpConnector);

impl Manager for Connector {
    type Key = Server;
    type Lending = Exclusive<Memcached>;
    type Error = io::Error;

    /// Until it is ready for its first request, so the login is part of it. `dial_timeout` bounds it.
    async fn connect(&self, server: &Server, _: Notifier) -> io::Result<Memcached> {
        let stream = BufReader::new(self.0.connect(&server.host, server.port).await?);
        let mut connection = Memcached { stream, in_flight: false };
        if let Some((user, password)) = &server.login {
            // The text protocol logs in with a `set` of any name.
            connection.set("login", format!("{user} {password}").as_bytes()).await?;
        }
        Ok(connection)
    }

    /// When a lease comes back: a request without its answer, or an answer to no request.
    fn is_broken(&self, connection: &mut Exclusive<Memcached>) -> bool {
        connection.in_flight || !connection.stream.buffer().is_empty()
    }

    /// Before an idle one is lent, also ask the kernel whether the server has hung up meanwhile.
    fn is_stale(&self, connection: &mut Exclusive<Memcached>, _: Duration) -> bool {
        self.is_broken(connection) || has_unread(connection.stream.get_ref())
    }

    /// The round trip that `Policy::check` asks for. `check_timeout` bounds it.
    async fn check(
        &self,
        connection: &mut Exclusive<Memcached>,
        _idle_for: Duration,
    ) -> io::Result<()> {
        connection.command(b"version\r\n", "VERSION ").await
    }

    /// Closes in order. `close_timeout` bounds it, and it does not matter if the server is gone.
    async fn close(&self, connection: Exclusive<Memcached>) {
        let _ = connection.into_inner().stream.write_all(b"quit\r\n").await;
    }
}

/// As go-redis pools, but for two connections at most; patience and check are short so that this
/// program shows them at once.
fn policy() -> Policy {
    Policy {
        max_open_per_key: Some(2),
        acquire_timeout: Some(Duration::from_millis(200)),
        check: Check::IfIdleLonger,
        check_after: Duration::from_millis(50),
        ..profile::go_redis().policy
    }
}

pub(crate) async fn run(server: Server) -> Result<Stats, Box<dyn Error + Send + Sync>> {
    let pool = Pool::builder(Connector(TcpConnector::default())).policy(policy()).build()?;

    // Eight tasks share two connections. A clone is the same pool.
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (pool, server) = (pool.clone(), server.clone());
        tasks.spawn(async move {
            for round in 0..3 {
                let mut lease = pool.acquire(&server).await?;
                let name = format!("greeting-{task}");
                lease.set(&name, format!("hello {round}").as_bytes()).await?;
                let greeting = lease.get(&name).await?;
                assert_eq!(greeting, Some(format!("hello {round}").into_bytes()));
            } // the lease ends here: the connection goes to the next waiter, or becomes idle
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    println!("eight tasks:   {}", pool.status());

    // Idle for longer than `check_after`: the server is asked for its version first.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let first = pool.acquire(&server).await?;
    let mut second = pool.acquire(&server).await?;

    // Both are out, and none comes back in time. The error tells the state of the pool.
    if let Err(error) = pool.acquire(&server).await {
        println!("a third one:   {error}");
    }

    // A borrower that is cancelled between request and answer: the mark is set, so the connection
    // is closed instead of giving this answer to the next borrower.
    tokio::select! {
        biased;
        _ = second.get("greeting-1") => {}
        () = ready(()) => {} // no patience at all
    }
    drop((first, second));
    println!("one cancelled: {}", pool.status());

    pool.close().await; // says `quit` on the idle ones, and waits until nothing is left
    let stats = pool.stats();
    println!("closed:        {}", pool.status());
    println!("{} leases, {} had to wait, {} opened", stats.leased, stats.waited, stats.opened);
    for cause in CloseCause::ALL.into_iter().filter(|cause| stats.closed(*cause) > 0) {
        println!("{} closed: {cause}", stats.closed(cause));
    }
    Ok(stats)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run(server::chosen().await?).await.map(drop)
}
