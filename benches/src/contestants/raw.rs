//! Exchanges of known length over a bare socket, for `limit` and `no-pool` over protocols
//! with one exchange at a time on a connection.

use std::io;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::what_answers::with_protocol;
use super::{CallError, Echo, Request, RequestKind};
use crate::names::{Protocol, printable};
use crate::nonce::{NONCE_LEN, Nonce};
use crate::target::Target;

mod http1;
#[cfg(test)]
mod tests;

/// A target that does not answer the first request within this is not reachable.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest reply that is learned by probing.
const MAX_REPLY: usize = 1024 * 1024;
/// Room beyond the reply. After a read that fills the buffer, tokio makes a second system call, which
/// finds nothing; after a read that leaves room it does not.
const SPARE: usize = 64;
/// The end of the head of an HTTP/1 message.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The body of a request that must not run twice.
pub const WRITE_BODY: &[u8] = b"once";

/// The key of the counter for a request that must not run twice.
pub(super) fn counter(nonce: Nonce) -> Vec<u8> {
    [COUNTER, nonce.as_bytes()].concat()
}

/// The prefix of the keys that count nonces.
pub const COUNTER: &[u8] = b"poolbench:";

/// The bytes of the exchanges with a target.
#[derive(Debug, Clone)]
pub struct Template {
    /// The bytes that are sent once after the dial.
    pub handshake: Vec<u8>,
    /// The expected reply to them.
    pub handshake_reply: Vec<u8>,
    /// A request that may run twice, and its reply.
    pub read: Exchange,
    /// A request that must not run twice, and its reply.
    pub write: Exchange,
}

/// The bytes of one exchange.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// The request; the nonce is overwritten at `nonce_at`.
    pub request: Vec<u8>,
    /// The offset of the nonce in the request; `None` if the server does not echo.
    pub nonce_at: Option<usize>,
    /// Length of the whole reply.
    pub reply_len: usize,
    /// The first bytes of every reply.
    pub reply_start: Vec<u8>,
    /// The length of the head of an HTTP/1 reply: its last bytes show that the head equals that of the probe.
    pub head_len: Option<usize>,
    /// The offset of the nonce in the reply; `None` if the server does not echo.
    pub reply_nonce_at: Option<usize>,
    /// Replies have no body, whatever their head says.
    pub head_only: bool,
    /// Replies differ in length, so they are parsed to find their end. RESP only.
    pub parsed: bool,
}

impl Template {
    /// The status of the probe's reply, if the protocol has one.
    pub fn status(&self) -> Option<StatusCode> {
        let digits = self.read.reply_start.rsplit(|byte| *byte == b' ').next()?;
        StatusCode::from_bytes(digits).ok()
    }
}

/// Sends one request to the target and learns what an exchange looks like.
///
/// # Errors
/// Why the target cannot be used: its port is closed, or the reply is not one of the protocol.
pub async fn probe(target: &Target) -> Result<Template, String> {
    let work = async {
        match target.protocol {
            Protocol::Http1 => http1::probe(target).await,
            Protocol::Resp => probe_resp(target).await,
            Protocol::Framed => Ok(framed_template(target)),
            Protocol::Http2 => super::http2_raw::probe(target).await,
        }
    };
    let result = match tokio::time::timeout(PROBE_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {PROBE_TIMEOUT:?}")),
    };
    match result {
        Err(error) if !target.embedded => Err(with_protocol(target, error).await),
        result => result,
    }
}

/// A frame without a body.
const EMPTY_FRAME: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn framed_template(target: &Target) -> Template {
    let mut request = (NONCE_LEN as u32).to_be_bytes().to_vec();
    request.extend_from_slice(&1_u64.to_be_bytes());
    let nonce_at = request.len();
    let reply_start = request.clone();
    request.extend_from_slice(Nonce::new(0, 0).as_bytes());
    let read = Exchange {
        reply_len: request.len(),
        request,
        nonce_at: Some(nonce_at),
        reply_start,
        reply_nonce_at: Some(nonce_at),
        ..Exchange::default()
    };
    let greeting = if target.greets { EMPTY_FRAME.to_vec() } else { Vec::new() };
    Template { handshake: greeting.clone(), handshake_reply: greeting, write: read.clone(), read }
}

