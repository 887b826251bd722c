//! The handshake: the commands before the first request.

use crate::{
    command::cmd,
    connection::Connection,
    error::{Error, ProtocolError},
    key::Protocol,
    pipeline::Pipeline,
    value::{ServerError, ServerErrorKind, Value},
};

/// A command of the handshake, for its error.
struct Said {
    command: &'static str,
    /// Its arguments hold the password, so the refusal may repeat it.
    secret: bool,
}

impl Connection {
    /// Credentials, protocol, name and database in one write.
    pub(crate) async fn handshake(&mut self) -> Result<(), Error> {
        let key = self.key().clone();
        let mut greeting = Pipeline::new();
        let mut said = Vec::new();
        let mut say = |command, secret| said.push(Said { command, secret });
        match key.protocol() {
            Protocol::Resp3 => {
                let mut hello = cmd("HELLO").arg(3);
                if let Some(password) = key.password() {
                    let user = key.username().unwrap_or("default");
                    hello = hello.arg("AUTH").arg(user).arg(password.expose());
                }
                hello = hello.arg(key.client_name().map(|name| ("SETNAME", name)));
                greeting.add(&hello);
                say("HELLO", key.password().is_some());
            }
            Protocol::Resp2 => {
                if let Some(password) = key.password() {
                    greeting.add(&cmd("AUTH").arg(key.username()).arg(password.expose()));
                    say("AUTH", true);
                }
                if let Some(name) = key.client_name() {
                    greeting.add(&["CLIENT", "SETNAME", name]);
                    say("CLIENT SETNAME", false);
                }
            }
        }
        if key.database() != 0 {
            greeting.add(&cmd("SELECT").arg(key.database()));
            say("SELECT", false);
        }
        if greeting.is_empty() {
            return Ok(());
        }
        let replies = match self.pipeline(&greeting).await {
            Err(Error::Server(error)) => {
                // Said before it was asked anything, or as its last words to an unknown command.
                let asked = !error.proves_nothing_ran();
                let command = if asked { "a command" } else { "the connection" };
                let said = Said { command, secret: asked && key.password().is_some() };
                return Err(self.refused(&said, &error));
            }
            result => result?,
        };
        for (said, reply) in said.iter().zip(&replies) {
            if let Value::Error(error) = reply {
                return Err(self.refused(said, error));
            }
        }
        if key.protocol() == Protocol::Resp3 && !matches!(replies.first(), Some(Value::Map(_))) {
            return Err(Error::Protocol(ProtocolError::Unsolicited));
        }
        // The handshake changes the session as the key asks.
        self.session = self.session.after_handshake();
        Ok(())
    }

    fn refused(&self, said: &Said, error: &ServerError) -> Error {
        let command = said.command;
        let refusal = match self.key().password() {
            // Other refusals come from the server alone, but a server out of step could put the text
            // for one command under another.
            Some(password) if said.secret || error.repeats(password.expose()) => {
                without_secrets(command, error, password.expose())
            }
            _ if command == "HELLO" && is_unknown(error) => unknown_hello(),
            _ => error.clone(),
        };
        Error::Handshake { command, refusal }
    }
}

/// Servers before Redis 6 answer an unknown `HELLO` by repeating its arguments, or the first part of
/// them. So only texts that are known to be the same for every password are kept, and the code of the
/// others.
fn without_secrets(command: &'static str, error: &ServerError, password: &str) -> ServerError {
    /// Refusals of Redis 2 to 8 that repeat nothing.
    const HARMLESS: &[&str] = &[
        "WRONGPASS invalid username-password pair or user is disabled.",
        "ERR invalid password",
        "ERR max number of clients reached",
        "ERR Client sent AUTH, but no password is set",
        "ERR AUTH <password> called without any password configured for the default user. \
         Are you sure your configuration is correct?",
        "NOPROTO unsupported protocol version",
        "NOPROTO sorry, this protocol version is not supported.",
    ];
    let is_same = |text: &&&str| {
        text.split_once(' ') == Some((error.code(), error.message())) && !text.contains(password)
    };
    if let Some(text) = HARMLESS.iter().find(is_same) {
        return ServerError::from_line(text.as_bytes());
    }
    if command == "HELLO" && is_unknown(error) {
        return unknown_hello();
    }
    if error.kind() == ServerErrorKind::MaxClients {
        return ServerError::from_line(b"ERR max number of clients reached");
    }
    let code = error.code();
    let plain = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let code = if plain && code.len() <= 16 && code != password { code } else { "ERR" };
    let words = "the server's text is withheld, it may repeat the password";
    ServerError::from_line(format!("{code} {words}").as_bytes())
}

fn is_unknown(error: &ServerError) -> bool {
    error.code() == "ERR" && error.message().starts_with("unknown command")
}

/// Our own text, which tells what to do. The text of the server may repeat the password.
fn unknown_hello() -> ServerError {
    ServerError::from_line(
        b"ERR unknown command HELLO: the server is older than Redis 6 and speaks RESP2 only; \
          use protocol=2",
    )
}
