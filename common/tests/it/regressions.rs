//! What a review found: each test is named after what went wrong.

mod granted;
mod locks;
mod pauses;
mod profiles;
mod shell;
mod shutdown;
mod states;
mod uncollected;
mod wakers;
mod watch;
