//! After an outage the default policy serves waiting callers within a second. On a paused clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{honest, peer};
use pool_common::{Policy, clock::Clock};
use resp_pool::{Client, Config, Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const CALLERS: usize = 8;

fn client(config: Config) -> Client {
    Client::builder().config(config).clock(Clock::tokio()).build().expect("a client")
}

/// Callers that ask all the time, with a pause of 10 ms after a failure.
struct Callers {
    tasks: JoinSet<()>,
    /// When a call failed last, and when each caller was first served after the outage.
    last_failure: Arc<Mutex<Option<Instant>>>,
    served: Arc<Mutex<Vec<Instant>>>,
    over: Arc<AtomicBool>,
}

impl Callers {
    fn start(client: &Client, patience: Duration) -> Self {
        let mut callers = Self {
            tasks: JoinSet::new(),
            last_failure: Arc::default(),
            served: Arc::default(),
            over: Arc::default(),
        };
        for _ in 0..CALLERS {
            let client = client.clone();
            let (last_failure, served, over) = (
                Arc::clone(&callers.last_failure),
                Arc::clone(&callers.served),
                Arc::clone(&callers.over),
            );
            callers.tasks.spawn(async move {
                loop {
                    let begun_after = over.load(Ordering::Relaxed);
                    match timeout(patience, client.query::<()>(&["GET", "k"])).await {
                        Ok(Ok(())) if over.load(Ordering::Relaxed) => {
                            served.lock().expect("no panic").push(Instant::now());
                            return;
                        }
                        Ok(Ok(())) => sleep(Duration::from_millis(10)).await,
                        Ok(Err(_)) | Err(_) => {
                            if begun_after {
                                *last_failure.lock().expect("no panic") = Some(Instant::now());
                            }
                            sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
            });
        }
        callers
    }

    /// The server is back now: each caller is served within a second.
    async fn are_served_within_a_second(mut self) {
        let back = Instant::now();
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
        let served = self.served.lock().expect("no panic").clone();
        let slowest = served.iter().max().expect("callers").duration_since(back);
        let failure = *self.last_failure.lock().expect("no panic");
        let failure = failure.map(|at| at.duration_since(back));
        assert!(
            served.len() == CALLERS && slowest <= Duration::from_secs(1),
            "the slowest was served after {slowest:?}, the last error came after {failure:?}"
        );
    }
}

/// Serves until the task is aborted, which closes everything.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            while let Ok(1..) = stream.read(&mut [0; 1024]).await {
                let _ = stream.write_all(b"+OK\r\n").await;
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_is_noticed_within_a_second() {
    for outage in [1, 12, 60] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(serve(listener));
        let config = Config { port: address.port(), ..Config::default() };
        let client = client(config);
        client.query::<()>(&["GET", "k"]).await.expect("it serves");
        let callers = Callers::start(&client, Duration::from_secs(60));
        sleep(Duration::from_secs(1)).await;
        server.abort();
        sleep(Duration::from_secs(outage)).await;
        let listener = TcpListener::bind(address).await.expect("the same port");
        tokio::spawn(serve(listener));
        callers.are_served_within_a_second().await;
        client.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn dials_that_hang_from_an_outage_do_not_hold_up_callers_after_it() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let silent = Arc::new(AtomicBool::new(true));
        let says_nothing = Arc::clone(&silent);
        let silent_ones = Mutex::new(Vec::new());
        // Connections that met the silence stay silent.
        let mut config = peer(move |asked| {
            let mut silent_ones = silent_ones.lock().expect("no panic");
            if says_nothing.load(Ordering::Relaxed) {
                silent_ones.push(asked.connection);
            }
            match &asked.words[..] {
                _ if silent_ones.contains(&asked.connection) => None,
                [name, ..] if name == "HELLO" => Some("%0\r\n".to_owned()),
                _ => Some(honest(asked)),
            }
        })
        .await;
        (config.database, config.protocol) = (3, protocol);
        let client = client(config);
        let callers = Callers::start(&client, Duration::from_millis(200));
        sleep(Duration::from_secs(2)).await;
        silent.store(false, Ordering::Relaxed);
        callers.are_served_within_a_second().await;
    }
}

/// The server closes what is idle, and no caller comes.
#[tokio::test(start_paused = true)]
async fn a_floor_that_the_server_has_closed_is_refilled_without_an_acquire() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let open = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            open.lock().expect("no panic").push(stream);
        }
    });
    let policy = Policy { min_idle: 3, max_idle_per_key: None, ..Client::default_policy() };
    let client = Client::builder()
        .config(config)
        .policy(policy)
        .clock(Clock::tokio())
        .build()
        .expect("a client");
    // The floor is dialed in the background.
    client.warm_up();
    sleep(Duration::from_secs(10)).await;
    for round in 1..4 {
        let before: Vec<_> = accepted.lock().expect("no panic").drain(..).collect();
        let leased = client.pool().stats().leased;
        drop(before);
        // A look every half a second finds them, and the floor may pause for a moment.
        sleep(Duration::from_secs(2)).await;
        let status = client.pool().status();
        assert_eq!((status.idle, status.open), (3, 3), "round {round}: {status}");
        assert_eq!(accepted.lock().expect("no panic").len(), 3, "round {round}: dialed anew");
        assert_eq!(client.pool().stats().leased, leased, "without an acquire");
        sleep(Duration::from_secs(10)).await;
    }
    client.close().await;
}
