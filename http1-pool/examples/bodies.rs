//! The throughput of large bodies, beside a raw socket that reads or writes the same bytes.
//!
//! ```sh
//! cargo run --release -p http1-pool --example bodies
//! ```
//!
//! Client and server are threads of one process. Rounds of both take turns; the ratio is the median over the
//! rounds. Over 1.00 means that the client was faster than the raw socket in that run.

#![allow(clippy::print_stdout)] // It is a program that shows something.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use http1_pool::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PIECE: usize = 64 * 1024;
const ROUNDS: usize = 15;

fn main() -> Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for (size, times) in [(1 << 20, 100), (64 << 20, 3)] {
            let body = Bytes::from(vec![b'x'; size]);
            for post in [false, true] {
                let client = Client::new();
                let mut raw = tokio::net::TcpStream::connect(address).await?;
                raw.set_nodelay(true)?;
                let mut ratios = Vec::new();
                let mut best = Duration::MAX;
                for _ in 0..ROUNDS {
                    let start = Instant::now();
                    for _ in 0..times {
                        by_raw_socket(&mut raw, post, &body).await?;
                    }
                    let limit = start.elapsed();
                    let start = Instant::now();
                    for _ in 0..times {
                        by_client(&client, address, post, &body).await?;
                    }
                    let ours = start.elapsed();
                    best = best.min(ours);
                    ratios.push(limit.as_secs_f64() / ours.as_secs_f64());
                }
                ratios.sort_by(f64::total_cmp);
                println!(
                    "{} {} MiB: {:.2} of the raw socket's throughput ({:.2} to {:.2}), at best {:.0} MiB/s",
                    if post { "POST" } else { "GET" },
                    size >> 20,
                    ratios[ROUNDS / 2],
                    ratios[ROUNDS / 4],
                    ratios[3 * ROUNDS / 4],
                    (size >> 20) as f64 * f64::from(times) / best.as_secs_f64(),
                );
            }
        }
        Ok(())
    })
}

async fn by_client(client: &Client, address: SocketAddr, post: bool, body: &Bytes) -> Result<()> {
    let uri = format!("http://{address}/{}", if post { 0 } else { body.len() });
    let sent = Full::new(if post { body.clone() } else { Bytes::new() });
    let method = if post { "POST" } else { "GET" };
    let request = Request::builder().method(method).uri(uri).body(sent)?;
    let mut answer = client.request(request).await?.into_body();
    let mut length = 0;
    while let Some(frame) = answer.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(length, if post { 0 } else { body.len() });
    Ok(())
}

async fn by_raw_socket(raw: &mut tokio::net::TcpStream, post: bool, body: &Bytes) -> Result<()> {
    let (path, sent) = if post { (0, body.len()) } else { (body.len(), 0) };
    let head = format!("GET /{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {sent}\r\n\r\n");
    raw.write_all(head.as_bytes()).await?;
    raw.write_all(&body[..sent]).await?;
    let mut piece = vec![0; PIECE];
    // The server's head has always the same length.
    let mut left = head_of(path).len() + path;
    while left > 0 {
        let read = raw.read(&mut piece).await?;
        assert_ne!(read, 0, "the server has gone");
        left -= read;
    }
    Ok(())
}

fn head_of(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")
}

/// Answers `GET /N` with N bytes, and takes every body to its end first.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut piece = vec![0; PIECE];
    let answer = vec![b'x'; PIECE];
    loop {
        let mut head = Vec::new();
        let (end, mut left) = loop {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            head.extend_from_slice(&piece[..read]);
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break (end, head.len() - end - 4);
            }
        };
        let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        while left < length {
            left += stream.read(&mut piece)?;
        }
        let path = text.split(['/', ' ']).nth(2).and_then(|path| path.parse().ok()).unwrap_or(0);
        stream.write_all(head_of(path).as_bytes())?;
        let mut written = 0;
        while written < path {
            let next = (path - written).min(PIECE);
            stream.write_all(&answer[..next])?;
            written += next;
        }
    }
}
