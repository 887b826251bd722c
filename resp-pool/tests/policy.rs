//! A policy of the user's own, by single knobs.

use pool_common::policy::{Policy, Retry};
use resp_pool::Client;

#[test]
fn changing_one_knob_keeps_the_others() {
    let own = Policy { retry: Retry::Attempts, ..Policy::default() };
    let builder = Client::builder().policy(own.clone());
    let client = builder.change_policy(|policy| policy.max_idle = Some(5)).build().unwrap();
    assert_eq!(*client.pool().initial_policy(), Policy { max_idle: Some(5), ..own });
}
