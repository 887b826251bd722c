//! HTTP/2 through the tunnel of a proxy.

use bytes::Bytes;
use h2_shared::{Client, ConnectError, Error};
use http::Request;
use http_body_util::{BodyExt, Empty};
use pool_common::DialError;
use pool_common::connect::{ConnectStage, Partition, Proxy};
use pool_common::testing::servers::{NghttpdServer, TinyproxyServer};

use crate::support::{assert_clean, eventually};

fn through(uri: &str) -> Client {
    Client::builder().proxy(Proxy::new(uri).unwrap()).build().unwrap()
}

async fn get(client: &Client, uri: &str) -> Result<Bytes, Error> {
    let response = client.request(Request::get(uri).body(Empty::<Bytes>::new()).unwrap()).await?;
    assert_eq!(response.status(), 200);
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn plain_http2_goes_through_a_tunnel_of_a_real_proxy() {
    let server = NghttpdServer::start(&[]);
    let proxy = TinyproxyServer::start("BasicAuth user pass");
    let client = through(&format!("http://user:pass@{}", proxy.addr()));
    let uri = format!("http://{}/", server.addr());
    for _ in 0..5 {
        assert_eq!(get(&client, &uri).await.unwrap(), "hello\n");
    }
    assert_eq!(client.pool().stats().opened, 1);
    let log = proxy.log();
    assert_eq!(log.matches("CONNECT 127.0.0.1:").count(), 1, "{log}");
    assert_clean(&client).await;
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn http2_over_tls_goes_through_a_tunnel_of_a_real_proxy() {
    use pool_common::connect::Tls;
    use pool_common::testing::certificates::Authority;

    let authority = Authority::new();
    let server = NghttpdServer::start_tls(&authority.issue(&["localhost"]));
    let proxy = TinyproxyServer::start("");
    let tls = Tls::builder().only_added_roots().add_roots_pem(authority.pem()).build().unwrap();
    let rules = Proxy::builder().https(&proxy.addr().to_string()).build().unwrap();
    let client = Client::builder().tls(tls).proxy(rules).build().unwrap();
    let uri = format!("https://localhost:{}/", server.addr().port());
    for _ in 0..5 {
        assert_eq!(get(&client, &uri).await.unwrap(), "hello\n");
    }
    assert_eq!(client.pool().stats().opened, 1);
    let log = proxy.log();
    assert_eq!(log.matches("CONNECT localhost:").count(), 1, "{log}");
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_the_way_out() {
    let login = TinyproxyServer::start("BasicAuth user pass");
    let rules = TinyproxyServer::start("ConnectPort 443");
    for (proxy, said) in [(&login, "put user and password"), (&rules, "do not allow this host")] {
        let client = through(&proxy.addr().to_string());
        let error = get(&client, "http://localhost:9/").await.unwrap_err();
        let text = error.to_string();
        assert!(!error.may_have_executed(), "{text}");
        let Error::Acquire(error) = error else { panic!("{text}") };
        let Some(DialError::Failed(error)) = error.dial_error() else { panic!("{text}") };
        let ConnectError::Connect(error) = &**error else { panic!("{text}") };
        assert_eq!(error.stage(), ConnectStage::Proxy, "{text}");
        let name = format!("localhost:9: the proxy http://{} answered CONNECT", proxy.addr());
        assert!(text.contains(&name) && text.contains(said), "{text}");
        eventually("no dial is left", || client.pool().status().open == 0).await;
    }
}

#[tokio::test]
async fn partitions_do_not_share_connections() {
    let server = NghttpdServer::start(&[]);
    let client = Client::new();
    for _ in 0..2 {
        for part in [Partition::default(), 1.into(), "1".into()] {
            let mut request = Request::get(format!("http://{}/", server.addr()));
            request.extensions_mut().unwrap().insert(part);
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = client.request(request).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    }
    assert_eq!(client.pool().stats().opened, 3);
}
