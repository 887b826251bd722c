//! Acquire and release by 64 callers on two threads: with a connection for each, with 8 connections, and
//! without holding a connection.
//!
//! `cargo bench -p poolbench --bench contention` prints tables with the number of acquires, the time of an
//! acquire, and whether some callers got fewer connections than others.

mod peers;

use std::io::{self, Write};

fn main() -> io::Result<()> {
    write!(io::stdout(), "{}", peers::table::crowds())
}
