//! rustis, one multiplexed client for all callers. As shipped.
//!
//! Settings, and why:
//! - The defaults of the client: it dials again by itself, a dial takes at most 10 seconds, commands
//!   have no deadline and are not sent again after an error.
//! - The client is dialed with the first request, so that its dial is inside the turn as for the
//!   others, and shared by cloning, as its documentation says. Its pool is bb8 with its own manager,
//!   which bb8-redis stands for here.
//!
//! What would make this rival faster: a second client, with callers spread over both.

use std::sync::Arc;

use rustis::client::{Client, Config, ServerConfig};
use rustis::commands::{ConnectionCommands, StringCommands};
use rustis::{ClientError, Error, ErrorKind as RustisKind};
use tokio::sync::OnceCell;

use super::super::raw::counter;
use super::super::{CallError, Contestant, Counts, Echo, ErrorKind, Reply, Request, RequestKind};
use super::redis_exchange::counted;
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "rustis",
    category: Category::AsShipped,
    does_not: &[
        "have a deadline for a command unless told to",
        "give a caller a session of its own",
        "open a second connection",
        "check a connection",
    ],
    single: true,
    safety: Safety {
        check: Some(false),
        deadline: Some(false),
        reset: Some(false),
        bounded: Some(true),
    },
};

/// One client for all callers.
pub(super) struct Rival {
    shared: Arc<Shared>,
}

/// The data with which a caller dials, until one has connected.
pub(super) struct Shared {
    config: Config,
    client: OnceCell<Client>,
}

/// One caller, with its handle on the client once there is one.
pub(super) struct Caller {
    shared: Arc<Shared>,
    client: Option<Client>,
}

impl Rival {
    pub(super) fn new(target: &Target) -> Self {
        let mut config = Config::default();
        config.server =
            ServerConfig::Standalone { host: target.host.clone(), port: target.address.port() };
        config.username.clone_from(&target.username);
        config.password.clone_from(&target.password);
        config.database = target.database as usize;
        Self { shared: Arc::new(Shared { config, client: OnceCell::new() }) }
    }
}

impl Shared {
    async fn client(&self) -> Result<Client, CallError> {
        let dial = || Client::connect(self.config.clone());
        self.client.get_or_try_init(dial).await.cloned().map_err(CallError::dial)
    }
}

fn failed(error: Error) -> CallError {
    let kind = match error.kind() {
        RustisKind::Timeout(_) => ErrorKind::Timeout,
        RustisKind::Client(ClientError::SendQueueFull) => ErrorKind::Refused,
        RustisKind::Redis(_) => ErrorKind::Wrong,
        _ => ErrorKind::Broken,
    };
    CallError::new(kind, error)
}

impl Contestant for Rival {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(Caller { shared: Arc::clone(&self.shared), client: None })
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let client = match &mut caller.client {
            Some(client) => &*client,
            none => &*none.insert(caller.shared.client().await?),
        };
        let echo = match request.kind {
            RequestKind::Read => {
                let answer: String = client.echo(request.nonce.as_str()).await.map_err(failed)?;
                Echo::check(true, request.nonce, answer.as_bytes())
            }
            RequestKind::Write => {
                let key = String::from_utf8(counter(request.nonce)).expect("digits are UTF-8");
                counted(client.incr(key).await.map_err(failed)?)
            }
        };
        Ok(Reply::new(echo))
    }

    fn counts(&self) -> Counts {
        // The client counts its reconnections, but not its failed dials.
        let again = self.shared.client.get().map(|client| 1 + client.stats().reconnections);
        Counts { opened: Some(again.unwrap_or(0)), waits: None, dials: None }
    }
}
