//! A server process: finds a port, starts the program, waits until it listens, ends it.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use super::directory::TempDirectory;

/// How long a server may take until it listens; far more than any needs, machines under load included.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at a starting server.
const READY_POLL: Duration = Duration::from_millis(2);
/// How often another port is tried when another process took the chosen one first.
const PORT_ATTEMPTS: u32 = 5;
/// Ports below the range from which Linux picks the local ports of outgoing connections (32768 and
/// up). A port of that range could be taken by any client while its server is stopped, and a client
/// that dials a stopped server could even connect to itself.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// The program to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Name of the executable, looked for in `PATH` and in the directories for system programs.
    pub(super) name: &'static str,
    /// The package that contains it.
    pub(super) package: &'static str,
}

/// A program that listens on one port of 127.0.0.1.
pub(super) struct ServerProcess {
    program: Program,
    args: Vec<String>,
    port: u16,
    child: Option<Child>,
    document_root: PathBuf,
    directory: TempDirectory,
}

impl ServerProcess {
    /// Starts `program` with the arguments that `args` makes from a fresh directory and a free port, and
    /// waits until it listens there.
    pub(super) fn start(
        program: Program,
        args: impl Fn(&Path, u16) -> Vec<String>,
    ) -> ServerProcess {
        let directory = TempDirectory::new(program.name);
        let mut server = ServerProcess {
            program,
            args: Vec::new(),
            port: 0,
            child: None,
            document_root: document_root(directory.path()),
            directory,
        };
        for _ in 0..PORT_ATTEMPTS {
            server.port = free_port();
            server.args = args(server.directory.path(), server.port);
            match server.launch() {
                Ok(()) => return server,
                // Another process took the port first: try another port.
                Err(NotReady::PortTaken) => server.stop(),
                Err(error) => server.fail(&error),
            }
        }
        server.fail(&NotReady::PortTaken)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> u32 {
        let child = self.child.as_ref();
        child.expect("the server is not stopped").id()
    }

    pub(super) fn document_root(&self) -> &Path {
        &self.document_root
    }

    pub(super) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if the process has ended already, and `wait` reaps it in both cases.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn restart(&mut self) {
        self.stop();
        if let Err(error) = self.launch() {
            self.fail(&error);
        }
    }

    fn launch(&mut self) -> Result<(), NotReady> {
        self.child = Some(self.spawn());
        self.wait_until_ready()
    }

    fn spawn(&self) -> Child {
        let Program { name, package } = self.program;
        let candidates =
            [name.to_owned(), format!("/usr/sbin/{name}"), format!("/usr/local/sbin/{name}")];
        for candidate in candidates {
            let log = self.open_log();
            let errors = log.try_clone().expect("a file handle can be cloned");
            let result = Command::new(&candidate)
                .args(&self.args)
                .current_dir(self.directory.path())
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors)
                .spawn();
            match result {
                Ok(child) => return child,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => panic!("cannot start {candidate}: {error}"),
            }
        }
        panic!("{name} is missing: run ./test.sh, it installs {package}");
    }

    /// Waits until the port accepts a connection and our process is the one that listens there.
    fn wait_until_ready(&mut self) -> Result<(), NotReady> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let child = self.child.as_mut().expect("launched just before");
            let pid = child.id();
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return Err(match self.log().contains("ddress already in use") {
                    true => NotReady::PortTaken,
                    false => NotReady::Exited(status),
                });
            }
            let accepts = TcpStream::connect_timeout(&addr, READY_TIMEOUT).is_ok();
            if accepts && listens(pid, self.port) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(match accepts {
                    true => NotReady::PortTaken,
                    false => NotReady::Silent,
                });
            }
            thread::sleep(READY_POLL);
        }
    }

    fn fail(&self, error: &NotReady) -> ! {
        panic!("{} {} {error}; its log:\n{}", self.program.name, self.args.join(" "), self.log())
    }

    fn open_log(&self) -> File {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let log = options.open(self.log_path());
        log.expect("the temporary directory is writable")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for ServerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerProcess")
            .field("program", &self.program.name)
            .field("port", &self.port)
            .field("pid", &self.child.as_ref().map(Child::id))
            .finish_non_exhaustive()
    }
}

/// The reason why a started program cannot be used.
#[derive(Debug)]
enum NotReady {
    PortTaken,
    Exited(process::ExitStatus),
    Silent,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReady::PortTaken => f.write_str("found its port taken"),
            NotReady::Exited(status) => write!(f, "ended with {status} before it listened"),
            NotReady::Silent => write!(f, "did not listen within {READY_TIMEOUT:?}"),
        }
    }
}

/// The files of a web server.
pub(super) fn document_root(directory: &Path) -> PathBuf {
    directory.join("www")
}

/// A port on which no process listens right now. Each process starts its search at a different port, so
/// that tests which run at the same time rarely try the same one.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = process::id().wrapping_mul(257).wrapping_add(step);
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("the range is below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1")
}

/// Whether process `pid` itself holds the listening socket of `port`. On a system that does not tell
/// (no `/proc`), the answer is yes.
fn listens(pid: u32, port: u16) -> bool {
    let Ok(table) = fs::read_to_string("/proc/net/tcp") else {
        return true;
    };
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return true;
    };
    // Columns: number, local address, remote address, state (0A = listening), ..., inode in the tenth.
    let local = format!(":{port:04X}");
    let sockets: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.len() > 9 && columns[1].ends_with(&local) && columns[3] == "0A")
        .map(|columns| format!("socket:[{}]", columns[9]))
        .collect();
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == &**socket))
}
