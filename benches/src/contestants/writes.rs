//! Requests that must not run twice, in front of a server of the user's: whether it takes them, and
//! nothing of them is left there.

use std::time::{Duration, Instant};

use resp_pool::Client;

use super::raw::{PROBE_TIMEOUT, RawSocket, Template, counter};
use super::{Request, RequestKind, http2_raw, resp};
use crate::error::BenchError;
use crate::names::Protocol;
use crate::nonce::{self, Nonce};
use crate::run::load::Load;
use crate::run::turn::Turn;
use crate::target::Target;

/// Removing the counters of a turn takes no longer.
const FORGET_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys that one `DEL` removes.
const KEYS: usize = 500;

/// Sends one request that must not run twice. Its run is drawn for it: another process may send such a
/// request to the same server now.
///
/// # Errors
/// Why the server takes none: it refuses them, or answers them otherwise than those that may.
pub async fn probe_writes(target: &Target, template: &Template) -> Result<(), String> {
    let nonce = Nonce::new(nonce::first_run(), 0);
    let work = async {
        match target.protocol {
            Protocol::Http2 => http2_raw::probe_write(target, template).await,
            Protocol::Http1 | Protocol::Resp | Protocol::Framed => {
                let opened = RawSocket::open(target, template).await;
                let mut socket = opened.map_err(|error| error.to_string())?;
                let request = Request { nonce, started: Instant::now(), kind: RequestKind::Write };
                let reply = socket.exchange(&request).await;
                reply.map(drop).map_err(|error| error.text)
            }
        }
    };
    match tokio::time::timeout(PROBE_TIMEOUT, work).await {
        Ok(result) => result?,
        Err(_) => return Err(format!("no answer within {PROBE_TIMEOUT:?}")),
    }
    if target.protocol == Protocol::Resp {
        forget(target, [counter(nonce)].into_iter()).await?;
    }
    Ok(())
}

/// Removes the counters that a turn has left in a Redis of the user's.
///
/// # Errors
/// [`BenchError::Target`] when they cannot be removed.
pub async fn forget_writes(target: &Target, load: &Load, turn: &Turn) -> Result<(), BenchError> {
    if target.protocol != Protocol::Resp || turn.writes == 0 {
        return Ok(());
    }
    let writes = (0..turn.sequences).filter(|sequence| load.is_write(*sequence));
    let keys = writes.map(|sequence| counter(Nonce::new(load.run, sequence)));
    let work = tokio::time::timeout(FORGET_TIMEOUT, forget(target, keys)).await;
    work.unwrap_or_else(|_| Err(format!("no answer within {FORGET_TIMEOUT:?}"))).map_err(|error| {
        BenchError::Target(format!(
            "the {} keeps counters of this run, keys that begin with poolbench: ({error})",
            target.describe()
        ))
    })
}

async fn forget(target: &Target, mut keys: impl Iterator<Item = Vec<u8>>) -> Result<(), String> {
    let client: Client = resp::client(target, Client::default_policy(), None)?;
    let mut result = Ok(());
    while result.is_ok() {
        let mut command = vec![b"DEL".to_vec()];
        command.extend(keys.by_ref().take(KEYS));
        if command.len() == 1 {
            break;
        }
        let removed: Result<i64, _> = client.query(command.as_slice()).await;
        result = removed.map(drop).map_err(|error| error.to_string());
    }
    client.close().await;
    result
}
