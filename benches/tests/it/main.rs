//! Tests of the built program: its output, its runs, the files that it leaves.

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
