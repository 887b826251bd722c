//! Unread responses, and the streams beside them.

use crate::support::echo::EchoServer;
use crate::support::{
    assert_clean, assert_echoes, client, eventually, get, plain_client, read, send,
};

const MIB: usize = 1 << 20;

/// One more than the window of the connection holds, and each as large as that of its stream.
#[tokio::test]
async fn unread_responses_do_not_starve_the_other_streams() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let mut unread = Vec::new();
    for _ in 0..12 {
        unread.push(send(&client, get(server.addr, &format!("/bytes/{MIB}"))).await.unwrap());
    }
    assert_echoes(&client, server.addr, 4).await;
    let response = send(&client, get(server.addr, "/bytes/300000")).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().len(), 300_000);
    assert_eq!(server.seen.connections(), 1);
    for response in unread {
        assert_eq!(read(response.into_body()).await.unwrap().len(), MIB);
    }
    assert_clean(&client).await;
}

/// The bound on the memory of unread responses holds, and requests go on elsewhere.
#[tokio::test]
async fn a_connection_full_of_unread_responses_gets_no_new_requests_until_they_are_read() {
    let server = EchoServer::plain().await;
    let client = client(
        |_| {},
        |c| {
            c.stream_window = 65_535;
            c.connection_window = 65_535;
            c.max_connection_window = 4 * 65_535;
        },
    );
    let connection = |response: &http::Response<h2_shared::Body>| {
        response.headers()["x-connection"].to_str().unwrap().to_owned()
    };
    let mut unread = Vec::new();
    // Each takes what its stream may, so five are more than the connection may.
    while server.seen.connections() < 2 {
        assert!(unread.len() < 200, "the connection is used on and on");
        unread.push(send(&client, get(server.addr, "/bytes/100000")).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(connection(unread.last().unwrap()), "2");
    for response in unread {
        assert_eq!(read(response.into_body()).await.unwrap().len(), 100_000);
    }
    eventually("both are usable", || client.pool().status().leases == 0).await;
    let response = send(&client, get(server.addr, "/bytes/10")).await.unwrap();
    assert_eq!(connection(&response), "1", "the first one is trusted again");
    read(response.into_body()).await.unwrap();
    assert_clean(&client).await;
}
