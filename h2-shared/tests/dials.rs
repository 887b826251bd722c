//! Further dials that fail beside a connection that works.

mod support;

use std::time::Duration;

use h2_shared::{Client, Config};
use pool_common::Policy;
use pool_common::policy::AfterFailedDial;
use pool_common::profile::{go_redis, grpc, net_http_h2};
use support::raw::{HEADERS, RawServer};
use support::{get, read, send};

/// The first connection serves four streams at a time; all others are reset before their SETTINGS.
#[tokio::test]
async fn a_further_dial_that_fails_fails_no_caller_beside_a_connection_that_works() {
    let default = Client::default_policy;
    let policies = [
        ("default", default()),
        ("tell", Policy { after_failed_dial: AfterFailedDial::Tell, ..default() }),
        ("net-http-h2", net_http_h2().policy),
        ("grpc", grpc().policy),
        ("go-redis", Policy { acquire_timeout: default().acquire_timeout, ..go_redis().policy }),
    ];
    for (name, policy) in policies {
        let server = RawServer::start().await;
        let addr = server.addr;
        let accept = tokio::spawn(async move {
            let mut first = server.accept(Some(4)).await;
            tokio::spawn(async move {
                while let Some(frame) = first.read().await {
                    if frame.kind == HEADERS {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        first.respond(frame.stream, b"ok").await;
                    }
                }
            });
            loop {
                drop(server.accept_silent().await);
            }
        });
        let client = Client::with_config(policy, Config::default()).unwrap();
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(
                    async move { read(send(&client, get(addr, "/")).await?.into_body()).await },
                )
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            assert_eq!(answer.unwrap_or_else(|error| panic!("{name}: {error}")), "ok");
        }
        accept.abort();
    }
}
