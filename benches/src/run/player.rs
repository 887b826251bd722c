//! The thread that plays the faults of a turn. It has its own runtime and its own control connection.
//!
//! On the runtime of the turn each step would wait until the contestant yields. A contestant that
//! dials for each request, or is overloaded by the fault, keeps that runtime busy for seconds.

use std::net::SocketAddr;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::events::Script;
use super::load::Began;
use crate::error::BenchError;
use crate::place;

/// Where and when the thread plays.
#[derive(Debug)]
pub(super) struct Player {
    /// Where the server takes commands.
    pub(super) control: SocketAddr,
    /// Tells when the window begins.
    pub(super) began: watch::Receiver<Option<Began>>,
    /// Cancelled when the turn is over.
    pub(super) over: CancellationToken,
    /// Where the thread may run; when empty, where the client does.
    pub(super) cpus: Vec<usize>,
}

/// A script that is being played.
#[derive(Debug)]
pub(super) struct Playing(oneshot::Receiver<(Script, Result<(), BenchError>)>);

impl Player {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system starts none.
    pub(super) fn start(self, mut script: Script) -> Result<Playing, BenchError> {
        let (send, done) = oneshot::channel();
        let work = move || {
            if !self.cpus.is_empty() {
                // Fails only where the system forbids it. Then faults may be late, which is noticed.
                place::allow(&self.cpus);
            }
            let played = self.play(&mut script);
            // The receiver is gone when the run has ended.
            drop(send.send((script, played)));
        };
        std::thread::Builder::new()
            .name("faults".to_owned())
            .spawn(work)
            .map_err(BenchError::io("starting the thread that plays faults"))?;
        Ok(Playing(done))
    }

    fn play(self, script: &mut Script) -> Result<(), BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::io("starting the runtime that plays faults"))?;
        runtime.block_on(async {
            let mut control = Control::connect(self.control).await?;
            script.play(&mut control, self.began, &self.over).await
        })
    }
}

impl Playing {
    /// The script with its stamps, and what went wrong.
    pub(super) async fn end(self) -> (Script, Result<(), BenchError>) {
        self.0.await.expect("the thread that plays faults does not panic")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::fault::{Event, Fault};
    use crate::names::Protocol;
    use crate::serve::control::Answer;

    /// Answers commands on its own thread, as a server in another process does.
    fn server() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 0 {
                    let answer = Answer::Injected { id: 1, at_ns: 7 };
                    let text = serde_json::to_string(&answer).unwrap() + "\n";
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
            });
        });
        address
    }

    #[tokio::test]
    async fn a_busy_turn_does_not_keep_its_faults_from_being_played() {
        let began = watch::Sender::new(None);
        let over = CancellationToken::new();
        let player = Player {
            control: server(),
            began: began.subscribe(),
            over: over.clone(),
            cpus: Vec::new(),
        };
        let script = Script::new(Protocol::Resp, vec![Event::at(1, Fault::Refuse)]);
        let mut playing = player.start(script).unwrap();
        began.send_replace(Some(Began::after(Duration::ZERO)));
        // The turn does not yield. Its faults are over before it does.
        let deadline = Instant::now() + Duration::from_secs(20);
        let (script, played) = loop {
            assert!(Instant::now() < deadline, "the fault waits for the turn to yield");
            match playing.0.try_recv() {
                Ok(end) => break end,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        played.unwrap();
        assert_eq!(script.played(0, Duration::from_secs(1)).len(), 1);
    }
}
