//! As much of memcached as the example needs: get, set, version, quit, and a login.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::Server;

type Values = Arc<Mutex<HashMap<String, Vec<u8>>>>;

const LOGIN: &str = "example secret";

/// The one that the command line names, else one of our own.
pub(crate) async fn chosen() -> Result<Server, Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(start().await?),
        ["--target", address] => {
            let (host, port) = address.rsplit_once(':').ok_or("--target host:port")?;
            Ok(Server { host: host.to_owned(), port: port.parse()?, login: None })
        }
        _ => Err("usage: memcached [--target host:port]".into()),
    }
}

/// Serves on a free port of loopback for as long as the runtime lives.
pub(crate) async fn start() -> io::Result<Server> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let values = Values::default();
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&values)));
        }
    });
    let (user, password) = LOGIN.split_once(' ').expect("two words");
    let login = Some((user.to_owned(), password.to_owned()));
    Ok(Server { host: "127.0.0.1".to_owned(), port, login })
}

/// Until the client says `quit`, hangs up, or says something odd.
async fn serve(stream: TcpStream, values: Values) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut welcome = false;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let mut answer = Vec::new();
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["set", name, _, _, size] => {
                let size: usize = size.parse().map_err(io::Error::other)?;
                let mut value = vec![0; size + 2];
                stream.read_exact(&mut value).await?;
                value.truncate(size);
                if welcome {
                    values.lock().expect("no panic").insert(name.to_owned(), value);
                } else {
                    welcome = value == LOGIN.as_bytes();
                }
                answer.extend_from_slice(if welcome { b"STORED\r\n" } else { b"CLIENT_ERROR\r\n" });
            }
            ["get", name] if welcome => {
                if let Some(value) = values.lock().expect("no panic").get(name) {
                    answer.extend(format!("VALUE {name} 0 {}\r\n", value.len()).into_bytes());
                    answer.extend_from_slice(value);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"END\r\n");
            }
            ["version"] if welcome => answer.extend_from_slice(b"VERSION of an example\r\n"),
            _ => return Ok(()),
        }
        stream.write_all(&answer).await?;
    }
}
