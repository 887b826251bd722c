//! fred, its round-robin pool of multiplexed clients. As shipped.
//!
//! Settings, and why:
//! - The size of the pool is the number of connections of the budget. fred has no default for it; with
//!   its own budget it gets 5, as the example of its documentation.
//! - By default the builder's pool never dials again. A pool in use has to, so this one gets
//!   `ReconnectPolicy::default()`, a constant pause of one second without a limit of tries.
//! - TCP_NODELAY is on, as for every contestant.
//! - All other settings have their defaults: a command is sent again up to three times after a broken
//!   connection, and there is no deadline.
//!
//! Its clients all dial when the pool starts, which is before the turn: in a cold start its dials are
//! not part of the figures.
//!
//! What would make this rival faster: fewer clients. With as many clients as callers each connection
//! carries one command at a time, and the pipelining that fred is made for has nothing to do; its own
//! budget shows that.

use std::sync::Arc;

use fred::prelude::*;
use fred::types::CustomCommand;
use fred::types::config::{ConnectionConfig, TcpConfig};
use tokio::sync::OnceCell;

use super::super::raw::counter;
use super::super::{CallError, Contestant, Echo, ErrorKind as Kind, Reply, Request, RequestKind};
use super::redis_exchange::counted;
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "fred",
    category: Category::AsShipped,
    does_not: &[
        "open connections on demand or close idle ones",
        "have a deadline for a command unless told to",
        "give a caller a session of its own",
        "know which commands must not run twice",
    ],
    single: false,
    safety: Safety {
        check: Some(false),
        deadline: Some(false),
        reset: Some(false),
        bounded: Some(true),
    },
};

/// The size in its documentation.
const OWN_SIZE: usize = 5;

/// One pool for all callers.
pub(super) struct Rival {
    pool: Pool,
    started: Arc<OnceCell<()>>,
}

impl Rival {
    pub(super) fn new(target: &Target, connections: Option<usize>) -> Result<Self, String> {
        let config = Config {
            server: ServerConfig::new_centralized(target.host.clone(), target.address.port()),
            username: target.username.clone(),
            password: target.password.clone(),
            database: u8::try_from(target.database).ok(),
            ..Config::default()
        };
        let mut builder = Builder::from_config(config);
        builder.set_policy(ReconnectPolicy::default());
        builder.set_connection_config(ConnectionConfig {
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        });
        let pool = builder.build_pool(connections.unwrap_or(OWN_SIZE));
        Ok(Self { pool: pool.map_err(|error| error.to_string())?, started: Arc::default() })
    }
}

fn failed(error: Error) -> CallError {
    let kind = match error.kind() {
        ErrorKind::Timeout => Kind::Timeout,
        ErrorKind::Backpressure => Kind::Refused,
        ErrorKind::Auth | ErrorKind::Config | ErrorKind::Routing => Kind::Dial,
        ErrorKind::InvalidCommand
        | ErrorKind::InvalidArgument
        | ErrorKind::Parse
        | ErrorKind::NotFound
        | ErrorKind::Unknown => Kind::Wrong,
        _ => Kind::Broken,
    };
    CallError::new(kind, error)
}

/// A command by its name. The features of fred that hold the typed commands stay off.
fn command(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, None::<u16>, false)
}

impl Contestant for Rival {
    type Caller = Pool;

    async fn caller(&self) -> Result<Pool, String> {
        let start =
            || async { self.pool.init().await.map(drop).map_err(|error| error.to_string()) };
        self.started.get_or_try_init(start).await?;
        Ok(self.pool.clone())
    }

    async fn call(pool: &mut Pool, request: &Request) -> Result<Reply, CallError> {
        let echo = match request.kind {
            RequestKind::Read => {
                let arguments = vec![request.nonce.as_str()];
                let answer: String =
                    pool.custom(command("ECHO"), arguments).await.map_err(failed)?;
                Echo::check(true, request.nonce, answer.as_bytes())
            }
            RequestKind::Write => {
                let arguments = vec![Value::Bytes(counter(request.nonce).into())];
                counted(pool.custom(command("INCR"), arguments).await.map_err(failed)?)
            }
        };
        Ok(Reply::new(echo))
    }

    async fn close(&self) {
        // It fails only when there is no connection on which to send it.
        drop(self.pool.quit().await);
    }
}
