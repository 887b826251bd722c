//! Faults that a server plays on command, seen by raw sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Serving;

/// Longer than any test waits, unless something hangs.
pub(crate) const LONG: Duration = Duration::from_secs(5);
/// Time enough to see that a connection is silent.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

/// The control connection of a server.
pub(crate) struct Control(BufReader<TcpStream>);

impl Control {
    pub(crate) fn of(serving: &Serving) -> Self {
        Self(BufReader::new(TcpStream::connect(serving.bound.control).unwrap()))
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.0.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn start(&mut self, protocol: &str) {
        let answer = self.ask(&json!({"op": "start", "protocol": protocol, "run": 1}));
        assert!(answer["counters"].is_object(), "{answer}");
    }

    pub(crate) fn inject(&mut self, protocol: &str, fault: Value) -> u64 {
        let answer = self.ask(&json!({"op": "inject", "protocol": protocol, "fault": fault}));
        assert!(answer["injected"]["at_ns"].as_u64().unwrap() > 0, "{answer}");
        answer["injected"]["id"].as_u64().unwrap()
    }

    pub(crate) fn lift(&mut self, protocol: &str, id: u64) {
        let answer = self.ask(&json!({"op": "lift", "protocol": protocol, "id": id}));
        assert_eq!(answer["injected"]["id"], id);
    }

    pub(crate) fn open(&mut self, protocol: &str) -> u64 {
        let answer = self.ask(&json!({"op": "counters", "protocol": protocol}));
        answer["counters"]["open"].as_u64().unwrap()
    }

    /// Waits until the server counts no open connection.
    pub(crate) fn none_open(&mut self, protocol: &str) {
        let deadline = Instant::now() + LONG;
        while self.open(protocol) > 0 {
            assert!(Instant::now() < deadline, "{protocol}: a connection is left open");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn series(&mut self, protocol: &str) -> Value {
        self.ask(&json!({"op": "series", "protocol": protocol}))["series"].clone()
    }
}

/// The bytes of a request and of its reply, for the protocols that are written easily.
fn exchange_of(protocol: &str) -> (&'static [u8], &'static [u8]) {
    match protocol {
        "http1" => (
            b"GET / HTTP/1.1\r\nhost: x\r\nx-nonce: 0000000100000002\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n0000000100000002",
        ),
        "resp" => {
            (b"*2\r\n$4\r\nECHO\r\n$16\r\n0000000100000002\r\n", b"$16\r\n0000000100000002\r\n")
        }
        "framed" => (
            b"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07ab",
            b"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07ab",
        ),
        other => panic!("{other}"),
    }
}

const WRITTEN: [&str; 3] = ["http1", "resp", "framed"];

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

pub(crate) fn send(stream: &mut TcpStream, protocol: &str) {
    stream.write_all(exchange_of(protocol).0).unwrap();
}

pub(crate) fn receive(stream: &mut TcpStream, protocol: &str) {
    let wanted = exchange_of(protocol).1;
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, wanted);
}

pub(crate) fn exchange(stream: &mut TcpStream, protocol: &str) -> Duration {
    let began = Instant::now();
    send(stream, protocol);
    receive(stream, protocol);
    began.elapsed()
}

/// Nothing comes for a while.
pub(crate) fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SHORT)).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    stream.set_read_timeout(Some(LONG)).unwrap();
}

pub(crate) fn address(serving: &Serving, protocol: &str) -> SocketAddr {
    serving.bound.address(poolbench::names::Protocol::parse(protocol).unwrap()).unwrap()
}

#[test]
fn refused_connections_are_refused_by_the_system_and_let_in_again() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    for protocol in ["http1", "http2", "resp", "framed"] {
        let address = address(&serving, protocol);
        for _ in 0..20 {
            // In force when the server has answered, and so is the end.
            let id = control.inject(protocol, json!({"fault": "refuse"}));
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{protocol}");
            control.lift(protocol, id);
            TcpStream::connect(address).unwrap();
        }
        control.inject(protocol, json!({"fault": "refuse"}));
        control.start(protocol);
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn connections_that_are_open_live_on_while_new_ones_are_refused() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    let mut stream = connect(address(&serving, "resp"));
    exchange(&mut stream, "resp");
    let id = control.inject("resp", json!({"fault": "refuse"}));
    exchange(&mut stream, "resp");
    control.lift("resp", id);
    exchange(&mut stream, "resp");
}

#[test]
fn late_replies_and_greetings_come_late_and_whole() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    for protocol in WRITTEN {
        let mut stream = connect(address(&serving, protocol));
        exchange(&mut stream, protocol);
        let late = Duration::from_millis(60);
        let id = control.inject(protocol, json!({"fault": "slow-replies", "ms": 60}));
        assert!(exchange(&mut stream, protocol) >= late, "{protocol}");
        // Requests behind each other are late together, not one after the other.
        let began = Instant::now();
        for _ in 0..20 {
            send(&mut stream, protocol);
        }
        for _ in 0..20 {
            receive(&mut stream, protocol);
        }
        assert!(began.elapsed() < late * 20, "{protocol}: {:?}", began.elapsed());
        control.lift(protocol, id);

        let id = control.inject(protocol, json!({"fault": "slow-dial", "ms": 60}));
        let began = Instant::now();
        let mut new = connect(address(&serving, protocol));
        exchange(&mut new, protocol);
        assert!(began.elapsed() >= late, "{protocol}");
        control.lift(protocol, id);
        exchange(&mut stream, protocol);
    }
}

