//! A policy that does not suit HTTP/2 is logged when a client is made.

use h2_shared::{Client, Config};
use pool_common::policy::{Policy, Retry};
use pool_common::testing::logs::warnings;

#[test]
fn a_policy_that_repeats_nothing_is_logged_once() {
    for &retry in Retry::ALL {
        let policy = Policy { retry, ..Policy::default() };
        let lines = warnings("h2_shared", || {
            drop(Client::with_config(policy, Config::default()).unwrap().clone());
        });
        assert_eq!(lines.len(), usize::from(retry == Retry::Never), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("Client::default_policy()")), "{lines:?}");
    }
    assert_eq!(warnings("h2_shared", || drop(Client::new())), Vec::<String>::new());
}
