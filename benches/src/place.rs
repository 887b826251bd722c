//! The processors to which the client and the server are pinned, and a description of the machine.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::report::calibration::Calibration;
use crate::report::noise::MeasuredNoise;

/// Processors have lower numbers than this.
pub const MOST: usize = CpuSet::MAX_CPU;

/// Pins the calling thread, and the threads it starts, to one processor. False when the system
/// refuses, which leaves it where it was.
pub fn pin(cpu: usize) -> bool {
    allow(&[cpu])
}

/// The same for several processors, among which the system chooses.
pub fn allow(cpus: &[usize]) -> bool {
    if cpus.iter().any(|cpu| *cpu >= CpuSet::MAX_CPU) {
        return false;
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).is_ok()
}

/// The processors this process may run on.
pub fn allowed() -> Vec<usize> {
    sched_getaffinity(None).map_or_else(
        |_| Vec::new(),
        |set| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
    )
}

/// Lets this process and its children open as many sockets as the system allows; a shell often
/// allows fewer than `--callers` asks for. Returns how many that is, `None` for no limit.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // If the system refuses, nothing else would help either.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current
}

/// The processors of the client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// For the client; `None` when it is not pinned.
    pub client: Option<usize>,
    /// For the embedded server; `None` when it is not pinned.
    pub server: Option<usize>,
}

impl Placement {
    /// The first two of the allowed processors; with only one, nothing is pinned.
    pub fn choose(allowed: &[usize]) -> Self {
        match allowed {
            [client, server, ..] => Self { client: Some(*client), server: Some(*server) },
            _ => Self { client: None, server: None },
        }
    }

    /// Describes the placement in one sentence: with the embedded servers, or with a server of the user,
    /// with or without the relay in front of it.
    pub fn describe(self, embedded: bool, relay: bool) -> String {
        match (self.client, self.server) {
            (Some(client), Some(server)) if !embedded && relay => format!(
                "client pinned to cpu {client}, relay in its own process pinned to cpu {server}, one thread each; the server is the user's"
            ),
            (Some(client), Some(server)) if embedded => format!(
                "client pinned to cpu {client}, server in its own process pinned to cpu {server}, one thread each"
            ),
            (Some(client), None) if embedded => format!(
                "client pinned to cpu {client}, one thread; server in its own process, not pinned"
            ),
            (Some(client), _) => {
                format!("client pinned to cpu {client}, one thread; the server is the user's")
            }
            _ => "not pinned: fewer than two processors, client and server share what there is"
                .to_owned(),
        }
    }
}

/// The machine and the build, as in results.json.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The processor's name.
    pub cpu: Option<String>,
    /// Processors this process may run on.
    pub cores: usize,
    /// The kernel's name and release.
    pub kernel: Option<String>,
    /// The compiler that built this program.
    pub rustc: Option<&'static str>,
    /// The processors of the client and the server.
    pub placement: String,
    /// The clocks that were read.
    pub clock: &'static str,
    /// The difference between equal contestants; `None` if it was not measured.
    pub noise: Option<MeasuredNoise>,
    /// The result of `poolbench calibrate` on this machine.
    pub calibration: Option<Calibration>,
}

impl Environment {
    /// Reads the properties of the machine. Call it before pinning, which reduces the allowed processors.
    pub fn observe(allowed: &[usize], placement: String) -> Self {
        Self {
            cpu: cpu_model(),
            cores: allowed.len().max(1),
            kernel: read_line("/proc/sys/kernel/osrelease")
                .map(|release| format!("{} {release}", std::env::consts::OS)),
            rustc: option_env!("POOLBENCH_RUSTC"),
            placement,
            clock: "latency: CLOCK_MONOTONIC; cpu: CLOCK_PROCESS_CPUTIME_ID of the client",
            noise: None,
            calibration: None,
        }
    }
}

/// The processor's name.
pub fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read_line(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_server_get_different_processors_if_there_are_two() {
        assert_eq!(Placement::choose(&[3, 5, 7]), Placement { client: Some(3), server: Some(5) });
        assert_eq!(Placement::choose(&[0]), Placement { client: None, server: None });
    }
}
