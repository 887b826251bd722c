//! Tests of what the state costs: in entries looked at, and in lines of memory.

mod cost;
#[cfg(target_pointer_width = "64")]
mod layout;
