//! The embedded servers: the other side of every measurement, in a separate process.
//!
//! Each server answers with the nonce of the request, in one write, and reports each request and
//! connection to its [`oracle`]. The [`control`] connection starts runs and reads the counts.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::error::BenchError;
use crate::fault::Fault;
use crate::names::Protocol;
use crate::place;
use crate::target::Target;

pub mod control;
pub mod faults;
pub mod faulty;
mod framed;
mod http1;
mod http2;
pub mod listener;
pub mod model;
pub mod oracle;
pub mod relay;
mod resp;
mod workers;

use listener::Listener;
use model::{Http1Model, Models};

/// How long a server waits for a client to read the last reply.
const LINGER: Duration = Duration::from_millis(500);

/// The options of `serve`.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Where to listen, for each protocol that is to be served.
    pub addresses: Vec<(Protocol, SocketAddr)>,
    /// Where the control connection is accepted; a free port on loopback by default.
    pub control: Option<SocketAddr>,
    /// The model of each server that has several.
    pub models: Models,
    /// Connections that the `workers` model serves at once.
    pub workers: usize,
    /// Streams that the HTTP/2 server allows at once on a connection.
    pub max_streams: u32,
    /// Faults that are in force from the start.
    pub faults: Vec<Fault>,
    /// A server to stand in front of, instead of serving its protocol.
    pub relay: Option<Target>,
    /// The processor to run on.
    pub cpu: Option<usize>,
    /// End when standard input is closed, which it is when the parent is gone.
    pub exit_with_stdin: bool,
}

/// Where the servers can be reached: the line that `serve` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The control connection.
    pub control: SocketAddr,
    /// The process.
    pub pid: u32,
    /// The processor it is pinned to, `null` when it is not.
    pub cpu: Option<usize>,
    /// HTTP/1, if served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http1: Option<SocketAddr>,
    /// HTTP/2, if served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<SocketAddr>,
    /// RESP, if served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resp: Option<SocketAddr>,
    /// The framed echo, if served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framed: Option<SocketAddr>,
    /// The relay, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<SocketAddr>,
}

impl Bound {
    /// Where `protocol` is served.
    pub fn address(&self, protocol: Protocol) -> Option<SocketAddr> {
        match protocol {
            Protocol::Http1 => self.http1,
            Protocol::Http2 => self.http2,
            Protocol::Resp => self.resp,
            Protocol::Framed => self.framed,
        }
    }
}

/// Streams of an HTTP/2 connection, when nothing is asked for.
const MAX_STREAMS: u32 = 250;

/// Serves until the process is told to end (Ctrl-C, SIGTERM, or standard input as asked).
///
/// Prints the bound addresses as one JSON line on standard output first.
///
/// # Errors
/// [`BenchError::Usage`] when an address cannot be bound.
pub fn run(options: &ServeOptions) -> Result<(), BenchError> {
    place::raise_descriptor_limit();
    let cpu = options.cpu.map(pin).transpose()?.flatten();
    if options.exit_with_stdin {
        exit_when_stdin_closes();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting the server's runtime"))?;
    runtime.block_on(async {
        let bound = start(options, cpu).await?;
        let line = serde_json::to_string(&bound).expect("addresses are valid JSON");
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}")
            .and_then(|()| stdout.flush())
            .map_err(BenchError::io("printing the addresses"))?;
        drop(stdout);
        crate::signals::interrupted().await;
        Ok(())
    })
}

/// Runs on this processor from now on. `None` if the system does not support pinning.
fn pin(cpu: usize) -> Result<Option<usize>, BenchError> {
    if place::pin(cpu) {
        return Ok(Some(cpu));
    }
    // The parent may be pinned, and this process inherits that: ask for all processors.
    let all: Vec<usize> = (0..place::MOST).collect();
    let known = if place::allow(&all) { place::allowed() } else { return Ok(None) };
    if known.contains(&cpu) {
        return Ok(None);
    }
    let names: Vec<String> = known.iter().map(usize::to_string).collect();
    Err(BenchError::usage(format!(
        "--cpu {cpu}: there is no such processor; this process may run on {}",
        names.join(", ")
    )))
}

