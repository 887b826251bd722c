//! Decoding takes no more memory than `max_memory` counts for it.

use std::{fmt::Write as _, io::Write as _};

use allocation_counter::measure;
use bytes::Bytes;
use resp_pool::{Limits, Scanner, ServerError, decode};

/// Elements of each reply: just more than make a hash table of the decoder double, and a list of its.
const COUNTS: [usize; 2] = [114_700, 80_650];

/// Replies with `count` elements, and what each of them counts for.
fn replies(count: usize) -> Vec<(&'static str, Vec<u8>, usize)> {
    let each = |header: String, element: &dyn Fn(usize) -> String, times: usize| {
        let mut reply = header;
        for number in 0..times {
            reply += &element(number);
        }
        reply
    };
    let word = |number: usize| {
        let mut word = String::new();
        let text = number.to_string();
        write!(word, "${}\r\n{text}\r\n", text.len()).expect("a string takes everything");
        word
    };
    let (list, set) = (Limits::LIST_ELEMENT, Limits::SET_ELEMENT);
    let text = [
        ("integers", each(format!("*{count}\r\n"), &|_| ":7\r\n".to_owned(), count), list),
        ("strings", each(format!("*{count}\r\n"), &word, count), list),
        ("doubles", each(format!("*{count}\r\n"), &|_| ",1.5\r\n".to_owned(), count), list),
        (
            "lists of one",
            each(format!("*{}\r\n", count / 2), &|_| "*1\r\n:7\r\n".to_owned(), count / 2),
            list,
        ),
        (
            "lists of one in RESP3",
            each(format!("*{}\r\n", count / 2), &|_| "*1\r\n,7\r\n".to_owned(), count / 2),
            list,
        ),
        ("a push", each(format!(">{count}\r\n"), &word, count), list),
        ("a set", each(format!("~{count}\r\n"), &word, count), set),
        ("a map", each(format!("%{}\r\n", count / 2), &|n| word(n) + ":1\r\n", count / 2), set),
        (
            "maps of one",
            each(format!("%{}\r\n", count / 4), &|n| word(n) + "%1\r\n+a\r\n:1\r\n", count / 4),
            set,
        ),
        (
            "sets of one",
            each(format!("*{}\r\n", count / 2), &|_| "~1\r\n+a\r\n".to_owned(), count / 2),
            set,
        ),
    ];
    text.map(|(name, reply, cost)| (name, reply.into_bytes(), cost)).into()
}

/// Lists of errors, a few long ones and many short ones, with bytes that are UTF-8 and that are not.
fn errors() -> Vec<(&'static str, usize, Vec<u8>, usize)> {
    let list = |count: usize, text: &[u8], is_bulk: bool| {
        let header = if is_bulk { format!("!{}\r\n", text.len()) } else { "-".to_owned() };
        let element = [header.as_bytes(), text, b"\r\n"].concat();
        [format!("*{count}\r\n").as_bytes(), &element.repeat(count)].concat()
    };
    let (long, longer) = (ServerError::KEPT, 2 * ServerError::KEPT);
    let mut errors = Vec::new();
    for (name, count, length) in [
        ("short errors", 20_170, 6),
        ("errors", 1_000, 1_000),
        ("long errors", 20, long),
        ("errors that are cut", 20, longer),
        ("a long error", 1, long),
    ] {
        let cost = Limits::LIST_ELEMENT + 3 * length.min(long);
        for byte in [b'x', 0xff] {
            for is_bulk in [false, true] {
                errors.push((name, count, list(count, &vec![byte; length], is_bulk), cost));
            }
        }
    }
    errors
}

#[test]
fn decoding_takes_no_more_memory_than_is_counted() {
    let mut over = Vec::new();
    let replies = COUNTS.into_iter().flat_map(|count| {
        replies(count).into_iter().map(move |(name, reply, cost)| (name, count, reply, cost))
    });
    for (name, count, reply, cost) in replies.chain(errors()) {
        let bytes = Bytes::from(reply);
        let scan = |max_memory| {
            let limits = Limits { max_memory, ..Limits::default() };
            Scanner::new(limits).scan(&bytes)
        };
        let mut kept = None;
        let used = measure(|| {
            let frame = scan(count * cost).expect("within what the documentation says");
            kept = Some(decode(&bytes, frame.expect("whole")).expect("decoded"));
        });
        let used = used.bytes_max as usize;
        let _ = writeln!(
            std::io::stdout(),
            "{count} {name}: {} bytes of {cost} for each element",
            used / count
        );
        // Whoever allows less than is used gets an error.
        if scan(used - 1).is_ok() {
            over.push(format!("{name}: {used} of {} bytes", count * cost));
        }
    }
    assert!(over.is_empty(), "{over:?}");
}
