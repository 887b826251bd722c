//! A policy of the user's own: single knobs, and a log line where it repeats nothing.

use pool_common::policy::{Policy, Retry};
use pool_common::testing::logs::warnings;
use resp_pool::{Client, Config};

#[test]
fn a_policy_that_repeats_nothing_is_logged_once() {
    for &retry in Retry::ALL {
        let lines = warnings("resp_pool", || {
            let builder = Client::builder(Config::default());
            drop(builder.change_policy(|policy| policy.retry = retry).build().unwrap().clone());
        });
        assert_eq!(lines.len(), usize::from(retry == Retry::Never), "{lines:?}");
    }
}

#[test]
fn changing_one_knob_keeps_the_others() {
    let own = Policy { retry: Retry::Attempts, ..Policy::default() };
    let builder = Client::builder(Config::default()).policy(own.clone());
    let client = builder.change_policy(|policy| policy.max_idle = Some(5)).build().unwrap();
    assert_eq!(*client.pool().initial_policy(), Policy { max_idle: Some(5), ..own });
}