#[test]
fn silence_is_for_those_it_names_and_ends() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    for protocol in WRITTEN {
        let mut old = connect(address(&serving, protocol));
        exchange(&mut old, protocol);
        let id = control.inject(protocol, json!({"fault": "silence", "who": "old"}));
        send(&mut old, protocol);
        assert_silent(&mut old);
        let mut new = connect(address(&serving, protocol));
        exchange(&mut new, protocol);
        control.lift(protocol, id);
        receive(&mut old, protocol);

        control.inject(protocol, json!({"fault": "silence", "who": "all"}));
        send(&mut new, protocol);
        assert_silent(&mut new);
        // A client that leaves is noticed all the same.
        drop((old, new));
        control.none_open(protocol);
        control.start(protocol);
        exchange(&mut connect(address(&serving, protocol)), protocol);
    }
}

/// As a client does after a silence in which its callers gave up, and then it breaks the protocol. The h2 crate
/// ends such a connection, and repeats the error each time the server asks for the next request.
#[test]
fn an_http2_client_that_breaks_the_protocol_does_not_stop_the_server() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    let mut stream = connect(address(&serving, "http2"));
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for id in (1_u32..1000).step_by(2) {
        // GET, http, / and an authority; then CANCEL.
        bytes.extend_from_slice(b"\0\0\x06\x01\x05");
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(b"\x82\x86\x84\x41\x01x\0\0\x04\x03\0");
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 8]);
    }
    // Data that belongs to no request.
    bytes.extend_from_slice(&[0; 9]);
    stream.write_all(&bytes).unwrap();
    // The server ends it, and goes on.
    control.none_open("http2");
    drop(stream);
}

#[test]
fn cuts_end_connections_as_asked() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    for protocol in WRITTEN {
        for (how, clean) in [("fin", true), ("rst", false)] {
            let mut stream = connect(address(&serving, protocol));
            exchange(&mut stream, protocol);
            control.inject(protocol, json!({"fault": "cut", "how": how}));
            let read = stream.read(&mut [0; 1]);
            assert_eq!(read.is_ok_and(|count| count == 0), clean, "{protocol} {how}");

            // A connection that is in use is not idle. Its pauses are far below the limit: on a busy
            // machine they are longer than asked for.
            let id =
                control.inject(protocol, json!({"fault": "cut-idle", "after_ms": 500, "how": how}));
            let mut stream = connect(address(&serving, protocol));
            for _ in 0..6 {
                std::thread::sleep(Duration::from_millis(100));
                exchange(&mut stream, protocol);
            }
            let read = stream.read(&mut [0; 1]);
            assert_eq!(read.is_ok_and(|count| count == 0), clean, "{protocol} {how} idle");
            control.lift(protocol, id);
        }
    }
}

#[test]
fn an_announced_end_comes_with_the_next_reply() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    let mut stream = connect(address(&serving, "http1"));
    exchange(&mut stream, "http1");
    control.inject("http1", json!({"fault": "announce"}));
    send(&mut stream, "http1");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("connection: close\r\n"), "{reply}");
    for protocol in ["resp", "framed"] {
        let mut stream = connect(address(&serving, protocol));
        exchange(&mut stream, protocol);
        control.inject(protocol, json!({"fault": "announce"}));
        exchange(&mut stream, protocol);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{protocol}");
    }
}

#[test]
fn one_of_several_connections_stalls_and_one_of_two_backends_is_slow() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    control.start("resp");
    let mut streams: Vec<_> = (0..4).map(|_| connect(address(&serving, "resp"))).collect();
    for stream in &mut streams {
        exchange(stream, "resp");
    }
    let slow = |streams: &mut Vec<TcpStream>| -> Vec<bool> {
        // Longer than a reply takes on a busy machine.
        let late = Duration::from_millis(400);
        streams.iter_mut().map(|stream| exchange(stream, "resp") >= late).collect()
    };
    let id = control.inject("resp", json!({"fault": "stall-one", "of": 4, "ms": 400}));
    assert_eq!(slow(&mut streams), [true, false, false, false]);
    control.lift("resp", id);
    control.inject("resp", json!({"fault": "slow-backend", "ms": 400}));
    assert_eq!(slow(&mut streams), [false, true, false, true]);

    let series = control.series("resp");
    let sum = |name: &str| -> u64 {
        series[name].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    };
    assert_eq!((sum("accepted"), &series["step_ms"]), (4, &json!(100)));
    let backends = series["backends"].as_array().unwrap();
    let of = |one: usize| -> u64 { backends.iter().filter_map(|step| step[one].as_u64()).sum() };
    assert_eq!((of(0), of(1)), (6, 6));
}

