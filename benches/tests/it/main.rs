//! Tests of the built program: what it says, what it runs, what it leaves behind.

mod calibrate;
mod common;
mod embedded;
mod events;
mod events_http2;
mod faults;
mod interrupts;
mod open_loop;
mod oracle;
mod relay;
mod report;
mod sweep;
mod targets;
mod usage;
mod workers;
