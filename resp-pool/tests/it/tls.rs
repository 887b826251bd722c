//! A redis-server that speaks TLS.

use std::time::Duration;

use pool_common::DialError;
use pool_common::connect::{ConnectStage, Tls, TlsBuilder};
use pool_common::testing::certificates::{Authority, Identity};
use pool_common::testing::servers::RedisServer;
use resp_pool::{Client, Config, Error, Pipeline, cmd};

fn trusting(authority: &Authority) -> TlsBuilder {
    Tls::builder().only_added_roots().add_roots_pem(authority.pem())
}

fn client(port: u16, tls: TlsBuilder, rest: &str) -> Client {
    let config: Config = format!("rediss://:secret@localhost:{port}{rest}").parse().expect("a URL");
    let tls = tls.build().expect("good settings");
    Client::builder().config(config).tls(tls).build().expect("a good config")
}

#[tokio::test]
async fn commands_over_tls_share_one_connection() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    let server = RedisServer::start_tls(&identity, &["--requirepass", "secret"]);
    for protocol in ["2", "3"] {
        let rest = format!("/3?protocol={protocol}");
        let client = client(server.addr().port(), trusting(&authority), &rest);
        for n in 0..20 {
            client.set("n", n.to_string()).await.expect("stored");
            assert_eq!(client.get::<u32>("n").await.expect("there"), n);
        }
        // More than the buffers of TLS and of the socket take at once, in both directions.
        let large = "x".repeat(3 << 20);
        client.set("large", large.as_str()).await.expect("stored");
        assert!(client.get::<String>("large").await.expect("there") == large);
        let mut pipeline = Pipeline::new();
        for _ in 0..100 {
            pipeline.add(&["INCR", "count"]);
        }
        assert_eq!(client.pipeline(&pipeline).await.expect("counted").len(), 100);
        // The pool looks at the idle connection, which has had session tickets.
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(client.get::<u32>("n").await.expect("there"), 19);
        assert_eq!(client.pool().stats().opened, 1);

        // A connection that the server closes while it is idle is not the next command's.
        let id: i64 = client.query(&["CLIENT", "ID"]).await.expect("an id");
        let killer = self::client(server.addr().port(), trusting(&authority), "");
        let _: i64 =
            killer.query(&cmd("CLIENT").arg("KILL").arg("ID").arg(id)).await.expect("killed");
        assert_eq!(client.get::<u32>("n").await.expect("on another connection"), 19);
        assert_eq!(client.pool().stats().opened, 2);
        client.close().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_no_password() {
    let authority = Authority::new();
    for (identity, said) in [
        (authority.issue_expired(&["localhost"]), "expired"),
        (Identity::self_signed(&["localhost"]), "UnknownIssuer"),
        (authority.issue(&["other.example"]), "not valid for name"),
    ] {
        let server = RedisServer::start_tls(&identity, &[]);
        let client = client(server.addr().port(), trusting(&authority), "");
        let error = client.get::<Option<u32>>("n").await.expect_err("not trusted");
        let text = error.to_string();
        assert!(text.contains(said) && !text.contains("secret"), "{text}");
        let Error::Acquire(error) = error else { panic!("{text}") };
        let Some(DialError::Failed(error)) = error.dial_error() else { panic!("{text}") };
        let Error::Connect(error) = &**error else { panic!("{text}") };
        assert_eq!(error.stage(), ConnectStage::Tls);
        assert_eq!(client.pool().status().open, 0);
    }
    let plain = RedisServer::start(&[]);
    let client = client(plain.addr().port(), trusting(&authority), "");
    let error = client.get::<Option<u32>>("n").await.expect_err("plain text");
    assert!(error.to_string().contains("TLS handshake"), "{error}");
}
