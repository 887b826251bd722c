//! A policy of the user's own, by single knobs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pool_common::{
    Pool,
    event::Event,
    policy::{Policy, Retry},
};
use resp_pool::{BuildError, Client, Config, Key, Manager};

#[test]
fn changing_one_knob_keeps_the_others() {
    let own = Policy { retry: Retry::Attempts, ..Policy::default() };
    let builder = Client::builder().policy(own.clone());
    let client = builder.change_policy(|policy| policy.max_idle = Some(5)).build().unwrap();
    assert_eq!(*client.pool().initial_policy(), Policy { max_idle: Some(5), ..own });
}

#[tokio::test]
async fn an_observer_of_the_builder_hears_of_a_dial() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let observer = move |_: &Event<Key>| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let client = Client::builder().change_config(|config| config.port = 1).observer(observer);
    let client = client.build().unwrap();
    client.get::<String>("k").await.expect_err("nothing listens there");
    assert_ne!(heard.load(Ordering::Relaxed), 0);
}

#[test]
fn a_config_out_of_range_is_told_when_the_client_is_built() {
    let built =
        Client::builder().change_config(|config| config.settings.limits.max_depth = 0).build();
    assert!(matches!(built, Err(BuildError::Config(_))), "{built:?}");
}

#[test]
fn a_client_of_a_pool_asks_the_server_of_its_manager() {
    let config = Config { database: 3, port: 7000, ..Config::default() };
    let key = config.key().unwrap();
    let pool = Pool::builder(Manager::new(config).unwrap()).policy(Client::default_policy());
    assert_eq!(*Client::from(pool.build().unwrap()).key(), key);
}
