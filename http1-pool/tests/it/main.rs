//! The client against scripted peers, against hyper as a judge and against a real nginx.

#[cfg(all(target_os = "linux", feature = "proxy", feature = "rustls", feature = "tower"))]
mod apart;
mod drops;
#[cfg(feature = "tower")]
mod exchange;
mod faults;
mod framing;
mod idle;
mod late_writes;
#[cfg(feature = "tower")]
mod layers;
mod legal_answers;
#[cfg(feature = "metrics")]
mod metrics;
mod nginx;
mod not_http;
mod outage;
mod policy;
mod profiles;
#[cfg(feature = "proxy")]
mod proxy;
mod retries;
mod reuse;
mod runtimes;
mod serve_once;
#[cfg(feature = "tower")]
mod service;
mod stray;
mod support;
#[cfg(feature = "rustls")]
mod tls;
#[cfg(feature = "rustls")]
mod tls_peek;
#[cfg(unix)]
mod unix;
mod uploads;
