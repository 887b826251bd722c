//! The embedded servers as a child process, and the control connection to it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use crate::error::BenchError;
use crate::names::Protocol;
use crate::serve::Bound;
use crate::serve::control::Command as ControlCommand;
use crate::serve::oracle::{Counters, Series};
use crate::target::Target;

/// After a turn the server must count no open socket within this.
const LEAK_TIMEOUT: Duration = Duration::from_secs(2);
/// The exit status of a process is available at most this long after its end.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// The time between two reads of the count.
const LEAK_STEP: Duration = Duration::from_millis(2);

/// The embedded servers. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    bound: Bound,
    control: Control,
    /// Cancelled when the process is gone.
    gone: CancellationToken,
}

impl Server {
    /// Starts this program again as `serve`, pinned to `cpu`, and connects to its control port.
    ///
    /// # Errors
    /// [`BenchError::Io`] or [`BenchError::Server`] when it does not come up.
    pub async fn start(cpu: Option<usize>, models: &[String]) -> Result<Self, BenchError> {
        let mut arguments = Vec::new();
        for protocol in Protocol::ALL {
            arguments.extend([format!("--{protocol}"), "127.0.0.1:0".to_owned()]);
        }
        for model in models {
            arguments.extend(["--model".to_owned(), model.clone()]);
        }
        Self::spawn(cpu, &arguments).await
    }

    /// Starts the same program as a relay in front of the user's server. The relay plays the faults that need
    /// no knowledge of the protocol.
    ///
    /// # Errors
    /// [`BenchError::Io`] or [`BenchError::Server`] when it does not come up.
    pub async fn start_relay(cpu: Option<usize>, target: &Target) -> Result<Self, BenchError> {
        // Only the address, without a password: other users of the machine can read a command line, and a
        // relay needs no password.
        let scheme = match target.protocol {
            Protocol::Http1 => "http",
            Protocol::Http2 => "h2c",
            Protocol::Resp => "redis",
            Protocol::Framed => {
                return Err(BenchError::usage("there is no relay for the framed protocol"));
            }
        };
        let url = format!("{scheme}://{}", target.address);
        Self::spawn(cpu, &["--relay".to_owned(), url]).await
    }

    async fn spawn(cpu: Option<usize>, arguments: &[String]) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::io("finding this program"))?;
        let mut command = Command::new(program);
        command.args(["serve", "--exit-with-stdin"]).args(arguments);
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        // A separate process group: Ctrl-C reaches only this process, which then ends the server.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(BenchError::io("starting the embedded server"))?;
        let mut child = Guard(Some(child));
        let stdout = child.get().stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(BenchError::io("reading the server's addresses"))?;
        let bound: Bound = serde_json::from_str(&line)
            .map_err(|error| BenchError::Server(format!("did not start: {error}")))?;
        let control = Control::connect(bound.control).await?;
        let gone = watch(bound.control).await?;
        Ok(Self { child: child.0.take().expect("taken once"), gone, bound, control })
    }

    /// Where `protocol` is served; the address of the relay, if this is one.
    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        self.bound.relay.or(self.bound.address(protocol)).expect("every protocol was asked for")
    }

    /// Cancelled as soon as the process is gone.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// How the process ended; `None` while it runs.
    pub async fn end(&mut self) -> Option<String> {
        if !self.gone.is_cancelled() {
            return None;
        }
        let what = if self.is_relay() { "the relay" } else { "the embedded servers" };
        // The sockets of a process are closed a moment before its exit status is available.
        let deadline = tokio::time::Instant::now() + STATUS_TIMEOUT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(format!("the process of {what} ended ({status})")),
                Ok(None) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LEAK_STEP).await;
                }
                _ => return Some(format!("the process of {what} closed its control connection")),
            }
        }
    }

    /// Whether it is the relay.
    pub fn is_relay(&self) -> bool {
        self.bound.relay.is_some()
    }

    /// The processor it runs on, if it is pinned.
    pub fn cpu(&self) -> Option<usize> {
        self.bound.cpu
    }

    /// Starts a run: the counts of `protocol` are zero from now on.
    pub async fn start_run(
        &mut self,
        protocol: Protocol,
        run: u32,
        close_after: bool,
    ) -> Result<Counters, BenchError> {
        self.control.counters(ControlCommand::Start { protocol, run, close_after }).await
    }

    /// The counts of `protocol` as soon as no socket is open, or after `LEAK_TIMEOUT` as they are then.
    pub async fn counters_at_rest(&mut self, protocol: Protocol) -> Result<Counters, BenchError> {
        let deadline = tokio::time::Instant::now() + LEAK_TIMEOUT;
        loop {
            let counters = self.control.counters(ControlCommand::Counters { protocol }).await?;
            if counters.open == 0 || tokio::time::Instant::now() >= deadline {
                return Ok(counters);
            }
            tokio::time::sleep(LEAK_STEP).await;
        }
    }

    /// The server's counts for each step of time since the run was started.
    pub async fn series(&mut self, protocol: Protocol) -> Result<Series, BenchError> {
        self.control.series(protocol).await
    }

    /// The connection on which it takes commands.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Where another such connection can be opened.
    pub fn control_address(&self) -> SocketAddr {
        self.bound.control
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A token that is cancelled when the process behind the control port is gone. It watches a connection on
/// which nothing is sent, and which ends with the process.
async fn watch(control: SocketAddr) -> Result<CancellationToken, BenchError> {
    let mut stream = TcpStream::connect(control)
        .await
        .map_err(BenchError::io("connecting to the server's control port"))?;
    let gone = CancellationToken::new();
    let told = gone.clone();
    tokio::spawn(async move {
        // The read ends with no bytes or with an error. Both mean that the process is gone.
        drop(stream.read(&mut [0; 1]).await);
        told.cancel();
    });
    Ok(gone)
}

/// Ends a child that did not come up.
struct Guard(Option<Child>);

impl Guard {
    fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("taken only at the end")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

/// Kills the child and takes its exit status, so that no zombie process is left.
fn end(child: &mut Child) {
    // Both fail only when it is gone already.
    drop(child.kill());
    drop(child.wait());
}