async fn probe_resp(target: &Target) -> Result<Template, String> {
    let mut handshake = Vec::new();
    let mut handshake_reply = Vec::new();
    if let Some(password) = &target.password {
        let arguments: Vec<&str> = match &target.username {
            Some(username) => vec!["AUTH", username, password],
            None => vec!["AUTH", password],
        };
        command(&mut handshake, &arguments);
        handshake_reply.extend_from_slice(b"+OK\r\n");
    }
    if target.database != 0 {
        command(&mut handshake, &["SELECT", &target.database.to_string()]);
        handshake_reply.extend_from_slice(b"+OK\r\n");
    }
    let mut request = Vec::new();
    command(&mut request, &["ECHO", Nonce::new(0, 0).as_str()]);
    let reply_start = format!("${NONCE_LEN}\r\n").into_bytes();
    let read = Exchange {
        nonce_at: Some(request.len() - 2 - NONCE_LEN),
        request,
        reply_len: reply_start.len() + NONCE_LEN + 2,
        reply_nonce_at: Some(reply_start.len()),
        reply_start,
        ..Exchange::default()
    };
    let mut request = Vec::new();
    let key = counter(Nonce::new(0, 0));
    command(&mut request, &["INCR", std::str::from_utf8(&key).expect("digits are text")]);
    let write = Exchange {
        nonce_at: Some(request.len() - 2 - NONCE_LEN),
        request,
        // ":1", or ":2" when it ran twice.
        reply_len: b":1\r\n".len(),
        reply_start: b":".to_vec(),
        ..Exchange::default()
    };
    let own = target.ask.command();
    if !own.is_empty() {
        let mut request = Vec::new();
        resp_pool::Request::encode(own, &mut request);
        let read = Exchange { request, parsed: true, ..Exchange::default() };
        let template = Template { handshake, handshake_reply, read, write };
        let mut socket = RawSocket::open(target, &template).await.map_err(|e| e.to_string())?;
        let asked = parsed_exchange(&mut socket.stream, &template.read.request, &mut socket.parsed);
        asked.await.map_err(|error| with_way_out(error.text))?;
        return Ok(template);
    }
    let template = Template { handshake, handshake_reply, read, write };
    let mut socket = RawSocket::open(target, &template).await.map_err(|error| error.to_string())?;
    ask(&mut socket.stream, &template.read).await?;
    Ok(template)
}

/// One exchange, which a server may refuse with an error that is shorter or longer than a reply.
async fn ask(stream: &mut TcpStream, exchange: &Exchange) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    stream.write_all(&exchange.request).await.map_err(failed)?;
    let mut got = Vec::new();
    if stream.read_buf(&mut got).await.map_err(failed)? == 0 {
        return Err("it closed the connection instead of a reply".to_owned());
    }
    if let Some(refusal) = refusal(stream, &mut got).await {
        return Err(refusal);
    }
    while got.len() < exchange.reply_len {
        if stream.read_buf(&mut got).await.map_err(failed)? == 0 {
            return Err("it closed the connection in the middle of a reply".to_owned());
        }
    }
    let nonce = Nonce::new(0, 0);
    let at = exchange.reply_start.len();
    let is_echo = got.starts_with(&exchange.reply_start)
        && got.len() == exchange.reply_len
        && got[at..].starts_with(nonce.as_bytes());
    if is_echo { Ok(()) } else { Err("ECHO answered something else".to_owned()) }
}

/// Appends a command in RESP.
fn command(output: &mut Vec<u8>, arguments: &[&str]) {
    output.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        output.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
}

/// Opens a connection, without delay for small writes.
pub(super) async fn dial(target: &Target) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that finds the end of replies by their length.
pub(super) struct RawSocket {
    stream: TcpStream,
    read: Exchange,
    write: Exchange,
    reply: Vec<u8>,
    /// A reply of a length that is not known before.
    parsed: Vec<u8>,
    over: bool,
    unanswered: bool,
}

impl RawSocket {
    /// Dials, and shakes hands if the protocol needs it.
    pub(super) async fn open(target: &Target, template: &Template) -> io::Result<Self> {
        let mut stream = dial(target).await?;
        if !template.handshake.is_empty() {
            shake_hands(&mut stream, template).await?;
        }
        let longest = template.read.reply_len.max(template.write.reply_len);
        Ok(Self {
            stream,
            read: template.read.clone(),
            write: template.write.clone(),
            reply: vec![0; longest + SPARE],
            parsed: Vec::new(),
            over: false,
            unanswered: false,
        })
    }

