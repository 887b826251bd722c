//! A custom request in place of the built-in one, and the pause between two requests.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::cli::RunArgs;
use crate::contestants::{RequestKind, WRITE_BODY};
use crate::error::BenchError;
use crate::report::saved::Request;
use crate::target::Target;

/// The methods that a request may have, and whether a body may go with it.
const METHODS: [(Method, bool); 7] = [
    (Method::GET, false),
    (Method::HEAD, false),
    (Method::POST, true),
    (Method::PUT, true),
    (Method::PATCH, true),
    (Method::DELETE, true),
    (Method::OPTIONS, false),
];
/// The embedded server accepts no longer bodies, nor do most other servers.
const MAX_BODY: usize = 1024 * 1024;
/// Commands that are more than one request and one reply, or that change the session.
const SESSION_COMMANDS: [&str; 19] = [
    "ASKING",
    "AUTH",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "QUIT",
    "READONLY",
    "RESET",
    "SELECT",
    "SHUTDOWN",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SYNC",
    "WATCH",
];

/// The request that is sent instead of GET / or ECHO. The default is the built-in request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    method: Option<Method>,
    path: Option<String>,
    body: Option<Bytes>,
    command: Vec<Bytes>,
    /// The pause of a caller between a reply and its next request.
    pub think: Option<Duration>,
}

impl Ask {
    /// Reads the options. A path in the target's URL has the same meaning as `--path`.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for an invalid request, or when both have a path.
    pub fn new(args: &RunArgs, target: Option<&Target>) -> Result<Self, BenchError> {
        let mut ask = Self { think: args.think_time, ..Self::default() };
        if let Some(path) = &args.path {
            let parsed: Option<http::uri::PathAndQuery> = path.parse().ok();
            let Some(parsed) = parsed.filter(|_| path.starts_with('/')) else {
                return Err(BenchError::usage(format!(
                    "--path '{}' is no path: it begins with / and has no spaces, as /items?page=2",
                    path.escape_debug()
                )));
            };
            ask.path = Some(parsed.as_str().to_owned());
        }
        let of_url = target.filter(|target| target.protocol.is_http() && target.path != "/");
        match (&ask.path, of_url) {
            (Some(path), Some(target)) => {
                return Err(BenchError::usage(format!(
                    "--path {path} and --target with the path {}: leave one out",
                    target.path
                )));
            }
            (None, Some(target)) => ask.path = Some(target.path.clone()),
            _ => {}
        }
        ask.body = args.body_size.map(|size| Bytes::from(vec![b'x'; size]));
        ask.method = match &args.method {
            Some(name) => Some(method(name, ask.body.is_some())?),
            // As curl does with data.
            None => ask.body.as_ref().map(|_| Method::POST),
        };
        if let Some(command) = &args.command {
            ask.command = words(command)?;
        }
        Ok(ask)
    }

    /// The option that is only for HTTP, if one was given.
    pub fn http_option(&self) -> Option<&'static str> {
        match (&self.path, &self.body, &self.method) {
            (Some(_), _, _) => Some("--path"),
            (_, Some(_), _) => Some("--body-size"),
            (_, _, Some(_)) => Some("--method"),
            _ => None,
        }
    }

    /// Makes these the requests to this target.
    #[must_use]
    pub fn apply(&self, mut target: Target) -> Target {
        if let Some(path) = &self.path {
            target.path.clone_from(path);
        }
        // A reply to HEAD has no body, and an own command no nonce.
        if self.method == Some(Method::HEAD) || !self.command.is_empty() {
            target.echoes = false;
        }
        target.ask = self.clone();
        target
    }

    /// The method and the body of an HTTP request.
    pub fn http(&self, kind: RequestKind) -> (Method, Bytes) {
        match kind {
            RequestKind::Read => {
                (self.method.clone().unwrap_or(Method::GET), self.body.clone().unwrap_or_default())
            }
            RequestKind::Write => (Method::POST, Bytes::from_static(WRITE_BODY)),
        }
    }

    /// Whether replies have no body, whatever their head says.
    pub fn head_only(&self, kind: RequestKind) -> bool {
        kind == RequestKind::Read && self.method == Some(Method::HEAD)
    }

    /// Whether the method was chosen. A body chooses POST.
    pub fn has_method(&self) -> bool {
        self.method.is_some()
    }

    /// The words of the Redis command; empty for the built-in one.
    pub fn command(&self) -> &[Bytes] {
        &self.command
    }

    /// Whether requests carry a nonce, so that the embedded server can count which ran twice.
    pub fn has_nonce(&self) -> bool {
        self.command.is_empty()
    }

    /// A warning that tells which checks this request makes impossible; `None` without such a loss.
    pub fn warning(&self) -> Option<String> {
        if !self.command.is_empty() {
            return Some(format!(
                "--command \"{}\" carries no nonce: wrong replies and requests that ran twice are unknown",
                self.command_text()
            ));
        }
        (self.method == Some(Method::HEAD)).then(|| {
            "--method HEAD: replies without a body return no nonce, so wrong replies are unknown"
                .to_owned()
        })
    }

    fn command_text(&self) -> String {
        let words: Vec<_> = self.command.iter().map(|word| String::from_utf8_lossy(word)).collect();
        words.join(" ").escape_debug().to_string()
    }

    /// As results.json holds it; `None` for the built-in request.
    pub fn request(&self) -> Option<Request> {
        if *self == Self::default() {
            return None;
        }
        let http = self.http_option().is_some();
        Some(Request {
            method: http.then(|| self.http(RequestKind::Read).0.as_str().to_owned()),
            path: http.then(|| self.path.clone().unwrap_or_else(|| "/".to_owned())),
            body_bytes: self.body.as_ref().map(|body| body.len() as u64),
            command: (!self.command.is_empty()).then(|| self.command_text()),
            think_time_ms: self.think.map(|think| think.as_secs_f64() * 1000.0),
        })
    }
}

