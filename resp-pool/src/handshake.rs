//! What is said before the first request.

use crate::{
    command::cmd,
    connection::Connection,
    error::{Error, ProtocolError},
    key::Protocol,
    pipeline::Pipeline,
    session::Session,
    value::{ServerError, Value},
};

impl Connection {
    /// Credentials, protocol, name and database in one write.
    pub(crate) async fn handshake(&mut self) -> Result<(), Error> {
        let key = self.key().clone();
        let mut greeting = Pipeline::new();
        match key.protocol() {
            Protocol::Resp3 => {
                let mut hello = cmd("HELLO").arg(3);
                if let Some(password) = key.password() {
                    let user = key.username().unwrap_or("default");
                    hello = hello.arg("AUTH").arg(user).arg(password.expose());
                }
                hello = hello.arg(key.client_name().map(|name| ("SETNAME", name)));
                greeting.add(&hello);
            }
            Protocol::Resp2 => {
                if let Some(password) = key.password() {
                    greeting.add(&cmd("AUTH").arg(key.username()).arg(password.expose()));
                }
                if let Some(name) = key.client_name() {
                    greeting.add(&["CLIENT", "SETNAME", name]);
                }
            }
        }
        if key.database() != 0 {
            greeting.add(&cmd("SELECT").arg(key.database()));
        }
        if greeting.is_empty() {
            return Ok(());
        }
        let replies = self.pipeline(&greeting).await?;
        for reply in &replies {
            if let Value::Error(error) = reply {
                return Err(Error::Server(self.without_secrets(error)));
            }
        }
        if key.protocol() == Protocol::Resp3 && !matches!(replies.first(), Some(Value::Map(_))) {
            return Err(Error::Protocol(ProtocolError::Unsolicited));
        }
        // What the handshake changed is what the key asks for.
        self.session = Session::new(key.database());
        Ok(())
    }

    /// Servers before Redis 6 answer an unknown `HELLO` by repeating its arguments.
    fn without_secrets(&self, error: &ServerError) -> ServerError {
        let secret = self.key().password().map_or("", |password| password.expose());
        if secret.is_empty() || !error.to_string().contains(secret) {
            return error.clone();
        }
        let line = format!(
            "{} the handshake was refused (the server's text repeats the password)",
            error.code()
        );
        if line.contains(secret) {
            ServerError::from_line(b"ERR")
        } else {
            ServerError::from_line(line.as_bytes())
        }
    }
}
