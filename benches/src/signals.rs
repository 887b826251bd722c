//! The signals that ask the program to end.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is asked to end: Ctrl-C or SIGTERM. Never ends if signals cannot be
/// caught, in which case they keep their usual effect.
///
/// # Cancel safety
/// A signal that arrives while nobody waits is caught by the next wait only if an earlier one was
/// started: keep one future and poll it.
pub async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
