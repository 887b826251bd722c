//! Requests one after the other over loopback, so that the instructions of one can be counted:
//!
//! ```sh
//! cargo build --release -p http1-pool --example loopback
//! for count in 2000 12000; do
//!     valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file=loopback.$count \
//!         target/release/examples/loopback $count
//! done
//! ```
//!
//! The files loopback.COUNT-01 belong to the thread of the client. The difference of their totals, divided
//! by the difference of the counts, is the cost of one request in user space.

use std::io::{Read, Write};
use std::net::TcpListener;

use http::Uri;
use http1_pool::Client;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).ok_or("how many requests?")?.parse()?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let uri: Uri = format!("http://{}/", server.local_addr()?).parse()?;
    std::thread::spawn(move || serve(&server));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::new();
        for _ in 0..count {
            let response = client.get(uri.clone()).await?;
            assert_eq!(response.into_body().read_all(16).await?.len(), 5);
        }
        Ok(())
    })
}

fn serve(server: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = server.accept()?;
    let mut request = [0; 1024];
    while stream.read(&mut request)? > 0 {
        stream.write_all(ANSWER)?;
    }
    Ok(())
}
