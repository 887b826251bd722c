//! Replies that say "wrong server" or "not able": the connection is retired.
//!
//! Such a reply leaves the connection in step, so the borrower can go on with it. But the server
//! behind it is no longer what it was: after a failover the old primary answers every write with
//! `READONLY` on every connection that it already has. So the connection is discarded when its lease ends,
//! whether it was borrowed by a [`Client`](crate::Client) or as a lease, and whatever the retry rule
//! is. The session remembers the reason ([`Session::unfit`](crate::Session::unfit)).

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    connection::Connection,
    effect::Effect,
    value::{ServerError, ServerErrorKind, Value},
};

/// How long a server may answer `LOADING` before the connection is retired. Shorter loads end by
/// themselves on the same server, and dialing anew would only add to its work; after a longer one the
/// name may lead to another server by now.
const LONG_LOADING: Duration = Duration::from_secs(1);

impl Connection {
    /// Looks at a reply; `effect` is that of its command.
    #[inline]
    pub(crate) fn heed(&mut self, effect: Effect, reply: &Value) {
        match reply {
            Value::Error(error) => self.heed_error(error),
            Value::Array(replies) if effect == Effect::Exec => {
                self.loading_since = None;
                for reply in replies {
                    if let Value::Error(error) = reply {
                        self.heed_error(error);
                    }
                }
            }
            _ => self.loading_since = None,
        }
    }

    #[cold]
    fn heed_error(&mut self, error: &ServerError) {
        if error.kind() != ServerErrorKind::Loading {
            self.loading_since = None;
        }
        let reason = match error.kind() {
            ServerErrorKind::ReadOnly => "the server answered READONLY: it is a replica",
            ServerErrorKind::MasterDown => "the server answered MASTERDOWN: it lost its primary",
            ServerErrorKind::MaxClients => "the server has no room for this connection",
            ServerErrorKind::Moved if self.moved_to_itself(error) => {
                "the server answered MOVED with the address that was dialed: it is another node"
            }
            ServerErrorKind::Loading => {
                let since = *self.loading_since.get_or_insert_with(Instant::now);
                if since.elapsed() < LONG_LOADING {
                    return;
                }
                "the server answered LOADING for a long time"
            }
            _ => return,
        };
        if self.session.unfit().is_none() {
            tracing::debug!(target: "resp_pool", key = %self.key, reason, "connection retired");
        }
        self.session.set_unfit(reason);
    }

    /// `MOVED slot host:port` with the host and port of the key: the name led to another node than
    /// the one that has the slot now.
    fn moved_to_itself(&self, error: &ServerError) -> bool {
        let address = error.message().rsplit(' ').next().unwrap_or_default();
        address.rsplit_once(':').is_some_and(|(host, port)| {
            host == self.key.host() && port.parse() == Ok(self.key.port())
        })
    }
}
