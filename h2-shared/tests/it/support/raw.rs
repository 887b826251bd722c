//! A peer that speaks raw frames, so that a test can send what no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_CONCURRENT_STREAMS: u16 = 3;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0 && matches!(self.kind, DATA | HEADERS)
    }
}

/// Accepts connections one after the other, as the script wants them.
pub struct RawServer {
    listener: TcpListener,
    pub addr: SocketAddr,
}

impl RawServer {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// A connection without a word exchanged.
    pub async fn accept_silent(&self) -> RawPeer {
        let (socket, _) = self.listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        RawPeer { socket }
    }

    /// A connection whose preface was read and answered with SETTINGS: this limit, if any.
    pub async fn accept(&self, limit: Option<u32>) -> RawPeer {
        let mut peer = self.accept_silent().await;
        peer.read_preface().await;
        peer.settings(limit).await;
        peer
    }
}

pub struct RawPeer {
    pub socket: TcpStream,
}

impl RawPeer {
    pub async fn read_preface(&mut self) {
        let mut preface = [0; PREFACE.len()];
        self.socket.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
    }

    pub async fn settings(&mut self, limit: Option<u32>) {
        let mut payload = Vec::new();
        if let Some(limit) = limit {
            payload.extend(MAX_CONCURRENT_STREAMS.to_be_bytes());
            payload.extend(limit.to_be_bytes());
        }
        self.write(SETTINGS, 0, 0, &payload).await;
    }

    /// Sends a frame; a client that is gone already is no reason to fail.
    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let _ = self.socket.write_all(&frame).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn read_any(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of a stream, or PING or GOAWAY; SETTINGS are acknowledged, window updates
    /// skipped.
    pub async fn read(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read_any().await?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                SETTINGS | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// The next request, its body read: stream id and body.
    pub async fn request(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut body = Vec::new();
        loop {
            let frame = self.read().await?;
            if !matches!(frame.kind, HEADERS | DATA) {
                continue;
            }
            if frame.kind == DATA {
                body.extend(&frame.payload);
            }
            if frame.ends_stream() {
                return Some((frame.stream, body));
            }
        }
    }

    /// A complete response with status 200.
    pub async fn respond(&mut self, stream: u32, body: &[u8]) {
        self.head(stream).await;
        self.write(DATA, END_STREAM, stream, body).await;
    }

    /// The head of a response: `:status 200` from the static table of HPACK.
    pub async fn head(&mut self, stream: u32) {
        self.write(HEADERS, END_HEADERS, stream, &[0x88]).await;
    }

    pub async fn reset(&mut self, stream: u32, reason: h2::Reason) {
        let code = u32::from(reason).to_be_bytes();
        self.write(RST_STREAM, 0, stream, &code).await;
    }

    pub async fn go_away(&mut self, last_stream: u32, reason: h2::Reason) {
        self.go_away_because(last_stream, reason, b"").await;
    }

    /// A GOAWAY with debug data.
    pub async fn go_away_because(&mut self, last_stream: u32, reason: h2::Reason, words: &[u8]) {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend(u32::from(reason).to_be_bytes());
        payload.extend(words);
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Enlarges the client's send window of a stream and of the connection.
    pub async fn grant(&mut self, stream: u32, bytes: u32) {
        for stream in [0, stream] {
            self.write(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
        }
    }

    /// The next frame of this kind, others skipped.
    pub async fn wait_for(&mut self, kind: u8) -> Frame {
        let find = async {
            loop {
                let frame = self.read().await.expect("the connection goes on");
                assert!(frame.kind != GOAWAY || kind == GOAWAY, "{frame:?}");
                if frame.kind == kind {
                    return frame;
                }
            }
        };
        let found = tokio::time::timeout(super::HANG, find).await;
        found.unwrap_or_else(|_| panic!("no frame of kind {kind}"))
    }

    /// Echoes requests until the client closes.
    pub async fn echo(mut self) {
        while let Some((stream, body)) = self.request().await {
            self.respond(stream, &body).await;
        }
    }

    /// Reads on until the connection ends.
    pub async fn drain(&mut self) {
        while self.read().await.is_some() {}
    }
}
