//! What a review found: each test is named after what went wrong.

#[path = "../state/driver.rs"]
#[allow(dead_code)] // Shared with tests/state, which uses all of it.
mod driver;
#[path = "../contract/fake.rs"]
#[allow(dead_code)] // Shared with tests/contract, which uses all of it.
mod fake;
mod shell;
mod shutdown;
mod states;
mod wakers;
mod watch;

/// Runs `test` on a thread of its own; what takes longer than a minute stands still.
fn within(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match wait.recv_timeout(std::time::Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it stands still"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}
