//! The relay in front of real servers: it plays faults on their connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pool_common::testing::servers::{NghttpdServer, NginxServer, RedisServer};
use serde_json::{Value, json};

use crate::common::{Serving, plain};
use crate::events::{Control, assert_silent, connect};

/// How to talk to a server.
#[derive(Clone, Copy)]
struct Talk {
    protocol: &'static str,
    scheme: &'static str,
    /// The first bytes of a client on a connection.
    preface: &'static [u8],
    request: &'static [u8],
    /// How the reply ends.
    reply: &'static [u8],
}

const REDIS: Talk = Talk {
    protocol: "resp",
    scheme: "redis",
    preface: b"",
    request: b"PING\r\n",
    reply: b"+PONG\r\n",
};
const NGINX: Talk = Talk {
    protocol: "http1",
    scheme: "http",
    preface: b"",
    request: b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    reply: b"hello",
};
/// A ping is the shortest exchange: the reply has the bytes of the request.
const NGHTTPD: Talk = Talk {
    protocol: "http2",
    scheme: "h2c",
    preface: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    request: b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
    reply: b"\x00\x00\x08\x06\x01\x00\x00\x00\x0012345678",
};

impl Talk {
    fn dial(self, address: SocketAddr) -> TcpStream {
        let mut stream = connect(address);
        stream.write_all(self.preface).unwrap();
        self.exchange(&mut stream);
        stream
    }

    fn exchange(self, stream: &mut TcpStream) {
        stream.write_all(self.request).unwrap();
        self.receive(stream);
    }

    fn receive(self, stream: &mut TcpStream) {
        let mut got = Vec::new();
        while !got.ends_with(self.reply) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            got.extend(byte);
        }
    }
}

/// Plays every fault of connections in front of the server at `upstream`.
fn feels_faults(talk: Talk, upstream: SocketAddr) {
    let serving = Serving::start(&["--relay", &format!("{}://{upstream}", talk.scheme)]);
    let relay = serving.bound.relay.unwrap();
    let mut control = Control::of(&serving);
    let protocol = talk.protocol;
    control.start(protocol);
    let mut stream = talk.dial(relay);

    let id = control.inject(protocol, json!({"fault": "refuse"}));
    let error = TcpStream::connect(relay).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    talk.exchange(&mut stream);
    control.lift(protocol, id);

    let id = control.inject(protocol, json!({"fault": "silence", "who": "old"}));
    stream.write_all(talk.request).unwrap();
    assert_silent(&mut stream);
    drop(talk.dial(relay));
    control.lift(protocol, id);
    talk.receive(&mut stream);

    let late = Duration::from_millis(60);
    for fault in ["slow-dial", "slow-replies"] {
        let id = control.inject(protocol, json!({"fault": fault, "ms": 60}));
        let began = Instant::now();
        drop(talk.dial(relay));
        assert!(began.elapsed() >= late, "{fault}");
        control.lift(protocol, id);
    }

    control.inject(protocol, json!({"fault": "cut", "how": "rst"}));
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut stream = talk.dial(relay);
    control.inject(protocol, json!({"fault": "cut", "how": "fin"}));
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    let id = control.inject(protocol, json!({"fault": "cut-idle", "after_ms": 400, "how": "fin"}));
    assert_eq!(talk.dial(relay).read(&mut [0; 1]).unwrap(), 0);
    control.lift(protocol, id);

    let mut stream = talk.dial(relay);
    control.inject(protocol, json!({"fault": "silence", "who": "all"}));
    stream.write_all(talk.request).unwrap();
    drop(stream);
    control.none_open(protocol);
    let accepted = control.series(protocol)["accepted"].clone();
    let accepted = accepted.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(accepted, 7);
}

#[test]
fn redis_behind_a_relay_feels_faults() {
    let server = RedisServer::start(&[]);
    feels_faults(REDIS, server.addr());
}

#[test]
fn nginx_behind_a_relay_feels_faults() {
    let server = NginxServer::start(r#"location / { return 200 "hello"; }"#);
    feels_faults(NGINX, server.addr());
}

#[test]
fn nghttpd_behind_a_relay_feels_faults() {
    let server = NghttpdServer::start(&[]);
    feels_faults(NGHTTPD, server.addr());
}

#[test]
fn a_relay_has_no_faults_of_a_protocol() {
    let server = RedisServer::start(&[]);
    let url = format!("redis://{}", server.addr());
    let serving = Serving::start(&["--relay", &url]);
    let mut control = Control::of(&serving);
    let fault = json!({"fault": "announce"});
    let answer = control.ask(&json!({"op": "inject", "protocol": "resp", "fault": fault}));
    assert!(answer["error"].as_str().unwrap().contains("relay"), "{answer}");
    let ran = plain(&["serve", "--relay", &url, "--fault", "max-streams:1"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("1 streams on a connection"), "{}", ran.all());
}

#[test]
fn a_relay_in_front_of_nothing_closes_what_it_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let serving = Serving::start(&["--relay", &url]);
    let mut stream = connect(serving.bound.relay.unwrap());
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    Control::of(&serving).none_open("resp");
}

#[test]
fn a_relay_that_makes_no_sense_is_bad_usage() {
    for (options, word) in [
        (&["--relay", "ftp://127.0.0.1"][..], "--relay"),
        (&["--relay", "redis://127.0.0.1:1", "--resp", "127.0.0.1:0"], "--relay-listen"),
        (&["--relay-listen", "127.0.0.1:0"], "--relay URL"),
    ] {
        let ran = plain(&[&["serve"], options].concat());
        assert_eq!(ran.code, Some(2), "{}", ran.all());
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.all());
        assert!(ran.stderr.contains(word), "{}", ran.all());
    }
}
