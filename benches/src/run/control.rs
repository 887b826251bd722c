//! The client's side of a control connection: what it asks the server, and the answers.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LinesCodec};

use crate::error::BenchError;
use crate::fault::Fault;
use crate::names::Protocol;
use crate::serve::control::{Answer, Command, MAX_LINE};
use crate::serve::oracle::{Counters, Series};

/// A server that does not answer within this time is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A control connection. It belongs to the runtime in which it was opened.
#[derive(Debug)]
pub struct Control(Framed<TcpStream, LinesCodec>);

impl Control {
    /// Connects to the control port of a server.
    ///
    /// # Errors
    /// When no server listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        let failed = || BenchError::io("connecting to the server's control port");
        let stream = TcpStream::connect(address).await.map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        Ok(Self(Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE))))
    }

    /// Starts a fault. Returns its number, and when it started, on the machine's monotonic clock.
    ///
    /// # Errors
    /// When the server is gone, or cannot play the fault.
    pub async fn inject(
        &mut self,
        protocol: Protocol,
        fault: Fault,
    ) -> Result<(u32, u64), BenchError> {
        self.injected(Command::Inject { protocol, fault }).await
    }

    /// Ends a fault. Returns when it ended, on the machine's monotonic clock.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn lift(&mut self, protocol: Protocol, id: u32) -> Result<u64, BenchError> {
        Ok(self.injected(Command::Lift { protocol, id }).await?.1)
    }

    async fn injected(&mut self, command: Command) -> Result<(u32, u64), BenchError> {
        match self.answer(command).await? {
            Answer::Injected { id, at_ns } => Ok((id, at_ns)),
            other => Err(BenchError::Server(format!("answered {other:?}"))),
        }
    }

    /// The server's counts for each step of time since the run was started.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn series(&mut self, protocol: Protocol) -> Result<Series, BenchError> {
        match self.answer(Command::Series { protocol }).await? {
            Answer::Series(series) => Ok(series),
            other => Err(BenchError::Server(format!("answered {other:?}"))),
        }
    }

    /// A command that is answered with counters.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn counters(&mut self, command: Command) -> Result<Counters, BenchError> {
        match self.answer(command).await? {
            Answer::Counters(counters) => Ok(counters),
            other => Err(BenchError::Server(format!("answered {other:?}"))),
        }
    }

    async fn answer(&mut self, command: Command) -> Result<Answer, BenchError> {
        let line = serde_json::to_string(&command).expect("commands are valid JSON");
        let exchange = async {
            self.0.send(line).await.map_err(|error| BenchError::Server(error.to_string()))?;
            match self.0.next().await {
                Some(Ok(line)) => Ok(line),
                Some(Err(error)) => Err(BenchError::Server(error.to_string())),
                None => Err(BenchError::Server("ended".to_owned())),
            }
        };
        let line = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| BenchError::Server("does not answer".to_owned()))??;
        match serde_json::from_str(&line) {
            Ok(Answer::Error(error)) => Err(BenchError::Server(error)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(BenchError::Server(error.to_string())),
        }
    }
}
