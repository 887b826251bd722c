//! Names on the command line: the protocols, and help for a name that does not exist.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// A protocol that the comparison speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 over TCP: one exchange at a time on a connection.
    Http1,
    /// HTTP/2 with prior knowledge over TCP: many streams on a connection.
    Http2,
    /// The protocol of Redis: one command at a time on a leased connection.
    Resp,
    /// Length-prefixed frames with a request id: the plain TCP template.
    Framed,
}

impl Protocol {
    /// All protocols, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Resp, Self::Framed];

    /// The name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Resp => "resp",
            Self::Framed => "framed",
        }
    }

    /// Whether requests have a method and a path.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2)
    }

    /// The protocol of this name.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for any other name.
    pub fn parse(name: &str) -> Result<Self, BenchError> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
            .ok_or_else(|| unknown("protocol", name, &Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error for a `what` called `name` that is not among `known`: names the known ones, and the one that
/// was probably meant.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> BenchError {
    let meant = known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3.max(name.len() / 3))
        // At least a third of the name has to be right.
        .filter(|(distance, _)| distance * 3 <= name.len() * 2)
        .map(|(_, candidate)| format!(" (did you mean '{candidate}'?)"))
        .unwrap_or_default();
    BenchError::usage(format!(
        "unknown {what} '{}'{meant}; known: {}",
        name.escape_debug(),
        known.join(", ")
    ))
}

/// Text from outside, safe on a terminal: special characters are escaped, quotes stay as they are.
pub fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\'' | '"' | '\\' => plain.push(letter),
            other => plain.extend(other.escape_debug()),
        }
    }
    plain
}

/// Edits between two names (Levenshtein), `-` and `_` counted as equal.
fn distance(left: &str, right: &str) -> usize {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    strsim::levenshtein(&plain(left), &plain(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_gets_a_suggestion() {
        let known = ["net-http", "fasthttp", "redigo"];
        let text = unknown("contestant", "net_htp", &known).to_string();
        assert!(text.contains("did you mean 'net-http'"), "{text}");
        let text = unknown("contestant", "zzzzzzzz", &known).to_string();
        assert!(!text.contains("did you mean"), "{text}");
        assert!(text.contains("net-http, fasthttp, redigo"), "{text}");
        for (name, known) in [("FOO", "GET"), ("fast", "tasks")] {
            let text = unknown("word", name, &[known]).to_string();
            assert!(!text.contains("did you mean"), "{text}");
        }
        assert!(unknown("word", "GTE", &["GET"]).to_string().contains("'GET'"));
    }

    #[test]
    fn printable_text_keeps_quotes_and_escapes_special_characters() {
        assert_eq!(printable("unknown command 'A\\B'"), "unknown command 'A\\B'");
        assert_eq!(printable("a\x1b[1mb\r\n"), "a\\u{1b}[1mb\\r\\n");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("steady", "steady"), 0);
        assert_eq!(distance("stedy", "steady"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("go_redis", "go-redis"), 0);
    }

    #[test]
    fn every_protocol_is_found_by_its_name() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::parse(protocol.name()).unwrap(), protocol);
        }
        assert!(Protocol::parse("http3").is_err());
    }
}
