//! The framing headers of a caller never decide where its request ends. Hyper's server, as the
//! judge, sees exactly one request with exactly its body, or nothing was sent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use crate::support::{Peer, fed, fetch, finished, look_at_sockets, within};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use http1_pool::{Body, Client, Error};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// What a server makes of it that takes it for chunks: an end, and another request.
const EVIL: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// A request that a server read to its end.
#[derive(Debug, PartialEq)]
struct Seen {
    line: String,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A hyper server that writes down what it reads.
async fn judge() -> (Peer, Log) {
    let log = Log::default();
    let shared = Arc::clone(&log);
    let peer = Peer::start(move |wire, _| {
        let log = Arc::clone(&shared);
        let service = service_fn(move |request: Request<Incoming>| {
            let log = Arc::clone(&log);
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                if let Ok(body) = request.into_body().collect().await {
                    let trailers = body.trailers().cloned();
                    log.lock().unwrap().push(Seen { line, body: body.to_bytes(), trailers });
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            }
        });
        async move {
            // A request that is given up in the middle is an error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(wire.stream), service)
                .await;
        }
    })
    .await;
    (peer, log)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Empty,
    Whole,
    /// Frames that are there before, or come after the request was begun.
    Stream {
        known: bool,
        trailers: bool,
        late: bool,
    },
}

impl Kind {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Empty, Self::Whole];
        for bits in 0..8 {
            let (known, trailers, late) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            all.push(Self::Stream { known, trailers, late });
        }
        all
    }

    fn text(self) -> &'static str {
        if self == Self::Empty { "" } else { EVIL }
    }

    fn is_known(self) -> bool {
        !matches!(self, Self::Stream { known: false, .. })
    }

    async fn send(self, client: &Client, request: http::request::Builder) -> Result<(), Error> {
        let response = match self {
            Self::Empty => client.request(request.body(Body::empty()).unwrap()).await?,
            Self::Whole => client.request(request.body(Body::from(EVIL)).unwrap()).await?,
            Self::Stream { known, trailers, late } => {
                let (sender, body) = fed(known.then_some(EVIL.len() as u64));
                let feed = async move {
                    // Dropped already if the request was refused.
                    for piece in [&EVIL[..1], &EVIL[1..]] {
                        if late {
                            look_at_sockets().await;
                        }
                        let _ = sender.send(Frame::data(Bytes::from_static(piece.as_bytes())));
                    }
                    if trailers {
                        let _ = sender.send(Frame::trailers(checksum()));
                    }
                };
                let request = client.request(request.body(body).unwrap());
                if late {
                    tokio::join!(request, feed).0?
                } else {
                    feed.await;
                    request.await?
                }
            }
        };
        response.into_body().read_all(10).await.map(drop)
    }
}

fn checksum() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-sum"), "5".parse().unwrap())])
}

/// What is expected of a set of framing headers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Say {
    Fine,
    /// A `Content-Length` that is right.
    Length,
    /// A `Content-Length` that is wrong.
    WrongLength,
    Nonsense,
}

