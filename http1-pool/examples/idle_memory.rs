//! The heap that an idle connection takes: with `rustls` also one over TLS.
//!
//! ```sh
//! cargo run --release -p http1-pool --features rustls --example idle_memory
//! ```
//!
//! The server is a real nginx. Only what the client's thread allocates and still holds is counted, and the
//! connections have all been used once. Sockets take memory of the kernel besides.

#![allow(clippy::print_stdout)] // It is a program that shows something.

use http::Uri;
use http1_pool::Client;
use pool_common::Policy;
use pool_common::testing::servers::NginxServer;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = NginxServer::start("location / { return 200 'hello'; }");
    let plain = Client::builder().change_policy(many).build()?;
    report("plain", plain, format!("http://{}/", server.addr()).parse()?)?;
    #[cfg(feature = "rustls")]
    {
        use pool_common::testing::certificates::Authority;
        let authority = Authority::new();
        let server = NginxServer::start_tls(
            &authority.issue(&["localhost"]),
            false,
            "location / { return 200 'hello'; }",
        );
        let tls = pool_common::connect::Tls::builder().add_roots_pem(authority.pem()).build()?;
        let client = Client::builder().tls(tls).change_policy(many).build()?;
        report("TLS", client, format!("https://localhost:{}/", server.addr().port()).parse()?)?;
    }
    Ok(())
}

fn many(policy: &mut Policy) {
    policy.max_open_per_key = Some(CONNECTIONS as u32);
    policy.max_idle_per_key = None;
    policy.dial_ramp = None;
}

fn report(name: &str, client: Client, uri: Uri) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // What the first connection allocates for all is not counted.
    open(&runtime, &client, &uri, 1);
    let before = client.pool().status().idle;
    let heap =
        allocation_counter::measure(|| open(&runtime, &client, &uri, CONNECTIONS)).bytes_current;
    let opened = client.pool().status().idle - before;
    println!("{name}: {} bytes for each of {opened} idle connections", heap / i64::from(opened));
    Ok(())
}

/// Holds so many connections at a time, and uses each for one request.
fn open(runtime: &Runtime, client: &Client, uri: &Uri, connections: usize) {
    runtime.block_on(async {
        let mut responses = JoinSet::new();
        for _ in 0..connections {
            let (client, uri) = (client.clone(), uri.clone());
            responses.spawn(async move { client.get(uri).await.expect("an answer") });
        }
        // The bodies hold their connections until all are there.
        for response in responses.join_all().await {
            response.into_body().read_all(64).await.expect("a body");
        }
    });
}
