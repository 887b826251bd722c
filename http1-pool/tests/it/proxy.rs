//! Requests through HTTP proxies: a real one, and scripted ones that refuse, fall silent or talk nonsense.

use http::Request;
use http1_pool::{Body, Client, Error, Key};
use pool_common::DialError;
use pool_common::connect::{ConnectStage, Partition, Proxy};
use pool_common::testing::servers::{NginxServer, TinyproxyServer};
use tokio::net::TcpListener;

use crate::support::{Peer, fetch, finished, get, settled, within};

const NONCE: &str = "location /nonce { return 200 \"$host $arg_n\"; }";

fn through(uri: &str) -> Client {
    Client::builder().proxy(Proxy::new(uri).unwrap()).build().unwrap()
}

async fn text(client: &Client, uri: &str) -> Result<(u16, String), Error> {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    fetch(client, request).await.map(|(head, text)| (head.status().as_u16(), text))
}

#[tokio::test]
async fn plain_requests_go_to_a_real_proxy_in_absolute_form() {
    let server = NginxServer::start(NONCE);
    let proxy = TinyproxyServer::start("BasicAuth user pass");
    let (to, uri) = (proxy.addr(), format!("http://{}/nonce?n=", server.addr()));
    let client = through(&format!("http://user:pass@{to}"));
    for n in 0..5 {
        let answer = text(&client, &format!("{uri}{n}")).await.unwrap();
        assert_eq!(answer, (200, format!("127.0.0.1 {n}")));
    }
    assert_eq!(proxy.log().matches("/nonce?n=").count(), 5, "{}", proxy.log());
    settled(&client).await;
    // The answer of a proxy that wants a login is an answer.
    let (status, _) = text(&through(&to.to_string()), &uri).await.unwrap();
    assert_eq!(status, 407);
}

