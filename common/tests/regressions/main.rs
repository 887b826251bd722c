//! What a review found: each test is named after what went wrong.

#[path = "../state/driver.rs"]
#[allow(dead_code)] // Shared with tests/state, which uses all of it.
mod driver;
#[path = "../contract/fake.rs"]
#[allow(dead_code)] // Shared with tests/contract, which uses all of it.
mod fake;
mod granted;
mod locks;
mod pauses;
mod shell;
mod shutdown;
mod states;
mod uncollected;
mod wakers;
mod watch;
#[path = "../support/within.rs"]
mod within;

use within::within;
