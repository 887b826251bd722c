//! A real HTTP proxy.

use std::fs;

use super::owned;
use super::process::{Program, ServerProcess};

/// A tinyproxy that opens tunnels to any port.
#[derive(Debug)]
pub struct TinyproxyServer(pub(super) ServerProcess);

impl TinyproxyServer {
    /// Starts tinyproxy and waits until it accepts connections.
    ///
    /// `settings` are further lines of its configuration, for example `BasicAuth user password`, or
    /// `ConnectPort 443` to refuse tunnels to other ports. Its [`log`](Self::log) names the targets of requests.
    ///
    /// # Panics
    /// When tinyproxy is not installed, refuses the configuration, or does not listen within 10 s.
    pub fn start(settings: &str) -> Self {
        let settings = settings.to_owned();
        let process = ServerProcess::start(
            Program { name: "tinyproxy", package: "tinyproxy" },
            move |directory, port| {
                let file = directory.join("tinyproxy.conf");
                let config = format!(
                    "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Connect\n{settings}\n"
                );
                fs::write(&file, config).expect("the temporary directory is writable");
                owned(&["-d", "-c", &file.display().to_string()])
            },
        );
        Self(process)
    }
}
