//! Profiles over `resp-pool`: commands of its client, and the scenario `session`.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use pool_common::event::Event;
use pool_common::{Lease, Policy};
use resp_pool::{Client, Config, Error, Key, Manager, Pipeline, Secret, Value};

use super::pooled::{Listener, Sampler};
use super::raw::counter;
use super::{
    CallError, Contestant, Counts, Echo, ErrorKind, PoolStatus, Reply, Request, RequestKind, pooled,
};
use crate::nonce::Nonce;
use crate::target::Target;

/// A client for the target with this policy.
pub(super) fn client(
    target: &Target,
    policy: Policy,
    listener: Listener,
) -> Result<Client, String> {
    let config = Config {
        host: target.host.clone(),
        port: target.address.port(),
        username: target.username.clone(),
        password: target.password.clone().map(Secret::new),
        database: target.database,
        ..Config::default()
    };
    let builder = Client::builder().config(config).policy(policy);
    let builder = match listener {
        Some(lives) => {
            builder.observer(move |event: &Event<Key>| lives.hear(event.connection, event.kind))
        }
        None => builder,
    };
    builder.build().map_err(|error| error.to_string())
}

fn failed(error: Error) -> CallError {
    let text = error.to_string();
    match error {
        Error::Acquire(error) => pooled::acquire_failed(*error),
        error if error.is_timeout() => CallError::new(ErrorKind::Timeout, text),
        Error::Connect(_) | Error::Handshake { .. } => CallError::dial(text),
        Error::Server(_) | Error::Conversion(_) => CallError::wrong(text),
        _ => CallError::broken(text),
    }
}

/// `ECHO <nonce>`, or a command of the user. The client borrows a connection for each and sends again what
/// the policy's retry rule allows.
pub(super) struct RespPool {
    client: Client,
    command: Arc<[Bytes]>,
    callers: AtomicU32,
}

/// One caller: its handle on the client, and what its requests need.
pub(super) struct Caller {
    client: Client,
    command: Arc<[Bytes]>,
    sampler: Sampler,
}

/// One command, and its reply.
async fn ask(client: &Client, command: &[Bytes], request: &Request) -> Result<Echo, CallError> {
    Ok(match request.kind {
        RequestKind::Read if !command.is_empty() => {
            let _: Value = client.query(command).await.map_err(failed)?;
            Echo::NotAsked
        }
        RequestKind::Read => {
            let command = [&b"ECHO"[..], &request.nonce.as_bytes()[..]];
            let answer: Bytes = client.query(&command).await.map_err(failed)?;
            Echo::check(true, request.nonce, &answer)
        }
        RequestKind::Write => {
            let command = [&b"INCR"[..], &counter(request.nonce)[..]];
            let times: i64 = client.query(&command).await.map_err(failed)?;
            // The server counts requests that ran twice. A count below 1 is the reply to another request.
            if times >= 1 { Echo::Returned } else { Echo::Wrong }
        }
    })
}

impl RespPool {
    /// A pool with this policy.
    pub(super) fn new(target: &Target, policy: Policy, listener: Listener) -> Result<Self, String> {
        let client = client(target, policy, listener)?;
        Ok(Self { client, command: target.ask.command().into(), callers: AtomicU32::new(0) })
    }
}

