//! Tests of the built program: what it says, what it runs, what it leaves behind.

mod calibrate;
mod common;
mod embedded;
mod events;
mod events_http2;
mod faults;
mod faulty_targets;
mod interrupts;
mod lanes;
mod lost_servers;
mod open_loop;
mod oracle;
mod output;
mod relay;
mod report;
mod requests;
mod sweep;
mod targets;
mod usage;
mod workers;
