//! A redis-server on a Unix socket.

use std::time::Duration;

use pool_common::testing::servers::RedisServer;
use resp_pool::{Client, Config, Protocol};

#[tokio::test]
async fn a_server_on_a_unix_socket_is_pooled_like_any_other() {
    let directory = std::env::temp_dir().join(format!("resp-pool-unix-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("writable");
    let socket = directory.join("redis.sock");
    let path = socket.to_str().expect("plain ASCII");
    let mut server = RedisServer::start(&["--unixsocket", path, "--requirepass", "secret"]);
    for protocol in ["2", "3"] {
        let url = format!("redis+unix://:secret@{path}?db=3&protocol={protocol}");
        let config: Config = url.parse().expect("a good URL");
        assert_eq!(config.protocol == Protocol::Resp3, protocol == "3");
        let client = Client::builder().config(config).build().expect("a good config");
        for n in 0..20 {
            client.set("n", n.to_string()).await.expect("stored");
            assert_eq!(client.get::<u32>("n").await.expect("there"), n);
        }
        let peer: String = client.query(&["CLIENT", "INFO"]).await.expect("allowed");
        assert!(peer.contains(&format!("addr={path}:0")) && peer.contains(" db=3 "), "{peer}");
        assert_eq!(client.pool().stats().opened, 1);

        // Another client kills the connection while it is idle. The next command is not its victim.
        let killer = Client::open(&format!("redis+unix://:secret@{path}")).expect("a good URL");
        let id: String =
            client.query(&["CLIENT", "ID"]).await.map(|id: i64| id.to_string()).expect("an id");
        let _: i64 = killer.query(&["CLIENT", "KILL", "ID", &id]).await.expect("killed");
        assert_eq!(client.get::<u32>("n").await.expect("on another connection"), 19);
        assert_eq!(client.pool().stats().opened, 2);
        client.close().await;
    }
    server.stop();
    let client = Client::open(&format!("unix://:secret@{path}")).expect("a good URL");
    let error = client.get::<Option<u32>>("n").await.expect_err("it has stopped");
    assert!(error.to_string().contains("redis.sock"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    tokio::time::timeout(Duration::from_secs(10), client.close()).await.expect("nothing is left");
    std::fs::remove_dir_all(&directory).expect("writable");
}