#[tokio::test]
async fn a_proxy_gets_the_whole_uri_and_the_login_on_a_connection_that_is_reused() {
    let peer = Peer::start(|mut wire, _| async move {
        while let Some(request) = wire.head().await {
            wire.reply(&request.head).await;
        }
    })
    .await;
    let client = through(&format!("http://user:secret@{}", peer.addr));
    let (_, head) = text(&client, "http://a.example/x?y").await.unwrap();
    assert_eq!(
        head,
        "GET http://a.example/x?y HTTP/1.1\r\nhost: a.example\r\n\
         proxy-authorization: Basic dXNlcjpzZWNyZXQ="
    );
    let server = http::Uri::builder().scheme("http").authority("A.example:80").path_and_query("*");
    let request = Request::options(server.build().unwrap()).header("proxy-authorization", "Own x");
    let (_, head) = fetch(&client, request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(
        head,
        "OPTIONS http://A.example:80 HTTP/1.1\r\nhost: A.example:80\r\nproxy-authorization: Own x"
    );
    // Each origin has its own connections, and so its own limits.
    assert_eq!(peer.accepted(), 1);
    text(&client, "http://b.example/").await.unwrap();
    assert_eq!(peer.accepted(), 2);
    let key = client.pool().manager().key(&http::Uri::from_static("http://b.example/")).unwrap();
    assert_eq!(key.to_string(), format!("http://b.example:80 through http://{}", peer.addr));
    finished(&client, &peer).await;
}

#[tokio::test]
async fn exceptions_are_not_sent_to_a_proxy_and_the_clients_own_connect_is() {
    let (peer, proxy) = (Peer::echo().await, Peer::echo().await);
    let rules = Proxy::builder().all(&proxy.addr.to_string()).no_proxy("127.0.0.0/8").build();
    let client = Client::builder().proxy(rules.unwrap()).build().unwrap();
    assert_eq!(fetch(&client, get(&peer, "/direct")).await.unwrap().1, "/direct");
    let client = through(&proxy.addr.to_string());
    let request = Request::connect(peer.addr.to_string()).body(Body::empty()).unwrap();
    let response = within(client.request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!((peer.accepted(), proxy.accepted()), (1, 1));
    #[cfg(feature = "rustls")]
    {
        let https: http::Uri = "https://10.1.1.1/".parse().unwrap();
        let key = client.pool().manager().key(&https).unwrap();
        assert!(key.proxy().is_some() && !key.is_forwarded());
    }
}

#[tokio::test]
async fn a_key_without_a_proxy_is_dialed_through_it_as_well() {
    let peer = Peer::echo().await;
    let client = through(&peer.addr.to_string());
    let uri = http::Uri::from_static("http://a.invalid/x");
    drop(client.pool().acquire(&Key::from_uri(&uri).unwrap()).await.unwrap());
    assert_eq!(peer.accepted(), 1);
    assert_eq!(text(&client, &uri.to_string()).await.unwrap().1, "http://a.invalid/x");
}

#[tokio::test]
async fn partitions_do_not_share_connections() {
    let peer = Peer::start(|mut wire, number| async move {
        while wire.head().await.is_some() {
            wire.reply(&number.to_string()).await;
        }
    })
    .await;
    let client = Client::new();
    let parts = [None, Some(Partition::from(1)), Some("1".into()), Some(2.into())];
    for _ in 0..2 {
        for (number, part) in parts.iter().enumerate() {
            let mut request = get(&peer, "/");
            if let Some(part) = part {
                request.extensions_mut().insert(part.clone());
            }
            assert_eq!(fetch(&client, request).await.unwrap().1, number.to_string());
        }
    }
    let mut default = get(&peer, "/");
    default.extensions_mut().insert(Partition::default());
    assert_eq!(fetch(&client, default).await.unwrap().1, "0");
}

/// The failed dial behind an error. Nothing of the client is left in use.
async fn failed(client: &Client, uri: &str) -> (ConnectStage, String) {
    let error = text(client, uri).await.unwrap_err();
    assert!(!error.may_have_executed());
    let text = error.to_string();
    let Error::Acquire(error) = error else { panic!("{text}") };
    let Some(DialError::Failed(error)) = error.dial_error() else { panic!("{text}") };
    assert_eq!(error.peer(), uri.split('/').nth(2).unwrap());
    settled(client).await;
    assert_eq!(client.pool().status().open, 0);
    assert!(!text.contains("secret"), "{text}");
    (error.stage(), text)
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (stage, text) = failed(&through(&addr.to_string()), "http://a.invalid:80/").await;
    assert_eq!(stage, ConnectStage::Proxy);
    let said = format!("the proxy http://{addr} cannot be reached");
    assert!(text.contains(&said) && text.contains("does it run"), "{text}");
}

#[cfg(feature = "rustls")]
mod tls {
    use std::time::Duration;

    use pool_common::connect::{Connector, Tls, TlsBuilder};
    use pool_common::policy::Dial;
    use pool_common::testing::certificates::Authority;
    use tokio::io::copy_bidirectional;
    use tokio::net::TcpStream;

    use super::*;
    use crate::support::{Wire, until};

    /// A proxy that opens every tunnel.
    async fn open_tunnel(mut wire: Wire, _: usize) {
        let request = wire.head().await.unwrap();
        let target = TcpStream::connect(&request.target).await;
        wire.send("HTTP/1.1 200 Connection established\r\n\r\n").await;
        let _ = copy_bidirectional(&mut wire.stream, &mut target.unwrap()).await;
    }

    fn trusting(authority: &Authority) -> TlsBuilder {
        Tls::builder().only_added_roots().add_roots_pem(authority.pem())
    }

    #[tokio::test]
    async fn tls_goes_through_a_tunnel_of_a_real_proxy() {
        let authority = Authority::new();
        let server = NginxServer::start_tls(&authority.issue(&["localhost"]), false, NONCE);
        let proxy = TinyproxyServer::start("BasicAuth user pass");
        let client = Client::builder()
            .proxy(Proxy::new(&format!("http://user:%70ass@{}", proxy.addr())).unwrap())
            .tls(trusting(&authority).build().unwrap())
            .connector(Connector::default())
            .build()
            .unwrap();
        let uri = format!("https://localhost:{}/nonce?n=", server.addr().port());
        for n in 0..5 {
            let answer = text(&client, &format!("{uri}{n}")).await.unwrap();
            assert_eq!(answer, (200, format!("localhost {n}")));
        }
        // The peek works through the tunnel: session tickets are no stray bytes.
        tokio::time::sleep(Duration::from_millis(600)).await;
        text(&client, &uri).await.unwrap();
        assert_eq!(client.pool().stats().opened, 1);
        let log = proxy.log();
        assert_eq!(log.matches("CONNECT localhost:").count(), 1, "{log}");
        client.close().await;
        settled(&client).await;
    }

    #[tokio::test]
    async fn a_real_proxy_that_refuses_is_named_with_the_way_out() {
        let login = TinyproxyServer::start("BasicAuth user pass");
        let rules = TinyproxyServer::start("ConnectPort 443");
        for (proxy, user, said) in [
            (&login, "", ["407", "put user and password"]),
            (&login, "user:secret@", ["40", "the proxy"]),
            (&rules, "", ["403", "do not allow this host or port"]),
        ] {
            let uri = format!("http://{user}{}", proxy.addr());
            let (stage, text) = failed(&through(&uri), "https://localhost:9/").await;
            assert_eq!(stage, ConnectStage::Proxy, "{text}");
            let name = format!("the proxy http://{} answered CONNECT with", proxy.addr());
            assert!(text.contains(&name) && said.iter().all(|it| text.contains(it)), "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_told_from_a_refusal() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(20_000));
        for (answer, said) in [
            ("SSH-2.0-OpenSSH_9.9\r\n", "port of an HTTP proxy?"),
            (&long, "more than 16384 bytes"),
            ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "407"),
            ("", "closed the connection instead"),
        ] {
            let answer = answer.to_owned();
            let peer = Peer::start(move |mut wire, _| {
                let answer = answer.clone();
                async move {
                    wire.head().await;
                    wire.send(answer).await;
                }
            })
            .await;
            let client = through(&peer.addr.to_string());
            let (stage, text) = failed(&client, "https://a.invalid:443/").await;
            assert_eq!(stage, ConnectStage::Proxy, "{text}");
            assert!(text.contains(&format!("the proxy http://{} ", peer.addr)), "{text}");
            assert!(text.contains(said), "{text}");
            finished(&client, &peer).await;
        }
    }

    #[tokio::test]
    async fn a_silent_proxy_costs_the_time_of_the_dial() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        // The second limit bounds the dial of a caller that dials for itself.
        for (dial, acquire) in [(200, 10_000), (10_000, 200)] {
            let client = Client::builder()
                .proxy(Proxy::new(&addr.to_string()).unwrap())
                .change_policy(|policy| {
                    policy.dial = Dial::Caller;
                    policy.dial_timeout = Duration::from_millis(dial);
                    policy.acquire_timeout = Some(Duration::from_millis(acquire));
                })
                .build()
                .unwrap();
            let (stage, text) = failed(&client, "https://a.invalid:443/").await;
            assert_eq!(stage, ConnectStage::Proxy, "{text}");
            let said = format!("the proxy http://{addr} did not answer CONNECT in time");
            assert!(text.contains(&said), "{text}");
        }
    }

    #[tokio::test]
    async fn a_login_that_is_refused_is_not_tried_again_in_the_background() {
        let peer = Peer::start(|mut wire, _| async move {
            wire.head().await;
            wire.send("HTTP/1.1 407 No\r\n\r\n").await;
        })
        .await;
        let client = Client::builder()
            .proxy(Proxy::new(&peer.addr.to_string()).unwrap())
            .change_policy(|policy| policy.min_idle = 2)
            .build()
            .unwrap();
        let key = client.pool().manager().key(&"https://a.invalid/".parse().unwrap()).unwrap();
        client.pool().warm_up(&key);
        until(|| peer.accepted() == 1 && client.pool().status().dialing == 0).await;
        // Without a refusal the floor would dial again after 100 ms or so.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(peer.accepted(), 1);
    }

    #[tokio::test]
    async fn a_failure_behind_the_tunnel_is_the_handshakes() {
        let plain = NginxServer::start(NONCE);
        let proxy = Peer::start(open_tunnel).await;
        let uri = format!("https://{}/", plain.addr());
        let (stage, text) = failed(&through(&proxy.addr.to_string()), &uri).await;
        assert_eq!(stage, ConnectStage::Tls, "{text}");
        until(|| proxy.open() == 0).await;
    }
}
