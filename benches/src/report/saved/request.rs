//! A request that the user chose: as results.json holds it, and as titles, pages and comparisons name it.

use std::time::Duration;

use serde::Serialize;

use super::lenient::tolerant;

tolerant! {
    /// What was asked instead of the built-in request.
    #[derive(PartialEq, Serialize)]
    pub struct Request {
        /// Of HTTP.
        pub method: Option<String>,
        /// Of HTTP, with its query.
        pub path: Option<String>,
        /// Bytes of the body, where it has one.
        pub body_bytes: Option<u64>,
        /// Of redis.
        pub command: Option<String>,
        /// The pause of a caller between a reply and its next request.
        pub think_time_ms: Option<f64>,
    }
}

impl Request {
    /// What is sent; `None` for the built-in request.
    pub fn sent(&self) -> Option<String> {
        if let Some(command) = &self.command {
            return Some(command.clone());
        }
        if self.method.is_none() && self.path.is_none() && self.body_bytes.is_none() {
            return None;
        }
        let word =
            |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).to_owned();
        let body = self.body_bytes.map(|bytes| format!(" with {bytes} bytes")).unwrap_or_default();
        Some(format!("{} {}{body}", word(&self.method, "GET"), word(&self.path, "/")))
    }

    /// The pause after a reply.
    pub fn think_time(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.think_time_ms? / 1000.0).ok()
    }

    /// What is sent and the pause after it, each in words.
    pub fn words(&self) -> Vec<String> {
        let think = self.think_time().map(|think| format!("think time {think:?}"));
        self.sent().into_iter().chain(think).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(json: &str) -> String {
        serde_json::from_str::<Request>(json).unwrap().words().join(", ")
    }

    #[test]
    fn a_request_is_named_by_what_is_sent() {
        assert_eq!(words("{}"), "");
        assert_eq!(words(r#"{"body_bytes":3,"method":"PUT"}"#), "PUT / with 3 bytes");
        assert_eq!(words(r#"{"path":"/a","think_time_ms":2.5}"#), "GET /a, think time 2.5ms");
        assert_eq!(words(r#"{"command":"GET key","method":null}"#), "GET key");
        assert_eq!(words(r#"{"command":7,"think_time_ms":-1}"#), "", "an odd shape is no request");
    }
}
