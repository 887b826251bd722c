//! What is said before the first request.

use crate::{
    command::cmd,
    connection::Connection,
    error::{Error, ProtocolError},
    key::Protocol,
    pipeline::Pipeline,
    value::{ServerError, ServerErrorKind, Value},
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
        self.session = self.session.after_handshake();
        Ok(())
    }

    /// Servers before Redis 6 answer an unknown `HELLO` by repeating its arguments, or the first part
    /// of them. So once credentials were sent, only the code of a refusal is kept.
    fn without_secrets(&self, error: &ServerError) -> ServerError {
        let Some(password) = self.key().password() else {
            return error.clone();
        };
        if error.kind() == ServerErrorKind::MaxClients {
            return ServerError::from_line(b"ERR max number of clients reached");
        }
        let code = error.code();
        let plain = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
        let code =
            if plain && code.len() <= 16 && code != password.expose() { code } else { "ERR" };
        let words = "the handshake was refused (the text is withheld, it may repeat the password)";
        ServerError::from_line(format!("{code} {words}").as_bytes())
    }
}