/// Binds everything and spawns a task for each server.
async fn start(options: &ServeOptions, cpu: Option<usize>) -> Result<Bound, BenchError> {
    let desks = Arc::new(control::Desks::default());
    let control_address = options.control.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let (control_listener, control) = bind("the control connection", control_address).await?;
    let mut bound = Bound {
        control,
        pid: std::process::id(),
        cpu,
        http1: None,
        http2: None,
        resp: None,
        framed: None,
        relay: None,
    };
    for &(protocol, address) in &options.addresses {
        let desk = desks.of(protocol);
        let (oracle, faults) = (Arc::clone(&desk.oracle), Arc::clone(&desk.faults));
        let listener = Listener::bind(address, Arc::clone(&faults))
            .await
            .map_err(cannot_listen(protocol.name(), address))?;
        let address = listener.address();
        if options.relay.is_some() {
            faults.relay();
        }
        for &fault in &options.faults {
            faults
                .can_play(fault)
                .map_err(|error| BenchError::usage(format!("--fault: {error}")))?;
            faults.inject(fault);
        }
        if let Some(upstream) = options.relay.as_ref().filter(|to| to.protocol == protocol) {
            bound.relay = Some(address);
            tokio::spawn(relay::serve(listener, oracle, upstream.address));
            continue;
        }
        match protocol {
            Protocol::Http1 => {
                bound.http1 = Some(address);
                match options.models.http1 {
                    Http1Model::Tasks => tokio::spawn(http1::serve_tasks(listener, oracle)),
                    Http1Model::Workers => {
                        tokio::spawn(http1::serve_workers(listener, oracle, options.workers))
                    }
                };
            }
            Protocol::Http2 => {
                bound.http2 = Some(address);
                tokio::spawn(http2::serve(listener, oracle, faults, options.max_streams));
            }
            Protocol::Resp => {
                bound.resp = Some(address);
                tokio::spawn(resp::serve(listener, oracle));
            }
            Protocol::Framed => {
                bound.framed = Some(address);
                tokio::spawn(framed::serve(listener, oracle, options.models.framed));
            }
        }
    }
    tokio::spawn(control::serve(control_listener, desks));
    Ok(bound)
}

async fn bind(what: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), BenchError> {
    let listener = TcpListener::bind(address)
        .await
        .and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    listener.map_err(cannot_listen(what, address))
}

fn cannot_listen(what: &str, address: SocketAddr) -> impl FnOnce(std::io::Error) -> BenchError {
    move |error| BenchError::usage(format!("cannot listen on {address} for {what}: {error}"))
}

/// Ends the process when standard input is closed: its parent is gone, however it died.
fn exit_when_stdin_closes() {
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(0);
    });
}

impl TryFrom<crate::cli::ServeArgs> for ServeOptions {
    type Error = BenchError;

    fn try_from(args: crate::cli::ServeArgs) -> Result<Self, BenchError> {
        let named = [
            (Protocol::Http1, args.http1),
            (Protocol::Http2, args.http2),
            (Protocol::Resp, args.resp),
            (Protocol::Framed, args.framed),
        ];
        let mut addresses: Vec<_> = named
            .into_iter()
            .filter_map(|(protocol, address)| Some((protocol, address?)))
            .collect();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay = args.relay.as_deref().map(Target::parse).transpose();
        // The same error text, but with the name of this option.
        let relay = relay
            .map_err(|error| BenchError::usage(error.to_string().replace("--target", "--relay")))?;
        match &relay {
            Some(upstream) if addresses.is_empty() => {
                addresses.push((upstream.protocol, args.relay_listen.unwrap_or(free)));
            }
            Some(_) => {
                return Err(BenchError::usage(
                    "--relay stands in front of one server: leave --http1, --http2, --resp and --framed out, --relay-listen says where it listens",
                ));
            }
            None if args.relay_listen.is_some() => {
                return Err(BenchError::usage(
                    "--relay-listen is for --relay URL, which is missing",
                ));
            }
            None if addresses.is_empty() => {
                addresses = Protocol::ALL.map(|protocol| (protocol, free)).to_vec();
            }
            None => {}
        }
        let serves = |wanted: Protocol| {
            relay.is_none() && addresses.iter().any(|(protocol, _)| *protocol == wanted)
        };
        for model in &args.model {
            let protocol = Models::protocol(model)?;
            if !serves(protocol) {
                return Err(BenchError::usage(format!(
                    "--model {model} is a model of {protocol}, which is not served: add --{protocol} ADDR, or leave it out"
                )));
            }
        }
        if args.max_streams.is_some() && !serves(Protocol::Http2) {
            return Err(BenchError::usage(
                "--max-streams is for http2, which is not served: add --http2 ADDR, or leave it out",
            ));
        }
        Ok(Self {
            addresses,
            control: args.control,
            models: Models::parse(&args.model)?,
            workers: args.workers,
            max_streams: args.max_streams.unwrap_or(MAX_STREAMS),
            faults: args.fault,
            relay,
            cpu: args.cpu,
            exit_with_stdin: args.exit_with_stdin,
        })
    }
}