#[test]
fn a_write_that_runs_twice_is_counted() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    control.start("resp");
    let mut stream = connect(address(&serving, "resp"));
    let command = b"*2\r\n$4\r\nINCR\r\n$26\r\npoolbench:0000000100000002\r\n";
    for wanted in [b":1\r\n", b":2\r\n"] {
        stream.write_all(command).unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, wanted);
    }
    let counters = &control.ask(&json!({"op": "counters", "protocol": "resp"}))["counters"];
    assert_eq!((&counters["writes"], &counters["write_duplicates"]), (&json!(2), &json!(1)));
}

#[test]
fn faults_from_the_start_are_named_when_they_are_wrong() {
    let serving = Serving::start(&["--resp", "127.0.0.1:0", "--fault", "slow-replies:60ms"]);
    let mut stream = connect(address(&serving, "resp"));
    assert!(exchange(&mut stream, "resp") >= Duration::from_millis(60));
    let ran = crate::common::plain(&["serve", "--fault", "explode"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("slow-dial:TIME"), "{}", ran.all());
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.all());
}

/// Every way in which a server spreads its connections over tasks.
#[test]
fn every_model_plays_faults() {
    for (protocol, model) in
        [("http1", "workers"), ("framed", "reader-handoff"), ("framed", "separate-writer")]
    {
        let serving = Serving::start(&["--model", model]);
        let mut control = Control::of(&serving);
        let address = address(&serving, protocol);
        let mut stream = connect(address);
        let late = Duration::from_millis(60);
        let id = control.inject(protocol, json!({"fault": "slow-replies", "ms": 60}));
        for _ in 0..3 {
            assert!(exchange(&mut stream, protocol) >= late, "{model}");
        }
        control.inject(protocol, json!({"fault": "announce"}));
        send(&mut stream, protocol);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.is_empty(), "{model}: the last reply comes first");
        control.lift(protocol, id);

        let mut stream = connect(address);
        exchange(&mut stream, protocol);
        let id = control.inject(protocol, json!({"fault": "silence", "who": "old"}));
        send(&mut stream, protocol);
        assert_silent(&mut stream);
        control.lift(protocol, id);
        receive(&mut stream, protocol);
        control.inject(protocol, json!({"fault": "cut", "how": "fin"}));
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{model}");
        control.none_open(protocol);
    }
}

#[test]
fn a_greeting_is_answered_and_is_no_request() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    let greetings: [(&str, &[u8], &[u8]); 3] = [
        ("framed", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 12]),
        ("resp", b"*2\r\n$4\r\nAUTH\r\n$3\r\nany\r\n", b"+OK\r\n"),
        (
            "resp",
            b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$3\r\nany\r\n",
            b"%7\r\n$6\r\nserver\r\n",
        ),
    ];
    for (protocol, sent, wanted) in greetings {
        control.start(protocol);
        control.inject(protocol, json!({"fault": "slow-dial", "ms": 60}));
        let began = Instant::now();
        let mut stream = connect(address(&serving, protocol));
        stream.write_all(sent).unwrap();
        let mut got = vec![0; wanted.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, wanted, "{protocol}");
        assert!(began.elapsed() >= Duration::from_millis(60), "{protocol}");
        let series = control.series(protocol);
        let counted = series["backends"].as_array().unwrap();
        assert!(counted.iter().all(|step| *step == json!([0, 0])), "{series}");
    }
}

#[test]
fn a_post_that_runs_twice_is_counted() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    control.start("http1");
    let mut stream = connect(address(&serving, "http1"));
    let post =
        b"POST / HTTP/1.1\r\nhost: x\r\nx-nonce: 0000000100000002\r\ncontent-length: 2\r\n\r\nab";
    for _ in 0..2 {
        stream.write_all(post).unwrap();
        receive(&mut stream, "http1");
    }
    // A GET of the same nonce is a duplicate, but no write.
    exchange(&mut stream, "http1");
    let counters = &control.ask(&json!({"op": "counters", "protocol": "http1"}))["counters"];
    assert_eq!((&counters["writes"], &counters["write_duplicates"]), (&json!(2), &json!(1)));
    assert_eq!(counters["duplicates"], 2);
}

#[test]
fn a_protocol_that_is_not_served_has_no_faults() {
    let serving = Serving::start(&["--resp", "127.0.0.1:0"]);
    let mut control = Control::of(&serving);
    let fault = json!({"fault": "refuse"});
    let answer = control.ask(&json!({"op": "inject", "protocol": "http1", "fault": fault}));
    assert!(answer["error"].as_str().unwrap().contains("not served"), "{answer}");
}

#[test]
fn a_processor_that_does_not_exist_is_bad_usage() {
    let ran = crate::common::plain(&["serve", "--cpu", "1000", "--resp", "127.0.0.1:0"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.all());
    assert!(ran.stderr.contains("1000") && ran.stderr.contains("may run on 0"), "{}", ran.all());
}