/// Sets of framing headers, for a body of `length` bytes.
fn sayings(length: usize) -> Vec<(Say, Vec<(&'static str, String)>)> {
    let coding = |value: &str| ("Transfer-Encoding", value.to_owned());
    let size = |value: usize| ("Content-Length", value.to_string());
    let mut all = vec![
        (Say::Fine, vec![]),
        (Say::Fine, vec![coding("chunked")]),
        (Say::Fine, vec![("tRaNsFeR-eNcOdInG", "cHuNkEd".to_owned())]),
        (Say::Length, vec![size(length)]),
        (Say::Length, vec![("cOnTeNt-LeNgTh", format!("00{length}"))]),
        (Say::Length, vec![size(length), size(length)]),
        (Say::WrongLength, vec![size(length + 1)]),
        (Say::Nonsense, vec![size(length), size(length + 1)]),
        (Say::Nonsense, vec![("content-length", format!("{length}, {length}"))]),
        (Say::Nonsense, vec![("content-length", format!("+{length}"))]),
        (Say::Nonsense, vec![size(length), coding("chunked")]),
        (Say::Nonsense, vec![coding("chunked"), coding("chunked")]),
        (Say::Nonsense, vec![coding("chunked"), coding("identity")]),
        (Say::Nonsense, vec![("connection", "close, content-length".to_owned())]),
        (Say::Nonsense, vec![("connection", "Transfer-Encoding".to_owned())]),
    ];
    for other in ["", "gzip", "gzip, chunked", "chunked, gzip", "identity", "chunked ", "xchunked"]
    {
        all.push((Say::Nonsense, vec![coding(other)]));
    }
    if length > 0 {
        all.push((Say::WrongLength, vec![size(length - 1)]));
    }
    all
}

async fn put_to_the_judge(kind: Kind, method: &Method, version: Version) {
    for (say, headers) in sayings(kind.text().len()) {
        let case = format!("{kind:?} {method} {version:?} {headers:?}");
        let (peer, log) = judge().await;
        let client = Client::new();
        let mut request = Request::builder().method(method).version(version).uri(peer.uri("/case"));
        for (name, value) in headers {
            request = request.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let result = within(kind.send(&client, request)).await;
        let dialed = client.pool().stats() != pool_common::Stats::default();

        let chunked = !kind.is_known() && say == Say::Fine;
        let right = match say {
            Say::Fine => !chunked || version == Version::HTTP_11,
            Say::Length => true,
            Say::WrongLength | Say::Nonsense => false,
        };
        assert_eq!(result.is_ok(), right, "{case}: {result:?}");
        // The length of a stream is known only at its end.
        assert_eq!(dialed, right || (say == Say::WrongLength && !kind.is_known()), "{case}");

        // Whatever was sent too much would be taken for a part of this.
        let after = Request::get(peer.uri("/after")).body(Body::empty()).unwrap();
        fetch(&client, after).await.unwrap();
        if right && version == Version::HTTP_11 {
            assert_eq!(peer.accepted(), 1, "{case}");
        }
        finished(&client, &peer).await;

        let mut expected = Vec::new();
        if right {
            let sends_trailers = chunked && matches!(kind, Kind::Stream { trailers: true, .. });
            expected.push(Seen {
                line: format!("{method} /case"),
                body: Bytes::from_static(kind.text().as_bytes()),
                trailers: sends_trailers.then(checksum),
            });
        }
        expected.push(Seen { line: "GET /after".to_owned(), body: Bytes::new(), trailers: None });
        assert_eq!(*log.lock().unwrap(), expected, "{case}");
    }
}

#[tokio::test]
async fn hyper_sees_one_request_with_its_body_or_none() {
    for kind in Kind::all() {
        put_to_the_judge(kind, &Method::POST, Version::HTTP_11).await;
    }
}

#[tokio::test]
async fn the_method_does_not_change_where_a_request_ends() {
    let own = Method::from_bytes(b"x").unwrap();
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, own] {
        for kind in Kind::all() {
            put_to_the_judge(kind, &method, Version::HTTP_11).await;
        }
    }
}

#[tokio::test]
async fn a_request_of_http_1_0_is_never_chunked() {
    for kind in Kind::all() {
        put_to_the_judge(kind, &Method::POST, Version::HTTP_10).await;
    }
}

#[tokio::test]
async fn a_body_in_memory_is_not_sent_as_if_it_were_chunks() {
    let (peer, log) = judge().await;
    let client = Client::new();
    for body in [EVIL, ""] {
        let request = Request::post(peer.uri("/first")).header("transfer-encoding", "chunked");
        fetch(&client, request.body(Body::from(body)).unwrap()).await.unwrap();
        let victim = Request::get(peer.uri("/victim")).body(Body::empty()).unwrap();
        fetch(&client, victim).await.unwrap();
        let lines: Vec<_> = log.lock().unwrap().drain(..).map(|seen| seen.line).collect();
        assert_eq!(lines, ["POST /first", "GET /victim"]);
    }
    finished(&client, &peer).await;
}

#[tokio::test]
async fn upgrades_and_hop_by_hop_options_leave_the_framing_alone() {
    for headers in [
        &[("connection", "upgrade"), ("upgrade", "h2c")][..],
        &[("connection", "close, te"), ("te", "trailers")],
        &[("connection", "te"), ("te", "trailers, chunked"), ("trailer", "x-sum")],
        &[("expect", "100-continue")],
        &[("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive")],
    ] {
        for kind in Kind::all() {
            let (peer, log) = judge().await;
            let client = Client::new();
            let mut request = Request::post(peer.uri("/case"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            within(kind.send(&client, request)).await.unwrap();
            let after = Request::get(peer.uri("/after")).body(Body::empty()).unwrap();
            fetch(&client, after).await.unwrap();
            finished(&client, &peer).await;
            let log = log.lock().unwrap();
            let seen: Vec<_> = log.iter().map(|it| (it.line.as_str(), &it.body[..])).collect();
            let body = kind.text().as_bytes();
            assert_eq!(seen, [("POST /case", body), ("GET /after", b"")], "{headers:?} {kind:?}");
        }
    }
}
