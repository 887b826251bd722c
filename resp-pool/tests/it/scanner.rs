//! The scanner against the decoder it protects: they must agree on where a frame ends, however the
//! bytes arrive.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use resp_pool::{Limits, Scanner, Value, decode};

/// A valid frame of any type, in bytes. Keys of maps and members of sets are strings, as servers
/// send them.
fn frame(resp3: bool) -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-zA-Z0-9 ,.]{0,12}";
    let line =
        move |kind: char| text.prop_map(move |text| format!("{kind}{text}\r\n").into_bytes());
    let bulk = |kind: char| {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(move |bytes| {
            let mut frame = format!("{kind}{}\r\n", bytes.len()).into_bytes();
            frame.extend_from_slice(&bytes);
            frame.extend_from_slice(b"\r\n");
            frame
        })
    };
    let mut scalars: Vec<BoxedStrategy<Vec<u8>>> = vec![
        line('+').boxed(),
        line('-').boxed(),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()).boxed(),
        bulk('$').boxed(),
    ];
    if resp3 {
        scalars.extend([
            Just(b"_\r\n".to_vec()).boxed(),
            any::<bool>()
                .prop_map(|truth| format!("#{}\r\n", if truth { 't' } else { 'f' }).into_bytes())
                .boxed(),
            any::<f64>()
                .prop_filter("a number", |number| number.is_finite())
                .prop_map(|number| format!(",{number:e}\r\n").into_bytes())
                .boxed(),
            Just(b",-inf\r\n".to_vec()).boxed(),
            "-?[0-9]{1,40}".prop_map(|digits| format!("({digits}\r\n").into_bytes()).boxed(),
            "[a-z]{0,9}"
                .prop_map(|text| format!("!{}\r\n{text}\r\n", text.len()).into_bytes())
                .boxed(),
            "[a-z]{0,9}"
                .prop_map(|text| format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes())
                .boxed(),
        ]);
    } else {
        scalars.extend([Just(b"$-1\r\n".to_vec()).boxed(), Just(b"*-1\r\n".to_vec()).boxed()]);
    }
    prop::strategy::Union::new(scalars).prop_recursive(5, 60, 6, move |inner| {
        let array = prop::collection::vec(inner.clone(), 0..6)
            .prop_map(|items| aggregate('*', items.len(), &items));
        if !resp3 {
            return array.boxed();
        }
        let key = "[a-z]{1,8}".prop_map(|key| format!("${}\r\n{key}\r\n", key.len()).into_bytes());
        let entry = (key.clone(), inner.clone()).prop_map(|(key, value)| [key, value].concat());
        let map = prop::collection::vec(entry.clone(), 0..4)
            .prop_map(|entries| aggregate('%', entries.len(), &entries));
        let set =
            prop::collection::vec(key, 0..5).prop_map(|items| aggregate('~', items.len(), &items));
        // The decoder has no place for the attributes of a null.
        let attributed = (prop::collection::vec(entry, 0..3), inner)
            .prop_filter("an attribute before a plain value", |(_, value)| {
                !b"_|".contains(&value[0])
            })
            .prop_map(|(entries, value)| {
                let mut items = aggregate('|', entries.len(), &entries);
                items.extend_from_slice(&value);
                aggregate('*', 1, &[items])
            });
        prop_oneof![array, map, set, attributed].boxed()
    })
}

fn aggregate(kind: char, count: usize, items: &[Vec<u8>]) -> Vec<u8> {
    let mut header = String::new();
    write!(header, "{kind}{count}\r\n").expect("a string takes everything");
    let mut frame = header.into_bytes();
    items.iter().for_each(|item| frame.extend_from_slice(item));
    frame
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![frame(false), frame(true)]
}

/// Where the decoder says the first frame ends.
fn decoder_end(bytes: &[u8], resp3: bool) -> Option<usize> {
    if resp3 {
        redis_protocol::resp3::decode::complete::decode_range(bytes).ok()?.map(|(_, end)| end)
    } else {
        redis_protocol::resp2::decode::decode_range(bytes).ok()?.map(|(_, end)| end)
    }
}

