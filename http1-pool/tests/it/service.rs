//! A connector of the user's, as a tower service.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use http1_pool::Client;
use pool_common::connect::Connector;
use pool_common::testing::servers::NginxServer;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::support::settled;

/// Leads every host to one server, and counts nothing: the pool does.
#[derive(Clone)]
struct AllTo(SocketAddr);

impl Service<Uri> for AllTo {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        assert_eq!(uri.scheme_str(), Some("tcp"));
        Box::pin(TcpStream::connect(self.0))
    }
}

#[tokio::test]
async fn requests_go_over_the_streams_of_a_service() {
    let mut server = NginxServer::start("location /host { return 200 $http_host; }");
    let connector = Connector::service(AllTo(server.addr()));
    let client = Client::builder().connector(connector).build().unwrap();
    let ask = async |host: &str| {
        let response = client.get(format!("http://{host}/host").parse().unwrap()).await.unwrap();
        response.into_body().read_all(100).await.unwrap()
    };
    for _ in 0..20 {
        assert_eq!(ask("one.example").await, "one.example");
        assert_eq!(ask("two.example:81").await, "two.example:81");
    }
    assert_eq!(client.pool().stats().opened, 2);
    // The ends of the idle connections are seen, and the next requests are not their victims.
    server.restart();
    assert_eq!(ask("one.example").await, "one.example");
    assert_eq!(client.pool().stats().opened, 3);
    client.close().await;
    settled(&client).await;
}
