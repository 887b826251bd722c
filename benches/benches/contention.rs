//! Acquire and release by 64 callers on two threads: over a connection for each, over 8, and
//! without holding what they get.
//!
//! `cargo bench -p poolbench --bench contention` prints tables: how often, how long an acquire
//! took, and whether some callers got less than others.

mod peers;

use std::io::{self, Write};

fn main() -> io::Result<()> {
    write!(io::stdout(), "{}", peers::table::crowds())
}