proptest! {
    #[test]
    fn any_split_of_a_valid_frame_finds_the_same_end(
        bytes in any_frame(),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = bytes.clone();
        stream.extend_from_slice(&tail);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let mut scanner = Scanner::new(Limits::default());
        let mut found = None;
        for cut in cuts {
            found = scanner.scan(&stream[..cut]).expect("a valid frame");
            prop_assert_eq!(found.is_some(), cut >= bytes.len());
            if found.is_some() {
                break;
            }
        }
        let found = found.expect("all bytes were there");
        prop_assert_eq!(found.len, bytes.len());
        prop_assert_eq!(decoder_end(&stream, found.resp3), Some(found.len));
    }

    #[test]
    fn whole_frames_decode(bytes in any_frame()) {
        let frame = Scanner::new(Limits::default()).scan(&bytes).expect("valid").expect("whole");
        prop_assert!(decode(&Bytes::from(bytes), frame).is_ok());
    }

    #[test]
    fn garbage_neither_panics_nor_disagrees_with_the_decoder(bytes in garbage()) {
        check_against_decoder(&bytes)?;
    }

    #[test]
    fn a_valid_frame_with_wrong_bytes_neither_panics_nor_disagrees(
        bytes in any_frame(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check_against_decoder(&bytes)?;
    }

    #[test]
    fn a_byte_at_a_time_gives_the_same_verdict_as_all_at_once(bytes in garbage()) {
        let at_once = Scanner::new(Limits::default()).scan(&bytes);
        let mut scanner = Scanner::new(Limits::default());
        let mut stepwise = Ok(None);
        for end in 1..=bytes.len() {
            stepwise = scanner.scan(&bytes[..end]);
            if !matches!(stepwise, Ok(None)) {
                break;
            }
        }
        match (at_once, stepwise) {
            (Ok(left), Ok(right)) => prop_assert_eq!(left, right),
            (left, right) => prop_assert_eq!(left.is_err(), right.is_err()),
        }
    }
}

/// Bytes that look a little like the protocol.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "*",
        "$",
        "%",
        "~",
        "|",
        ">",
        "+",
        "-",
        ":",
        ",",
        "#",
        "_",
        "(",
        "=",
        "!",
        ";",
        "\r\n",
        "\r",
        "\n",
        "0",
        "1",
        "2",
        "-1",
        "?",
        "99999999999999999999",
        "t",
        "txt:",
        "inf",
        "a",
        "\u{0}",
        "*1\r\n",
        "$1\r\na\r\n",
        ":1\r\n",
        "%1\r\n",
    ]);
    prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat().into_bytes())
}

/// What the scanner lets pass the decoder either refuses or ends at the same byte, and never waits
/// for more.
fn check_against_decoder(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(Some(frame)) = Scanner::new(Limits::default()).scan(bytes) else {
        return Ok(());
    };
    prop_assert!(frame.len <= bytes.len());
    if frame.kind == resp_pool::ATTRIBUTE {
        return Ok(());
    }
    let whole = &bytes[..frame.len];
    let decoded = if frame.resp3 {
        redis_protocol::resp3::decode::complete::decode_range(whole)
            .map(|found| found.map(|(_, end)| end))
    } else {
        redis_protocol::resp2::decode::decode_range(whole).map(|found| found.map(|(_, end)| end))
    };
    match decoded {
        Ok(end) => prop_assert_eq!(end, Some(frame.len)),
        Err(_) => prop_assert!(decode(&Bytes::copy_from_slice(whole), frame).is_err()),
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_levels_cost_an_error_and_no_stack() {
    for opener in ["*1\r\n", "~1\r\n", "%1\r\n+k\r\n", "|1\r\n+k\r\n"] {
        let bomb = opener.repeat(100_000);
        assert!(Scanner::new(Limits::default()).scan(bomb.as_bytes()).is_err(), "{opener:?}");
    }
}

#[test]
fn the_deepest_allowed_frame_fits_the_stack_of_a_worker_thread() {
    let limits = Limits { max_depth: Limits::DEEPEST, ..Limits::default() };
    // An empty attribute adds a call to the decoder's recursion without adding a level.
    for opener in ["*1\r\n", "%1\r\n+k\r\n", "~1\r\n", "*1\r\n|0\r\n", "%1\r\n+k\r\n|0\r\n"] {
        // The attribute itself needs a level for a moment.
        let levels = Limits::DEEPEST - usize::from(opener.contains('|'));
        let bytes = [opener.repeat(levels), "#t\r\n".to_owned()].concat();
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let deep = thread.spawn(move || {
            let frame = Scanner::new(limits).scan(bytes.as_bytes()).expect("valid").expect("whole");
            decode(&Bytes::from(bytes), frame).map(|value| depth(&value))
        });
        match deep.expect("a thread").join().expect("no overflow") {
            Ok(depth) => assert_eq!(depth, levels, "{opener:?}"),
            Err(error) => assert!(opener.starts_with('~'), "{opener:?}: {error}"),
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + depth(&items[0]),
        Value::Map(entries) => 1 + depth(&entries[0].1),
        _ => 0,
    }
}
