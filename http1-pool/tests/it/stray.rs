//! Bytes that were in the socket before a request was written are not its answer, even when the
//! runtime's driver has not seen them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use http::{Method, Request};
use http1_pool::{Body, Client};
use pool_common::policy::{Policy, Retry};
use tokio::runtime::{Builder, Runtime};

/// The unrequested act of the server after the first answer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Answers,
    Ends,
}

/// Answers each request with its path. Sends a message when it has done something without a request.
struct Server {
    address: SocketAddr,
    done: Receiver<()>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (tell, done) = channel();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tell, counter) = (tell.clone(), Arc::clone(&counter));
                std::thread::spawn(move || serve(stream, then, &tell, &counter));
            }
        });
        Self { address, done, requests }
    }
}

fn serve(mut stream: TcpStream, then: Then, tell: &Sender<()>, requests: &AtomicUsize) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let mut first = true;
    while let Some(path) = head(&mut lines) {
        requests.fetch_add(1, Ordering::SeqCst);
        let answer =
            |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer(&path).as_bytes()).is_err() {
            return;
        }
        if std::mem::take(&mut first) {
            // Late enough that the first answer is read by itself.
            std::thread::sleep(Duration::from_millis(1));
            match then {
                Then::Answers => stream.write_all(answer("stray").as_bytes()).unwrap_or_default(),
                Then::Ends => stream.shutdown(Shutdown::Write).unwrap_or_default(),
            }
            let _ = tell.send(());
        }
    }
}

/// Reads a request without a body; its path.
fn head(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<String> {
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    lines.map_while(Result::ok).find(String::is_empty)?;
    Some(path)
}

fn runtimes() -> [Runtime; 2] {
    let build = |builder: &mut Builder| builder.enable_all().build().expect("a runtime starts");
    [
        build(&mut Builder::new_current_thread()),
        build(Builder::new_multi_thread().worker_threads(2)),
    ]
}

fn client(retry: Retry) -> Client {
    let policy = Policy { retry, ..Client::default_policy() };
    Client::builder().policy(policy).build().expect("a valid policy")
}

async fn ask(client: &Client, address: SocketAddr, method: Method, path: &str) -> String {
    let uri = format!("http://{address}{path}");
    let request = Request::builder().method(method).uri(uri).body(Body::empty());
    let response = client.request(request.expect("a request")).await.expect("an answer");
    let body = response.into_body().read_all(1024).await.expect("a body");
    String::from_utf8(body.to_vec()).expect("text")
}

/// Two requests, and between them the thread is busy until the server has sent its message. Nothing lets the driver run on this thread before the second request.
fn two_requests_with_a_busy_thread_between(then: Then, method: &Method, retry: Retry) {
    for runtime in runtimes() {
        let server = Server::start(then);
        let client = client(retry);
        let method = method.clone();
        let rounds = 20;
        let all = async move {
            for round in 0..rounds {
                let (first, second) = (format!("/{round}/1"), format!("/{round}/2"));
                assert_eq!(ask(&client, server.address, Method::GET, &first).await, first);
                server.done.recv_timeout(Duration::from_secs(60)).expect("the server did it");
                assert_eq!(ask(&client, server.address, method.clone(), &second).await, second);
                server
                    .done
                    .recv_timeout(Duration::from_secs(60))
                    .expect("on a connection of its own");
            }
            assert_eq!(server.requests.load(Ordering::SeqCst), 2 * rounds, "each was sent once");
        };
        runtime.block_on(async { tokio::spawn(all).await.expect("each got its own answer") });
    }
}

#[test]
fn an_answer_that_was_there_before_the_request_is_not_its_answer() {
    for retry in [Retry::Never, Retry::ReusedAndReplayable] {
        two_requests_with_a_busy_thread_between(Then::Answers, &Method::GET, retry);
    }
}

#[test]
fn a_post_is_not_written_to_a_connection_that_has_ended() {
    for retry in [Retry::Never, Retry::ReusedAndReplayable] {
        two_requests_with_a_busy_thread_between(Then::Ends, &Method::POST, retry);
        two_requests_with_a_busy_thread_between(Then::Answers, &Method::POST, retry);
    }
}
