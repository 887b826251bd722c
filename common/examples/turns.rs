//! Acquires and releases without I/O, so many times, by one task: a program for counting instructions.
//! The count is the same whatever else the machine does, where times differ by a third from minute to minute.
//!
//! ```sh
//! cargo build --release -p pool-common --example turns
//! for turns in 1000 11000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/turns exclusive $turns
//! done
//! ```
//!
//! The difference of the two counts, divided by 10,000, is what one acquire and its release cost.

use std::convert::Infallible;
use std::hint::black_box;

use pool_common::{Exclusive, Lending, Manager, Notifier, Policy, Pool, Shared};

/// Leases that one shared connection serves at a time.
const CAPACITY: u32 = 100;

struct Free<L>(std::marker::PhantomData<fn() -> L>);

impl<L: Lending<Connection = u64>> Manager for Free<L> {
    type Key = u32;
    type Lending = L;
    type Error = Infallible;

    async fn connect(&self, _: &u32, _: Notifier) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn capacity(&self, _: &u64) -> u32 {
        CAPACITY
    }
}

fn main() -> Result<(), &'static str> {
    let mut arguments = std::env::args().skip(1);
    let lending = arguments.next();
    let turns = arguments.next().and_then(|turns| turns.parse().ok());
    match (lending.as_deref(), turns) {
        (Some("exclusive"), Some(turns)) => run::<Exclusive<u64>>(turns, Policy::default()),
        (Some("shared"), Some(turns)) => {
            run::<Shared<u64>>(turns, Policy { max_open_per_key: Some(1), ..Policy::default() });
        }
        _ => return Err("expected exclusive or shared, and the number of turns"),
    }
    Ok(())
}

fn run<L: Lending<Connection = u64>>(turns: u64, policy: Policy) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let manager = Free::<L>(std::marker::PhantomData);
    let pool = Pool::builder(manager).policy(policy).build().expect("a valid policy");
    runtime.block_on(async {
        for _ in 0..turns {
            drop(black_box(pool.acquire(&1).await.expect("nothing can fail")));
        }
    });
}
