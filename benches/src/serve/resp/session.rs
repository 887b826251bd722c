//! One connection's session, and the commands that read and change it.

use std::sync::Arc;

use bytes::Bytes;

use super::reply::{self, Version};
use super::store::{DATABASES, Place, Store};
use super::subscriptions::{Kind, Subscriptions};
use crate::contestants::COUNTER;
use crate::serve::oracle::OpenSocket;

/// Commands that a transaction may queue, and keys that may be watched.
const MAX_LIST: usize = 1024;

/// The session of a connection.
pub(super) struct Session {
    id: u64,
    store: Arc<Store>,
    version: Version,
    database: u32,
    name: Bytes,
    /// The commands of an open transaction.
    queue: Option<Vec<Vec<Bytes>>>,
    /// A command was refused while queueing: `EXEC` must fail.
    spoiled: bool,
    /// Watched keys with the version they had.
    watched: Vec<(Place, u64)>,
    subscriptions: Subscriptions,
}

impl Session {
    pub(super) fn new(id: u64, store: Arc<Store>) -> Self {
        Self {
            id,
            store,
            version: Version::Two,
            database: 0,
            name: Bytes::new(),
            queue: None,
            spoiled: false,
            watched: Vec::new(),
            subscriptions: Subscriptions::default(),
        }
    }

