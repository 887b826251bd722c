//! The server's oracle against clients that do wrong, and the life of the server's process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::Serving;
use poolbench::nonce::Nonce;
use poolbench::serve::control::Answer;
use poolbench::serve::oracle::Counters;

/// The control connection, as any program may use it.
struct Control(BufReader<TcpStream>);

impl Control {
    fn connect(serving: &Serving) -> Self {
        let stream = TcpStream::connect(serving.bound.control).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, line: &str) -> Answer {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn counters(&mut self, line: &str) -> Counters {
        match self.ask(line) {
            Answer::Counters(counters) => counters,
            other => panic!("{other:?}"),
        }
    }

    /// Asks until the counters are as wanted.
    fn wait_for(&mut self, protocol: &str, wanted: impl Fn(&Counters) -> bool) -> Counters {
        let line = format!(r#"{{"op":"counters","protocol":"{protocol}"}}"#);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let counters = self.counters(&line);
            if wanted(&counters) {
                return counters;
            }
            assert!(std::time::Instant::now() < deadline, "{counters:?}");
            std::thread::yield_now();
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends bytes and reads as many as the answer has.
fn exchange(stream: &mut TcpStream, request: &[u8], answer: usize) -> String {
    stream.write_all(request).unwrap();
    let mut bytes = vec![0; answer];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn echo(nonce: Nonce) -> Vec<u8> {
    format!("*2\r\n$4\r\nECHO\r\n$16\r\n{}\r\n", nonce.as_str()).into_bytes()
}

#[test]
fn a_request_that_is_sent_twice_is_a_duplicate() {
    let serving = Serving::start(&["--resp", "127.0.0.1:0", "--framed", "127.0.0.1:0"]);
    let mut control = Control::connect(&serving);
    control.counters(r#"{"op":"start","protocol":"resp","run":7}"#);
    let mut client = connect(serving.bound.resp.unwrap());
    for sequence in [0, 1, 1] {
        let nonce = Nonce::new(7, sequence);
        assert!(exchange(&mut client, &echo(nonce), 23).contains(nonce.as_str()));
    }
    // A request of another run is answered, and counted as a stranger.
    exchange(&mut client, &echo(Nonce::new(6, 0)), 23);
    let counters = control.counters(r#"{"op":"counters","protocol":"resp"}"#);
    assert_eq!((counters.executed, counters.duplicates, counters.strangers), (3, 1, 1));
    let counters = control.counters(r#"{"op":"counters","protocol":"framed"}"#);
    assert_eq!(counters, Counters::default());
}

#[test]
fn sockets_are_counted_until_they_are_closed() {
    let serving = Serving::start(&["--http1", "127.0.0.1:0"]);
    let mut control = Control::connect(&serving);
    control.counters(r#"{"op":"start","protocol":"http1","run":1}"#);
    let address = serving.bound.http1.unwrap();
    let clients: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    control.wait_for("http1", |counters| counters.open == 3);
    drop(clients);
    let counters = control.wait_for("http1", |counters| counters.open == 0);
    assert_eq!((counters.accepted, counters.high_water), (3, 3));
}

#[test]
fn the_server_closes_after_each_response_when_it_is_told_to() {
    let serving = Serving::start(&[]);
    let mut control = Control::connect(&serving);
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-nonce: 0000000100000000\r\n\r\n";
    control.counters(r#"{"op":"start","protocol":"http1","run":1,"close_after":true}"#);
    let mut client = connect(serving.bound.http1.unwrap());
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("0000000100000000"), "{answer}");
}

#[test]
fn the_worker_pool_refuses_what_is_beyond_its_limit_and_takes_it_later() {
    let serving =
        Serving::start(&["--http1", "127.0.0.1:0", "--model", "workers", "--workers", "1"]);
    let address = serving.bound.http1.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let served = "HTTP/1.1 200 OK";
    let mut first = connect(address);
    assert_eq!(exchange(&mut first, request, served.len()), served);
    let mut second = connect(address);
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop((first, second));
    // The worker parks once it has seen the end of its connection.
    let mut control = Control::connect(&serving);
    control.wait_for("http1", |counters| counters.open == 0);
    let mut third = connect(address);
    let mut answer = [0; 12];
    third.write_all(request).unwrap();
    third.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn nonsense_on_the_control_connection_is_answered() {
    let serving = Serving::start(&["--framed", "127.0.0.1:0"]);
    let mut control = Control::connect(&serving);
    for line in ["nonsense", "{}", r#"{"op":"counters","protocol":"http3"}"#] {
        assert!(matches!(control.ask(line), Answer::Error(_)), "{line}");
    }
    control.counters(r#"{"op":"counters","protocol":"framed"}"#);
}

#[test]
fn the_server_ends_with_its_parent() {
    let mut serving = Serving::start(&["--exit-with-stdin"]);
    let address = serving.bound.resp.unwrap();
    drop(connect(address));
    // This is what happens to the pipe when the parent dies.
    drop(serving.child().stdin.take());
    assert!(serving.child().wait().unwrap().success());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_request_that_the_limit_gave_up_leaves_no_reply_behind() {
    // Every reply comes after its caller has left: callers wait for 500 ms.
    let server = Serving::start(&["--resp", "127.0.0.1:0", "--fault", "slow-replies:600ms"]);
    let target = format!("redis://{}", server.bound.resp.unwrap());
    let out = crate::common::directory("given-up");
    let output = crate::common::program()
        .args(["run", "--quiet", "--target", &target, "--contestant", "limit"])
        .args(["--scenario", "paced", "--rate", "50", "--max-in-flight", "4"])
        .args(["--duration", "1500ms", "--rounds", "1", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = &results["results"][0];
    assert!(row["timeouts"].as_u64().unwrap() > 0, "{output:?}");
    // None was compared: the next request did not read the late reply of the last one.
    assert_eq!(row["mismatches"], serde_json::Value::Null, "{output:?}");
}
