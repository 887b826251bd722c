//! The policy that a client is given: what does not suit HTTP/2 is said.

use h2_shared::{Client, Config};
use pool_common::Policy;
use pool_common::policy::Retry;
use pool_common::testing::logs;

fn warnings_of(policy: Policy) -> Vec<String> {
    logs::warnings("h2_shared", || {
        Client::with_config(policy, Config::default()).unwrap();
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