    /// Carries out one command, appends its reply, and returns whether the connection ends with it.
    pub(super) fn execute(
        &mut self,
        arguments: &[Bytes],
        open: &OpenSocket,
        output: &mut Vec<u8>,
    ) -> bool {
        let Some(name) = arguments.first() else {
            return false;
        };
        // The measured command first; everything else is rare.
        if name.eq_ignore_ascii_case(b"ECHO")
            && let [_, text] = arguments
            && self.queue.is_none()
            && !self.only_listens()
        {
            let close = open.executed(text, false);
            reply::bulk(output, text);
            return close;
        }
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        if self.only_listens() && !allowed_while_listening(&name) {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                name.to_ascii_lowercase()
            );
            reply::error(output, &text);
            return false;
        }
        if self.queue.is_some() && !runs_at_once_in_a_transaction(&name) {
            self.enqueue(&name, arguments, output);
            return false;
        }
        self.run(&name, arguments, open, output)
    }

    fn run(
        &mut self,
        name: &str,
        arguments: &[Bytes],
        open: &OpenSocket,
        output: &mut Vec<u8>,
    ) -> bool {
        match (name, &arguments[1..]) {
            ("PING", []) if self.only_listens() => {
                reply::array(output, 2);
                reply::bulk(output, b"pong");
                reply::bulk(output, b"");
            }
            ("PING", [text]) if self.only_listens() => {
                reply::array(output, 2);
                reply::bulk(output, b"pong");
                reply::bulk(output, text);
            }
            ("PING", []) => reply::simple(output, "PONG"),
            ("PING", [text]) => reply::bulk(output, text),
            ("ECHO", [text]) => {
                open.executed(text, false);
                reply::bulk(output, text);
            }
            ("GET", [key]) => match self.store.get(&self.place(key)) {
                Some(value) => reply::bulk(output, &value),
                None => reply::null(output, self.version),
            },
            ("SET", [key, value]) => {
                if self.store.set(self.place(key), value.clone()) {
                    reply::simple(output, "OK");
                } else {
                    reply::error(output, "OOM command not allowed: too many keys");
                }
            }
            // Each nonce has a separate counter, which the oracle keeps and not the store.
            ("INCR", [key]) if key.starts_with(COUNTER) => {
                let (close, times) = open.counted(&key[COUNTER.len()..], true);
                reply::integer(output, times as i64);
                return close;
            }
            // Any password is right: the command is only the greeting of a dial.
            ("AUTH", [_] | [_, _]) => reply::simple(output, "OK"),
            ("SELECT", [index]) => self.select(index, output),
            ("MULTI", []) => {
                if self.queue.is_some() {
                    reply::error(output, "ERR MULTI calls can not be nested");
                } else {
                    self.queue = Some(Vec::new());
                    reply::simple(output, "OK");
                }
            }
            ("EXEC", []) => self.exec(open, output),
            ("DISCARD", []) => {
                if self.queue.take().is_some() {
                    self.spoiled = false;
                    self.watched.clear();
                    reply::simple(output, "OK");
                } else {
                    reply::error(output, "ERR DISCARD without MULTI");
                }
            }
            ("WATCH", [_, ..]) if self.queue.is_some() => {
                reply::error(output, "ERR WATCH inside MULTI is not allowed");
            }
            ("WATCH", keys @ [_, ..]) => self.watch(keys, output),
            ("UNWATCH", []) => {
                self.watched.clear();
                reply::simple(output, "OK");
            }
            ("SUBSCRIBE", names @ [_, ..]) => {
                self.subscriptions.add(Kind::Channels, names, self.version, output);
            }
            ("PSUBSCRIBE", names @ [_, ..]) => {
                self.subscriptions.add(Kind::Patterns, names, self.version, output);
            }
            ("SSUBSCRIBE", names @ [_, ..]) => {
                self.subscriptions.add(Kind::ShardChannels, names, self.version, output);
            }
            ("UNSUBSCRIBE", names) => {
                self.subscriptions.remove(Kind::Channels, names, self.version, output);
            }
            ("PUNSUBSCRIBE", names) => {
                self.subscriptions.remove(Kind::Patterns, names, self.version, output);
            }
            ("SUNSUBSCRIBE", names) => {
                self.subscriptions.remove(Kind::ShardChannels, names, self.version, output);
            }
            ("HELLO", options) => self.hello(options, output),
            ("CLIENT", [command, rest @ ..]) => self.client(command, rest, output),
            ("RESET", []) => {
                *self = Self::new(self.id, Arc::clone(&self.store));
                reply::simple(output, "RESET");
            }
            ("QUIT", []) => {
                reply::simple(output, "OK");
                return true;
            }
            _ if KNOWN.contains(&name) => reply::error(
                output,
                &format!(
                    "ERR wrong number of arguments for '{}' command",
                    name.to_ascii_lowercase()
                ),
            ),
            _ => reply::error(output, &format!("ERR unknown command '{}'", name.escape_debug())),
        }
        false
    }

    fn place(&self, key: &Bytes) -> Place {
        (self.database, key.clone())
    }

    fn select(&mut self, index: &[u8], output: &mut Vec<u8>) {
        match parse_number(index) {
            Some(database) if database < DATABASES => {
                self.database = database;
                reply::simple(output, "OK");
            }
            Some(_) => reply::error(output, "ERR DB index is out of range"),
            None => reply::error(output, "ERR value is not an integer or out of range"),
        }
    }

    fn enqueue(&mut self, name: &str, arguments: &[Bytes], output: &mut Vec<u8>) {
        let queue = self.queue.as_mut().expect("asked only in a transaction");
        if !KNOWN.contains(&name) {
            self.spoiled = true;
            reply::error(output, &format!("ERR unknown command '{}'", name.escape_debug()));
        } else if queue.len() >= MAX_LIST {
            self.spoiled = true;
            reply::error(output, "ERR too many commands in a transaction");
        } else {
            queue.push(arguments.to_vec());
            reply::simple(output, "QUEUED");
        }
    }

    fn exec(&mut self, open: &OpenSocket, output: &mut Vec<u8>) {
        let Some(queue) = self.queue.take() else {
            reply::error(output, "ERR EXEC without MULTI");
            return;
        };
        let watched = std::mem::take(&mut self.watched);
        if std::mem::take(&mut self.spoiled) {
            reply::error(output, "EXECABORT Transaction discarded because of previous errors.");
        } else if watched.iter().any(|(place, version)| self.store.version(place) != *version) {
            reply::null_array(output, self.version);
        } else {
            reply::array(output, queue.len());
            for arguments in queue {
                let name = String::from_utf8_lossy(&arguments[0]).to_ascii_uppercase();
                self.run(&name, &arguments, open, output);
            }
        }
    }

    fn watch(&mut self, keys: &[Bytes], output: &mut Vec<u8>) {
        if self.watched.len() + keys.len() > MAX_LIST {
            reply::error(output, "ERR too many watched keys");
            return;
        }
        for key in keys {
            let place = self.place(key);
            let version = self.store.version(&place);
            if !self.watched.iter().any(|(watched, _)| *watched == place) {
                self.watched.push((place, version));
            }
        }
        reply::simple(output, "OK");
    }

    fn hello(&mut self, options: &[Bytes], output: &mut Vec<u8>) {
        let version = match options.first().map(|version| &version[..]) {
            None => self.version,
            Some(b"2") => Version::Two,
            Some(b"3") => Version::Three,
            Some(_) => {
                reply::error(output, "NOPROTO unsupported protocol version");
                return;
            }
        };
        let mut options = options.get(1..).unwrap_or_default();
        let mut name = None;
        while let [option, rest @ ..] = options {
            if option.eq_ignore_ascii_case(b"AUTH") && rest.len() >= 2 {
                // Any password is right, as for AUTH.
                options = &rest[2..];
            } else if option.eq_ignore_ascii_case(b"SETNAME") && !rest.is_empty() {
                name = Some(rest[0].clone());
                options = &rest[1..];
            } else {
                reply::error(output, "ERR Syntax error in HELLO option");
                return;
            }
        }
        self.version = version;
        self.name = name.unwrap_or_else(|| self.name.clone());
        reply::map(output, version, 7);
        reply::bulk(output, b"server");
        reply::bulk(output, b"poolbench");
        reply::bulk(output, b"version");
        reply::bulk(output, env!("CARGO_PKG_VERSION").as_bytes());
        reply::bulk(output, b"proto");
        reply::integer(output, if version == Version::Two { 2 } else { 3 });
        reply::bulk(output, b"id");
        reply::integer(output, self.id as i64);
        // Some clients refuse a server that leaves these out.
        reply::bulk(output, b"mode");
        reply::bulk(output, b"standalone");
        reply::bulk(output, b"role");
        reply::bulk(output, b"master");
        reply::bulk(output, b"modules");
        reply::array(output, 0);
    }

    fn client(&mut self, command: &Bytes, arguments: &[Bytes], output: &mut Vec<u8>) {
        let command = String::from_utf8_lossy(command).to_ascii_uppercase();
        match (command.as_str(), arguments) {
            ("SETNAME", [name]) => {
                self.name = name.clone();
                reply::simple(output, "OK");
            }
            ("GETNAME", []) => reply::bulk(output, &self.name),
            ("ID", []) => reply::integer(output, self.id as i64),
            ("SETINFO", [_, _]) | ("NO-EVICT" | "NO-TOUCH", [_]) => reply::simple(output, "OK"),
            ("INFO", []) => {
                let text = self.info();
                reply::bulk(output, text.as_bytes());
            }
            _ => reply::error(output, "ERR unknown CLIENT subcommand or wrong number of arguments"),
        }
    }

    /// The session in the format of redis, by which a client can tell whether it is neutral.
    fn info(&self) -> String {
        let [sub, psub, ssub] = self.subscriptions.counts();
        format!(
            "id={} name={} db={} sub={sub} psub={psub} ssub={ssub} multi={} watch={} resp={}\n",
            self.id,
            String::from_utf8_lossy(&self.name),
            self.database,
            self.queue.as_ref().map_or(-1, |queue| queue.len() as i64),
            self.watched.len(),
            if self.version == Version::Two { 2 } else { 3 },
        )
    }

    /// A RESP2 connection with a subscription accepts only a few commands.
    fn only_listens(&self) -> bool {
        self.version == Version::Two && self.subscriptions.counts() != [0; 3]
    }
}

