//! Every surveyed strategy, over HTTP/1.

use crate::support::{Peer, answers_are_own, fetch, finished, look_at_sockets, within};
use http::Request;
use http1_pool::{Body, Client, Error};
use pool_common::policy::AtLimit;
use pool_common::profile::Profile;

#[tokio::test]
async fn every_profile_serves_concurrent_callers_with_their_own_answers() {
    for profile in Profile::all() {
        let peer = Peer::echo().await;
        let client = Client::builder().profile(&profile).build().unwrap();
        let callers: Vec<_> = (0..12)
            .map(|caller| {
                let (client, uri) = (client.clone(), peer.uri(""));
                let may_fail = profile.policy.at_limit == AtLimit::Fail;
                tokio::spawn(async move {
                    for step in 0..20 {
                        let path = format!("/{caller}/{step}");
                        let request =
                            Request::get(format!("{uri}{path}")).body(Body::empty()).unwrap();
                        match fetch(&client, request).await {
                            Ok((_, body)) => assert_eq!(body, path),
                            Err(Error::Acquire(pool_common::Error::Exhausted { .. }))
                                if may_fail => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            within(caller).await.unwrap();
        }
        answers_are_own(&client, &peer).await;
        if let Some(limit) = profile.policy.max_open_per_key {
            assert!(client.pool().stats().peak_open <= limit, "{}", profile.name);
        }
        finished(&client, &peer).await;
    }
}

/// The server ends every connection after three answers, while requests keep coming.
#[tokio::test]
async fn every_profile_lives_with_a_server_that_closes() {
    for profile in Profile::all() {
        let peer = Peer::start(|mut wire, _| async move {
            for _ in 0..3 {
                let Some(request) = wire.head().await else {
                    return;
                };
                wire.reply(&request.target).await;
            }
        })
        .await;
        let client = Client::builder().profile(&profile).build().unwrap();
        for step in 0..30 {
            look_at_sockets().await;
            let path = format!("/{step}");
            let request = Request::get(peer.uri(&path)).body(Body::empty()).unwrap();
            match fetch(&client, request).await {
                Ok((_, body)) => assert_eq!(body, path, "{}", profile.name),
                // This is the price of a policy without a look before lending and without retries.
                Err(Error::Closed { .. } | Error::Io { .. }) => {
                    assert!(!profile.policy.peek, "{}", profile.name);
                }
                Err(error) => panic!("{}: {error}", profile.name),
            }
        }
        finished(&client, &peer).await;
    }
}
