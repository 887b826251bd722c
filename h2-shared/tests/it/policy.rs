//! The policy that a client is given: what does not suit HTTP/2 is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{get, send};
use h2_shared::{BuildError, Client, Key};
use pool_common::Policy;
use pool_common::event::Event;
use pool_common::policy::Retry;
use pool_common::testing::logs;

fn warnings_of(policy: Policy) -> Vec<String> {
    logs::warnings("h2_shared", || {
        Client::builder().policy(policy).build().unwrap();
    })
}

#[test]
fn a_policy_that_repeats_no_request_is_logged_once() {
    let said = warnings_of(Policy { max_open_per_key: Some(4), ..Policy::default() });
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("Client::default_policy()"), "{said:?}");
    for policy in [
        Client::default_policy(),
        Policy { max_open_per_key: Some(4), ..Client::default_policy() },
        Policy { retry: Retry::Unprocessed, ..Policy::default() },
    ] {
        assert!(warnings_of(policy).is_empty());
    }
}

#[tokio::test]
async fn an_observer_of_the_builder_hears_of_a_dial() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let observer = move |_: &Event<Key>| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let client = Client::builder().observer(observer).build().unwrap();
    let nowhere = ([127, 0, 0, 1], 1).into();
    send(&client, get(nowhere, "/")).await.expect_err("nothing listens there");
    assert_ne!(heard.load(Ordering::Relaxed), 0);
}

#[test]
fn a_config_out_of_range_is_told_when_the_client_is_built() {
    let built = Client::builder().change_config(|config| config.max_frame_size = 1).build();
    assert!(matches!(built, Err(BuildError::Config(_))), "{built:?}");
}
