//! Faults that a server plays on command, seen by raw sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Serving;

/// A wait that no test needs, unless something hangs.
const LONG: Duration = Duration::from_secs(5);
/// A silence long enough to be one.
const SHORT: Duration = Duration::from_millis(150);

/// The control connection of a server.
struct Control(BufReader<TcpStream>);

impl Control {
    fn of(serving: &Serving) -> Self {
        Self(BufReader::new(TcpStream::connect(serving.bound.control).unwrap()))
    }

    fn ask(&mut self, command: &Value) -> Value {
        self.0.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn start(&mut self, protocol: &str) {
        let answer = self.ask(&json!({"op": "start", "protocol": protocol, "run": 1}));
        assert!(answer["counters"].is_object(), "{answer}");
    }

    fn inject(&mut self, protocol: &str, fault: Value) -> u64 {
        let answer = self.ask(&json!({"op": "inject", "protocol": protocol, "fault": fault}));
        assert!(answer["injected"]["at_ns"].as_u64().unwrap() > 0, "{answer}");
        answer["injected"]["id"].as_u64().unwrap()
    }

    fn lift(&mut self, protocol: &str, id: u64) {
        let answer = self.ask(&json!({"op": "lift", "protocol": protocol, "id": id}));
        assert_eq!(answer["injected"]["id"], id);
    }

    fn open(&mut self, protocol: &str) -> u64 {
        let answer = self.ask(&json!({"op": "counters", "protocol": protocol}));
        answer["counters"]["open"].as_u64().unwrap()
    }

    fn series(&mut self, protocol: &str) -> Value {
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

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, protocol: &str) {
    stream.write_all(exchange_of(protocol).0).unwrap();
}

fn receive(stream: &mut TcpStream, protocol: &str) {
    let wanted = exchange_of(protocol).1;
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, wanted);
}

fn exchange(stream: &mut TcpStream, protocol: &str) -> Duration {
    let began = Instant::now();
    send(stream, protocol);
    receive(stream, protocol);
    began.elapsed()
}

/// Nothing comes for a while.
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SHORT)).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    stream.set_read_timeout(Some(LONG)).unwrap();
}

fn address(serving: &Serving, protocol: &str) -> SocketAddr {
    serving.bound.address(poolbench::names::Protocol::parse(protocol).unwrap()).unwrap()
}

#[test]
fn refused_connections_are_refused_by_the_system_and_let_in_again() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    for protocol in ["http1", "http2", "resp", "framed"] {
        let address = address(&serving, protocol);
        let id = control.inject(protocol, json!({"fault": "refuse"}));
        let deadline = Instant::now() + LONG;
        let error = loop {
            match TcpStream::connect(address) {
                Err(error) => break error,
                Ok(_) => assert!(Instant::now() < deadline, "{protocol} is still let in"),
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{protocol}");
        control.lift(protocol, id);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{protocol} is not let in again");
        }
    }
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
        let deadline = Instant::now() + LONG;
        while control.open(protocol) > 0 {
            assert!(Instant::now() < deadline, "{protocol}: a silent connection is left open");
        }
        control.start(protocol);
        exchange(&mut connect(address(&serving, protocol)), protocol);
    }
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

            // A connection that is in use is not idle.
            let id =
                control.inject(protocol, json!({"fault": "cut-idle", "after_ms": 200, "how": how}));
            let mut stream = connect(address(&serving, protocol));
            for _ in 0..6 {
                std::thread::sleep(Duration::from_millis(50));
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
fn one_in_so_many_stalls_and_one_of_two_backends_is_slow() {
    let serving = Serving::start(&[]);
    let mut control = Control::of(&serving);
    control.start("resp");
    let mut streams: Vec<_> = (0..4).map(|_| connect(address(&serving, "resp"))).collect();
    for stream in &mut streams {
        exchange(stream, "resp");
    }
    let slow = |streams: &mut Vec<TcpStream>| -> Vec<bool> {
        let late = Duration::from_millis(60);
        streams.iter_mut().map(|stream| exchange(stream, "resp") >= late).collect()
    };
    let id = control.inject("resp", json!({"fault": "stall-one", "of": 4, "ms": 60}));
    assert_eq!(slow(&mut streams), [true, false, false, false]);
    control.lift("resp", id);
    control.inject("resp", json!({"fault": "slow-backend", "ms": 60}));
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

/// A redis-server of the test's own.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (test.sh installs it)");
        let redis = Self { child, port };
        let deadline = Instant::now() + LONG;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_relay_lets_a_real_server_feel_faults() {
    let redis = Redis::start();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let serving = Serving::start(&["--relay", &url]);
    let relay = serving.bound.relay.unwrap();
    let mut control = Control::of(&serving);
    control.start("resp");
    let mut stream = connect(relay);
    exchange(&mut stream, "resp");
    let id = control.inject("resp", json!({"fault": "silence", "who": "all"}));
    send(&mut stream, "resp");
    assert_silent(&mut stream);
    control.lift("resp", id);
    receive(&mut stream, "resp");
    let id = control.inject("resp", json!({"fault": "slow-dial", "ms": 60}));
    let began = Instant::now();
    exchange(&mut connect(relay), "resp");
    assert!(began.elapsed() >= Duration::from_millis(60));
    control.lift("resp", id);
    control.inject("resp", json!({"fault": "cut", "how": "rst"}));
    assert!(stream.read(&mut [0; 1]).is_err());
    assert_eq!(
        control.series("resp")["accepted"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_u64)
            .sum::<u64>(),
        2
    );
}