/// Every command of this server.
const KNOWN: [&str; 23] = [
    "AUTH",
    "PING",
    "ECHO",
    "INCR",
    "GET",
    "SET",
    "SELECT",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "HELLO",
    "CLIENT",
    "RESET",
    "QUIT",
    "INFO",
];

fn allowed_while_listening(name: &str) -> bool {
    name.ends_with("SUBSCRIBE") || matches!(name, "PING" | "QUIT" | "RESET")
}

fn runs_at_once_in_a_transaction(name: &str) -> bool {
    matches!(name, "EXEC" | "DISCARD" | "MULTI" | "WATCH" | "RESET" | "QUIT")
}

fn parse_number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client {
        session: Session,
        open: OpenSocket,
    }

    impl Client {
        fn new(store: &Arc<Store>) -> Self {
            Self {
                session: Session::new(1, Arc::clone(store)),
                open: crate::serve::oracle::Oracle::new().accepted(),
            }
        }

        fn send(&mut self, command: &str) -> String {
            let arguments: Vec<Bytes> =
                command.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            let mut output = Vec::new();
            self.session.execute(&arguments, &self.open, &mut output);
            String::from_utf8(output).unwrap().replace("\r\n", " ").trim_end().to_owned()
        }
    }

    #[test]
    fn a_transaction_queues_and_runs() {
        let mut client = Client::new(&Arc::default());
        assert_eq!(client.send("MULTI"), "+OK");
        assert_eq!(client.send("ECHO x"), "+QUEUED");
        assert_eq!(client.send("MULTI"), "-ERR MULTI calls can not be nested");
        assert_eq!(client.send("EXEC"), "*1 $1 x");
        assert_eq!(client.send("DISCARD"), "-ERR DISCARD without MULTI");
    }

    #[test]
    fn a_watched_key_that_changed_makes_exec_answer_nothing() {
        let store = Arc::default();
        let (mut one, mut two) = (Client::new(&store), Client::new(&store));
        one.send("WATCH key");
        two.send("SET key changed");
        one.send("MULTI");
        assert_eq!(one.send("EXEC"), "*-1");
        one.send("WATCH key");
        one.send("UNWATCH");
        two.send("SET key again");
        one.send("MULTI");
        assert_eq!(one.send("EXEC"), "*0");
    }

    #[test]
    fn databases_are_apart() {
        let mut client = Client::new(&Arc::default());
        client.send("SET key zero");
        assert_eq!(client.send("SELECT 3"), "+OK");
        assert_eq!(client.send("GET key"), "$-1");
        assert_eq!(client.send("SELECT 16"), "-ERR DB index is out of range");
        client.send("SELECT 0");
        assert_eq!(client.send("GET key"), "$4 zero");
    }

    #[test]
    fn a_subscriber_takes_no_other_command_in_resp2_and_all_in_resp3() {
        let mut client = Client::new(&Arc::default());
        assert_eq!(client.send("SUBSCRIBE a"), "*3 $9 subscribe $1 a :1");
        assert!(client.send("ECHO x").starts_with("-ERR Can't execute 'echo'"));
        assert_eq!(client.send("PING"), "*2 $4 pong $0");
        assert_eq!(client.send("UNSUBSCRIBE"), "*3 $11 unsubscribe $1 a :0");
        assert_eq!(client.send("ECHO x"), "$1 x");
        client.send("HELLO 3");
        assert_eq!(client.send("SUBSCRIBE a"), ">3 $9 subscribe $1 a :1");
        assert_eq!(client.send("ECHO x"), "$1 x");
    }

    #[test]
    fn reset_makes_the_session_neutral() {
        let mut client = Client::new(&Arc::default());
        let neutral = client.send("CLIENT INFO");
        for command in
            ["HELLO 3", "SELECT 3", "WATCH a", "SUBSCRIBE b", "CLIENT SETNAME me", "MULTI"]
        {
            assert!(!client.send(command).starts_with('-'), "{command}");
        }
        assert_ne!(client.session.info(), neutral);
        assert_eq!(client.send("RESET"), "+RESET");
        assert_eq!(client.send("CLIENT INFO"), neutral);
    }
}