impl Contestant for RespPool {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(Caller {
            client: self.client.clone(),
            command: Arc::clone(&self.command),
            sampler: Sampler::numbered(&self.callers),
        })
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let Caller { client, command, sampler } = caller;
        sampler.around(client.pool(), client.key(), ask(client, command, request)).await
    }

    fn counts(&self) -> Counts {
        pooled::counts(self.client.pool())
    }

    fn status(&self) -> Option<PoolStatus> {
        Some(pooled::status(self.client.pool()))
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

/// The scenario `session`: each caller checks the session it was given, then changes it.
pub(super) struct RespSession {
    client: Client,
    database: u32,
}

impl RespSession {
    /// A pool with this policy.
    pub(super) fn new(target: &Target, policy: Policy) -> Result<Self, String> {
        Ok(Self { client: client(target, policy, None)?, database: target.database })
    }
}

/// One caller, and the change that it makes next.
pub(super) struct Messy {
    client: Client,
    database: u32,
    turn: usize,
}

/// A change of the session that a caller leaves behind.
#[derive(Debug, Clone, Copy)]
enum Mess {
    Nothing,
    Multi,
    Queued,
    Watch,
    Subscribe,
    Select,
}

const MESSES: [Mess; 6] =
    [Mess::Nothing, Mess::Multi, Mess::Watch, Mess::Subscribe, Mess::Select, Mess::Queued];

impl Contestant for RespSession {
    type Caller = Messy;

    async fn caller(&self) -> Result<Messy, String> {
        Ok(Messy { client: self.client.clone(), database: self.database, turn: 0 })
    }

    async fn call(caller: &mut Messy, request: &Request) -> Result<Reply, CallError> {
        let mut lease = caller.client.acquire().await.map_err(failed)?;
        let acquire = request.started.elapsed();
        let echo = look(&mut lease, request.nonce, caller.database).await.map_err(failed)?;
        let mess = MESSES[caller.turn % MESSES.len()];
        caller.turn += 1;
        leave(&mut lease, mess).await.map_err(failed)?;
        Ok(Reply::new(echo).acquired(acquire))
    }

    fn counts(&self) -> Counts {
        pooled::counts(self.client.pool())
    }

    fn status(&self) -> Option<PoolStatus> {
        Some(pooled::status(self.client.pool()))
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

/// Asks the server whether the session is like that of a new connection: commands run at once, and no
/// state of an earlier borrower is left. Such state counts as a wrong reply.
async fn look(lease: &mut Lease<Manager>, nonce: Nonce, database: u32) -> Result<Echo, Error> {
    let mut both = Pipeline::new();
    both.add(&["ECHO", nonce.as_str()]).add(&["CLIENT", "INFO"]);
    let replies = lease.pipeline(&both).await?;
    let (Some(echo), Some(info)) = (bytes_of(replies.first()), bytes_of(replies.get(1))) else {
        return Ok(Echo::Wrong);
    };
    if !is_neutral(&String::from_utf8_lossy(info), database) {
        return Ok(Echo::Wrong);
    }
    Ok(Echo::check(true, nonce, echo))
}

fn bytes_of(value: Option<&Value>) -> Option<&Bytes> {
    value.and_then(Value::as_bytes)
}

/// Reads `CLIENT INFO`. Missing fields (older servers have no `watch`) count as neutral, except for the
/// database.
fn is_neutral(info: &str, database: u32) -> bool {
    let field = |name: &str| {
        info.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    };
    let zero = |name| field(name).is_none_or(|value| value == "0");
    field("db").is_some_and(|value| value == database.to_string())
        && field("multi").is_none_or(|value| value == "-1")
        && ["sub", "psub", "ssub", "watch"].into_iter().all(zero)
}

async fn leave(lease: &mut Lease<Manager>, mess: Mess) -> Result<(), Error> {
    match mess {
        Mess::Nothing => Ok(()),
        Mess::Multi => lease.query(&["MULTI"]).await,
        Mess::Queued => {
            lease.query::<()>(&["MULTI"]).await?;
            lease.query(&["SET", "poolbench:session", "left behind"]).await
        }
        Mess::Watch => lease.watch(&["poolbench:session"]).await,
        Mess::Subscribe => lease.subscribe(&["poolbench:channel"]).await,
        Mess::Select => lease.query(&["SELECT", "3"]).await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pool_common::policy::Retry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::names::Protocol;

    /// Answers as a server does, and closes the connection instead of answering its second `ECHO`.
    async fn answer_once(mut stream: TcpStream) -> std::io::Result<()> {
        let (mut bytes, mut echoed) = ([0; 1024], false);
        loop {
            let count = stream.read(&mut bytes).await?;
            let text = String::from_utf8_lossy(&bytes[..count]);
            let Some((_, nonce)) = text.split_once("ECHO\r\n") else {
                if count == 0 {
                    return Ok(());
                }
                stream.write_all(b"+OK\r\n").await?;
                continue;
            };
            if std::mem::replace(&mut echoed, true) {
                return Ok(());
            }
            stream.write_all(nonce.as_bytes()).await?;
        }
    }

    #[tokio::test]
    async fn command_is_sent_again_as_the_policy_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::embedded(Protocol::Resp, listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_once(stream));
            }
        });
        for (retry, second) in [(Retry::Never, false), (Retry::ReusedAndReplayable, true)] {
            let policy = Policy { retry, ..Policy::default() };
            let pool = RespPool::new(&target, policy, None).unwrap();
            let mut caller = pool.caller().await.unwrap();
            for (number, succeeds) in [(1, true), (2, second)] {
                let request = Request {
                    nonce: Nonce::new(1, number),
                    started: Instant::now(),
                    kind: RequestKind::Read,
                };
                let reply = RespPool::call(&mut caller, &request).await;
                assert_eq!(reply.is_ok(), succeeds, "{retry:?}, request {number}");
            }
            pool.close().await;
        }
    }

    #[test]
    fn a_session_is_neutral_only_when_nothing_was_left_behind() {
        let neutral = "id=3 db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 resp=2\n";
        assert!(is_neutral(neutral, 0));
        assert!(is_neutral("id=3 db=5 sub=0", 5));
        for (from, to) in [
            ("db=0", "db=3"),
            (" sub=0", " sub=1"),
            ("psub=0", "psub=1"),
            ("multi=-1", "multi=0"),
            ("watch=0", "watch=1"),
        ] {
            assert!(!is_neutral(&neutral.replace(from, to), 0), "{to}");
        }
        assert!(!is_neutral("", 0));
    }
}