    /// Whether the server ended the connection with a reply, as HTTP/1 servers do after a number of requests.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether not a single byte of the last reply came.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// One request and its reply. After an error the connection is out of step.
    pub(super) async fn exchange(&mut self, request: &Request) -> Result<Echo, CallError> {
        let Self { stream, reply, over, parsed, unanswered, .. } = self;
        *unanswered = true;
        let exchange = match request.kind {
            RequestKind::Read => &mut self.read,
            RequestKind::Write => &mut self.write,
        };
        if let Some(at) = exchange.nonce_at {
            exchange.request[at..at + NONCE_LEN].copy_from_slice(request.nonce.as_bytes());
        }
        if exchange.parsed {
            parsed_exchange(stream, &exchange.request, parsed).await?;
            return Ok(Echo::NotAsked);
        }
        stream.write_all(&exchange.request).await.map_err(CallError::broken)?;
        let mut filled = 0;
        while filled < exchange.reply_len {
            match stream.read(&mut reply[filled..]).await.map_err(CallError::broken)? {
                0 => break,
                read => {
                    filled += read;
                    *unanswered = false;
                }
            }
        }
        let is_known = filled == exchange.reply_len
            && reply.starts_with(&exchange.reply_start)
            && exchange.head_len.is_none_or(|head| reply[..head].ends_with(HEAD_END));
        let nonce_at = if is_known {
            exchange.reply_nonce_at
        } else {
            // The head differs if the server announces the end of the connection.
            let len = http1::last_reply(stream, exchange, reply, filled).await?;
            *over = true;
            exchange.reply_nonce_at.and(len.checked_sub(NONCE_LEN))
        };
        Ok(nonce_at.map_or(Echo::NotAsked, |at| {
            Echo::check(true, request.nonce, &reply[at..at + NONCE_LEN])
        }))
    }
}

/// One command of RESP and its reply, whatever its length. The reply is left in `reply`.
async fn parsed_exchange(
    stream: &mut TcpStream,
    request: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CallError> {
    stream.write_all(request).await.map_err(CallError::broken)?;
    reply.clear();
    let mut scanner = resp_pool::Scanner::new(resp_pool::Limits::default());
    loop {
        if stream.read_buf(reply).await.map_err(CallError::broken)? == 0 {
            return Err(CallError::broken("the server closed the connection"));
        }
        match scanner.scan(reply) {
            Ok(None) => {}
            Ok(Some(frame)) if frame.len < reply.len() => {
                return Err(CallError::wrong("more came than one reply"));
            }
            Ok(Some(_)) if reply[0] == b'-' => {
                let text = String::from_utf8_lossy(&reply[1..]);
                return Err(CallError::wrong(printable(text.trim_end())));
            }
            Ok(Some(_)) => return Ok(()),
            Err(error) => return Err(CallError::wrong(error)),
        }
    }
}

async fn shake_hands(stream: &mut TcpStream, template: &Template) -> io::Result<()> {
    stream.write_all(&template.handshake).await?;
    let wanted = &template.handshake_reply;
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).await?;
    if got == *wanted {
        return Ok(());
    }
    if let Some(refusal) = refusal(stream, &mut got).await {
        return Err(io::Error::other(refusal));
    }
    let text = String::from_utf8_lossy(&got);
    Err(io::Error::other(format!("the handshake was answered with '{}'", text.escape_debug())))
}

/// The longest refusal that is shown.
const MAX_REFUSAL: usize = 512;

/// The whole text of the RESP error that begins with `got`, with a remedy if one is known. `None` if `got`
/// is not the beginning of an error.
async fn refusal(stream: &mut TcpStream, got: &mut Vec<u8>) -> Option<String> {
    let begins = got
        .iter()
        .position(|byte| *byte == b'-')
        .filter(|at| got[..*at].ends_with(b"\r\n") || *at == 0)?;
    got.drain(..begins);
    while !got.contains(&b'\r') && got.len() < MAX_REFUSAL {
        if stream.read_buf(got).await.ok()? == 0 {
            break;
        }
    }
    let line = got[1..].split(|byte| *byte == b'\r').next()?;
    Some(with_way_out(printable(&String::from_utf8_lossy(line))))
}

/// The error text of a server, with a remedy if one is known.
fn with_way_out(text: String) -> String {
    match text.split(' ').next() {
        Some("NOAUTH") => format!(
            "{text} Give the password in the URL: redis://:PASSWORD@HOST:PORT or redis://USER:PASSWORD@HOST:PORT"
        ),
        _ => text,
    }
}
