//! The client against an honest server, scripted peers that speak raw frames, and a real nghttpd.

mod bodies;
mod cancel;
mod dials;
mod ends;
#[cfg(feature = "tower")]
mod exchange;
mod faults;
#[cfg(feature = "tonic")]
mod grpc;
#[cfg(feature = "tower")]
mod layers;
mod long_words;
#[cfg(feature = "metrics")]
mod metrics;
mod policy;
#[cfg(feature = "proxy")]
mod proxy;
mod readers;
mod real;
mod refused;
mod silence;
mod storm;
mod streams;
mod support;
#[cfg(feature = "rustls")]
mod tls;
#[cfg(unix)]
mod unix;
