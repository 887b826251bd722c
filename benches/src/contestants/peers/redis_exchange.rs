//! Shared code of the rivals over redis-rs: the address, the commands, the classification of errors.

use redis::aio::ConnectionLike;
use redis::{
    Client, ConnectionAddr, ErrorKind as RedisErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError,
};

use super::super::raw::counter;
use super::super::{CallError, Echo, ErrorKind, Request, RequestKind};
use crate::target::Target;

/// The address and the login.
pub(super) fn info(target: &Target) -> Result<redis::ConnectionInfo, String> {
    let mut session = RedisConnectionInfo::default().set_db(i64::from(target.database));
    if let Some(username) = &target.username {
        session = session.set_username(username);
    }
    if let Some(password) = &target.password {
        session = session.set_password(password);
    }
    let address = ConnectionAddr::Tcp(target.host.clone(), target.address.port());
    let info = address.into_connection_info().map_err(|error| error.to_string())?;
    // TCP_NODELAY, as for every contestant.
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    Ok(info.set_redis_settings(session).set_tcp_settings(tcp))
}

/// A client, which dials when it is told to.
pub(super) fn client(target: &Target) -> Result<Client, String> {
    Client::open(info(target)?).map_err(|error| error.to_string())
}

/// One command and its reply.
pub(super) async fn exchange<C: ConnectionLike>(
    connection: &mut C,
    request: &Request,
) -> Result<Echo, CallError> {
    match request.kind {
        RequestKind::Read => {
            let mut command = redis::cmd("ECHO");
            command.arg(request.nonce.as_bytes());
            let answer: Vec<u8> = command.query_async(connection).await.map_err(failed)?;
            Ok(Echo::check(true, request.nonce, &answer))
        }
        RequestKind::Write => {
            let mut command = redis::cmd("INCR");
            command.arg(counter(request.nonce));
            let times: i64 = command.query_async(connection).await.map_err(failed)?;
            Ok(counted(times))
        }
    }
}

/// The server counts which requests ran twice; a reply that is no count is of another request.
pub(super) fn counted(times: i64) -> Echo {
    if times >= 1 { Echo::Returned } else { Echo::Wrong }
}

/// A dial that failed, whatever its reason.
pub(super) fn dial_failed(error: RedisError) -> CallError {
    CallError::dial(error)
}

/// A command that failed. A manager that dials by itself reports a refused dial through the failed command.
pub(super) fn failed(error: RedisError) -> CallError {
    let kind = match error.kind() {
        _ if error.is_timeout() => ErrorKind::Timeout,
        _ if error.is_connection_refusal() => ErrorKind::Dial,
        RedisErrorKind::AuthenticationFailed => ErrorKind::Dial,
        RedisErrorKind::Server(_)
        | RedisErrorKind::Extension
        | RedisErrorKind::UnexpectedReturnType => ErrorKind::Wrong,
        _ => ErrorKind::Broken,
    };
    CallError::new(kind, error)
}