fn method(name: &str, with_body: bool) -> Result<Method, BenchError> {
    let known = METHODS.iter().find(|(method, _)| method.as_str().eq_ignore_ascii_case(name));
    match known {
        Some((method, false)) if with_body => Err(BenchError::usage(format!(
            "--method {method} has no body, --body-size gives it one: use POST, PUT, PATCH or DELETE"
        ))),
        Some((method, _)) => Ok(method.clone()),
        None => {
            let names: Vec<&str> = METHODS.iter().map(|(method, _)| method.as_str()).collect();
            Err(crate::names::unknown("method", name, &names))
        }
    }
}

/// The words of a command.
fn words(command: &str) -> Result<Vec<Bytes>, BenchError> {
    let words: Vec<Bytes> =
        command.split_whitespace().map(|word| Bytes::from(word.to_owned())).collect();
    let Some(name) = command.split_whitespace().next() else {
        return Err(BenchError::usage("--command is empty: name a command, as \"GET key\""));
    };
    let name = name.to_ascii_uppercase();
    if SESSION_COMMANDS.contains(&name.as_str()) {
        return Err(BenchError::usage(format!(
            "--command {name} changes the session or has no single reply: name one that is a request and a reply, as \"GET key\""
        )));
    }
    Ok(words)
}

/// Reads `--body-size`.
///
/// # Errors
/// What is expected.
pub fn parse_body_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size <= MAX_BODY);
    size.ok_or_else(|| format!("expected a number of bytes, at most {MAX_BODY}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Protocol;

    fn ask(change: impl FnOnce(&mut RunArgs)) -> Ask {
        Ask::new(&RunArgs::with(change), None).unwrap()
    }

    fn words(ask: &Ask) -> String {
        ask.request().unwrap().words().join(", ")
    }

    #[test]
    fn without_options_the_request_is_the_built_in_one() {
        let ask = ask(|_| {});
        assert_eq!(ask, Ask::default());
        assert_eq!(ask.http(RequestKind::Read), (Method::GET, Bytes::new()));
        assert!(ask.request().is_none() && ask.warning().is_none());
    }

    #[test]
    fn a_request_with_a_body_is_a_post_unless_a_method_is_given() {
        let post = ask(|args| args.body_size = Some(3));
        assert_eq!(post.http(RequestKind::Read), (Method::POST, Bytes::from_static(b"xxx")));
        assert_eq!(words(&post), "POST / with 3 bytes");
        let put = ask(|args| {
            args.body_size = Some(3);
            args.method = Some("put".to_owned());
        });
        assert_eq!(words(&put), "PUT / with 3 bytes");
    }

    #[test]
    fn an_invalid_request_is_refused_in_one_line() {
        for (args, words) in [
            (RunArgs::with(|args| args.method = Some("GTE".into())), "did you mean 'GET'"),
            (RunArgs::with(|args| args.path = Some("items".into())), "begins with /"),
            (RunArgs::with(|args| args.path = Some("/a b".into())), "no spaces"),
            (RunArgs::with(|args| args.command = Some("  ".into())), "empty"),
            (
                RunArgs::with(|args| args.command = Some("multi".into())),
                "MULTI changes the session",
            ),
            (
                RunArgs::with(|args| {
                    args.method = Some("GET".into());
                    args.body_size = Some(1);
                }),
                "--body-size",
            ),
        ] {
            let error = Ask::new(&args, None).unwrap_err().to_string();
            assert!(error.contains(words) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn the_path_of_a_url_is_part_of_the_request() {
        let target = |url| Target::parse(url).unwrap();
        let of = |path: Option<&str>, url| {
            let path = path.map(str::to_owned);
            Ask::new(&RunArgs::with(|args| args.path = path), Some(&target(url)))
        };
        let url = of(None, "http://127.0.0.1:1/a?b=c").unwrap();
        assert_eq!(words(&url), "GET /a?b=c");
        assert_eq!(url, of(Some("/a?b=c"), "http://127.0.0.1:1").unwrap());
        assert!(of(None, "redis://127.0.0.1:1/3").unwrap().request().is_none(), "a database");
        let both = of(Some("/b"), "http://127.0.0.1:1/a").unwrap_err();
        assert!(both.to_string().contains("leave one out"));
    }

    #[test]
    fn the_oracle_is_given_up_only_if_no_nonce_comes_back() {
        let target = || Target::embedded(Protocol::Http1, "127.0.0.1:1".parse().unwrap());
        for (method, echoes) in [("POST", true), ("HEAD", false)] {
            let ask = ask(|args| args.method = Some(method.into()));
            assert_eq!(ask.apply(target()).echoes, echoes);
            assert_eq!(ask.warning().is_none(), echoes);
            assert!(ask.has_nonce());
        }
        let ask = ask(|args| args.command = Some("GET key".into()));
        assert!(!ask.apply(target()).echoes && !ask.has_nonce());
        assert!(ask.warning().unwrap().contains("GET key"));
    }
}
