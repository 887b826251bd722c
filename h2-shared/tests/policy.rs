//! The policy that a client is given: what does not suit HTTP/2 is said.

mod support;

use h2_shared::Client;
use pool_common::Policy;
use pool_common::policy::Retry;
use support::log::Log;
use tracing::Level;

fn warnings_of(policy: Policy) -> Vec<String> {
    let warnings = Log::new(Level::WARN);
    tracing::subscriber::with_default(warnings.clone(), || {
        Client::builder().policy(policy).build().unwrap();
    });
    warnings.events()
}

#[test]
fn a_policy_that_repeats_no_request_is_said_once() {
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
