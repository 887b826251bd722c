//! The worked example runs, and does what it says.

#[path = "../../examples/memcached/main.rs"]
#[allow(dead_code)] // Its `main` is not called.
mod memcached;

use pool_common::event::CloseCause;

#[tokio::test]
async fn the_memcached_example_runs() {
    let server = memcached::server::start().await.expect("a free port");
    let stats = memcached::run(server).await.expect("it runs");
    // Three leases for each of eight tasks, and two more.
    assert_eq!((stats.leased, stats.opened), (26, 2));
    assert_eq!(stats.gave_up, 1, "the third one");
    assert_eq!(stats.closed(CloseCause::Broken), 1, "the one that was cancelled");
    assert_eq!(stats.closed(CloseCause::CheckFailed), 0, "the version was told");
    assert_eq!(stats.closed_in_all(), 2);
}
