//! Decoding takes no more memory than `max_memory` counts for it.

use std::{fmt::Write as _, io::Write as _};

use allocation_counter::measure;
use bytes::Bytes;
use resp_pool::{Limits, Scanner, decode};

/// Elements of each reply: just more than make a hash table of the decoder double, and a list of its.
const COUNTS: [usize; 2] = [114_700, 80_650];

/// Replies with `count` elements, and what each of them counts for.
fn replies(count: usize) -> Vec<(&'static str, String, usize)> {
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
    vec![
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
    ]
}

#[test]
fn decoding_takes_no_more_memory_than_is_counted() {
    let mut over = Vec::new();
    for (count, (name, reply, cost)) in COUNTS
        .into_iter()
        .flat_map(|count| replies(count).into_iter().map(move |reply| (count, reply)))
    {
        let bytes = Bytes::from(reply.into_bytes());
        let mut kept = None;
        let used = measure(|| {
            let frame = Scanner::new(Limits::default()).scan(&bytes).expect("valid");
            kept = Some(decode(&bytes, frame.expect("whole")).expect("decoded"));
        });
        let each = used.bytes_max as usize / count;
        let _ =
            writeln!(std::io::stdout(), "{count} {name}: {each} bytes of {cost} for each element");
        if each > cost {
            over.push(format!("{name}: {each} of {cost}"));
        }
    }
    assert!(over.is_empty(), "{over:?}");
}
