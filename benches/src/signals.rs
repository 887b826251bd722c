//! The signals that ask the program to end.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is asked to end: Ctrl-C or SIGTERM. Never ends if signals cannot be
/// caught, in which case they keep their usual effect.
///
/// # Cancel safety
/// The future notices signals from its first poll on. Keep one future and poll it, instead of making
/// a new one for each wait.
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
