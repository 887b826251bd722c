//! Faulty servers: the comparison fails, and its message names the contestant and the fault.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::run;

/// `ECHO` with a nonce, as every contestant sends it.
const REQUEST: usize = "*2\r\n$4\r\nECHO\r\n$16\r\n0000000000000000\r\n".len();
/// The position of the nonce in it.
const NONCE: std::ops::Range<usize> = REQUEST - 18..REQUEST - 2;

/// A server that answers each `ECHO` as `answer` makes it from the number of the request and its
/// nonce; without an answer it closes the connection.
fn server(answer: fn(u32, &[u8]) -> Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || serve(stream, &count, answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, count: &AtomicU32, answer: fn(u32, &[u8]) -> Option<Vec<u8>>) {
    let mut request = [0; REQUEST];
    while stream.read_exact(&mut request).is_ok() {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let Some(nonce) = answer(number, &request[NONCE]) else { return };
        let reply = [b"$16\r\n", &nonce[..], b"\r\n"].concat();
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

#[test]
fn a_reply_that_is_anothers_fails_the_comparison() {
    // Right at first, so that the probe succeeds; then the reply to another request.
    let address = server(|number, nonce| {
        Some(if number > 0 { b"ffffffffffffffff".to_vec() } else { nonce.to_vec() })
    });
    let target = format!("redis://{address}");
    let options = ["--contestant", "limit,redigo", "--callers", "2", "--target", &target];
    let ran = run("fault-mismatch", &options);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    for row in ran.rows() {
        assert!(row["mismatches"].as_u64().unwrap() > 0, "{row:#}");
    }
    assert!(ran.stdout.contains("!!! THE COMPARISON FAILED !!!"), "{}", ran.stdout);
    assert!(ran.stdout.contains("resp steady: redigo: "), "{}", ran.stdout);
    let warnings = ran.results["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|line| line.as_str().unwrap().contains("not their request's")));
}

#[test]
fn a_contestant_without_a_single_reply_broke() {
    // The probe is answered, nothing else is.
    let address = server(|number, nonce| (number == 0).then(|| nonce.to_vec()));
    let target = format!("redis://{address}");
    let options = ["--contestant", "limit,redigo", "--callers", "2", "--target", &target];
    let ran = run("fault-broke", &options);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    for row in ran.rows() {
        assert!(row["broke"].is_string(), "{row:#}");
        assert!(row["errors"].as_u64().unwrap() > 0, "{row:#}");
        for unmeasured in ["throughput_per_s", "cpu_us_per_request", "latency_us", "mismatches"] {
            assert!(row[unmeasured].is_null(), "{unmeasured} of {row:#}");
        }
    }
    assert!(ran.stdout.contains("broke"), "{}", ran.stdout);
}

#[test]
fn failures_are_counted_apart_and_never_as_replies() {
    let address = server(|number, nonce| number.is_multiple_of(2).then(|| nonce.to_vec()));
    let target = format!("redis://{address}");
    let options = ["--contestant", "no-pool,redigo", "--callers", "2", "--target", &target];
    let ran = run("fault-errors", &options);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for row in ran.rows() {
        assert_eq!(row["mismatches"], 0, "{row:#}");
        assert!(row["first_error"].is_string(), "{row:#}");
    }
}

#[test]
fn a_limit_that_breaks_is_named_and_nothing_is_compared_with_it() {
    let address = server(|number, nonce| {
        let longer = [nonce, &b"longer"[..]].concat();
        Some(if number % 10 == 9 { longer } else { nonce.to_vec() })
    });
    let target = format!("redis://{address}");
    let options = ["--contestant", "limit,redigo", "--callers", "2", "--target", &target];
    let ran = run("fault-limit", &options);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    let [limit, redigo] = ran.rows() else { panic!("{}", ran.all()) };
    assert!(limit["broke"].as_str().unwrap().contains("requests failed"), "{limit:#}");
    assert!(limit["requests"].as_u64().unwrap() > 0, "{limit:#}");
    assert!(redigo["vs_limit"].is_null(), "{redigo:#}");
    assert!(redigo["vs_limit_missing"].as_str().unwrap().contains("limit broke"), "{redigo:#}");
    for words in ["no ratios to the limit: limit broke", "limit: broke: "] {
        assert!(ran.stdout.contains(words), "{}", ran.stdout);
    }
}
