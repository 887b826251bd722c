//! Launches real servers for tests: redis-server, nginx, nghttpd and tinyproxy.
//!
//! Each server runs in its own process on a free port of 127.0.0.1, with its own temporary directory
//! for configuration, data and log. Dropping the value kills the process and removes the directory,
//! even if a test panics.
//!
//! A server is stopped with SIGKILL. To its clients that looks like a crash: the kernel closes the
//! sockets. [`restart`](RedisServer::restart) keeps the port, so a test can watch a pool while its
//! server goes away and comes back.
//!
//! Every function here panics when it cannot do its work, with the log of the server in the message,
//! because a test could only panic on an error, too.

mod directory;
mod process;
mod tinyproxy;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use process::{Program, ServerProcess};
pub use tinyproxy::TinyproxyServer;

use super::certificates::Identity;

/// A redis-server without persistence.
#[derive(Debug)]
pub struct RedisServer(ServerProcess);

impl RedisServer {
    /// Starts redis-server and waits until it accepts connections.
    ///
    /// `extra` comes after our own arguments and so overrides them, for example
    /// `&["--requirepass", "secret"]` or `&["--maxclients", "10"]`.
    ///
    /// # Panics
    /// When redis-server is not installed, refuses its arguments, or does not listen within 10 s.
    pub fn start(extra: &[&str]) -> Self {
        let extra = owned(extra);
        let process = ServerProcess::start(
            Program { name: "redis-server", package: "redis-server" },
            move |directory, port| {
                let mut args = owned(&["--bind", "127.0.0.1", "--daemonize", "no"]);
                args.extend(["--port".to_owned(), port.to_string()]);
                args.extend(["--dir".to_owned(), directory.display().to_string()]);
                args.extend(owned(&["--save", "", "--appendonly", "no"]));
                args.extend(extra.iter().cloned());
                args
            },
        );
        Self(process)
    }
}

impl RedisServer {
    /// The same with TLS only. Clients need no certificate.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_tls(identity: &Identity, extra: &[&str]) -> Self {
        let extra = owned(extra);
        let process = ServerProcess::start(
            Program { name: "redis-server", package: "redis-server" },
            move |directory, port| {
                write_identity(directory, identity);
                let mut args = owned(&["--bind", "127.0.0.1", "--daemonize", "no", "--port", "0"]);
                args.extend(["--tls-port".to_owned(), port.to_string()]);
                args.extend(["--dir".to_owned(), directory.display().to_string()]);
                args.extend(owned(&["--save", "", "--appendonly", "no"]));
                args.extend(owned(&["--tls-cert-file", "certificate.pem"]));
                args.extend(owned(&["--tls-key-file", "key.pem"]));
                args.extend(owned(&["--tls-ca-cert-file", "certificate.pem"]));
                args.extend(owned(&["--tls-auth-clients", "no"]));
                args.extend(extra.iter().cloned());
                args
            },
        );
        Self(process)
    }
}

/// An nginx with one worker, no access log and connections that may serve any number of requests.
#[derive(Debug)]
pub struct NginxServer(ServerProcess);

impl NginxServer {
    /// Starts nginx and waits until it accepts connections.
    ///
    /// `snippet` is placed inside the only `server { }` block, for example
    /// `location / { return 200 "hello"; }`; it may override `keepalive_requests` and the like.
    /// Files below [`document_root`](Self::document_root) are served when no location says otherwise.
    ///
    /// # Panics
    /// When nginx is not installed, refuses the configuration, or does not listen within 10 s.
    pub fn start(snippet: &str) -> Self {
        Self::listening("", &[("localhost", snippet)])
    }

    /// The same for HTTP/2 without TLS and with prior knowledge (h2c).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_http2(snippet: &str) -> Self {
        // The parameter is older than the directive `http2 on`, and newer versions still take it.
        Self::listening(" http2", &[("localhost", snippet)])
    }

    /// The same with TLS, and with HTTP/2 if `http2`, which clients ask for in the handshake.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_tls(identity: &Identity, http2: bool, snippet: &str) -> Self {
        let parameter = if http2 { " ssl http2" } else { " ssl" };
        let certificate = "ssl_certificate certificate.pem; ssl_certificate_key key.pem;";
        let snippet = format!("{certificate}\n{snippet}");
        Self::listening_as(Some(identity), parameter, &[("localhost", &snippet)])
    }

    /// Several sites on one address, each a `server_name` with its snippet. The first site answers
    /// requests that match no name.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_sites(http2: bool, sites: &[(&str, &str)]) -> Self {
        Self::listening(if http2 { " http2" } else { "" }, sites)
    }

    fn listening(parameter: &'static str, sites: &[(&str, &str)]) -> Self {
        Self::listening_as(None, parameter, sites)
    }

    fn listening_as(
        identity: Option<&Identity>,
        parameter: &'static str,
        sites: &[(&str, &str)],
    ) -> Self {
        let sites: Vec<(String, String)> =
            sites.iter().map(|&(name, snippet)| (name.to_owned(), snippet.to_owned())).collect();
        let process = ServerProcess::start(
            Program { name: "nginx", package: "nginx" },
            move |directory, port| {
                let prefix = directory.display().to_string();
                let config = directory.join("nginx.conf");
                write_index(directory);
                if let Some(identity) = identity {
                    write_identity(directory, identity);
                }
                fs::write(&config, nginx_config(&prefix, port, parameter, &sites))
                    .expect("the temporary directory is writable");
                let config = config.display().to_string();
                owned(&["-e", "stderr", "-p", &prefix, "-c", &config])
            },
        );
        Self(process)
    }

    /// The directory of the files to serve; a test may add files while the server runs. Has an
    /// `index.html` with the text `hello` and a newline.
    pub fn document_root(&self) -> &Path {
        self.0.document_root()
    }
}

/// An nghttpd that speaks HTTP/2 without TLS and with prior knowledge (h2c), one worker.
#[derive(Debug)]
pub struct NghttpdServer(ServerProcess);

impl NghttpdServer {
    /// Starts nghttpd and waits until it accepts connections.
    ///
    /// `extra` comes before the port, for example `&["-m", "2"]` (most concurrent streams of a
    /// connection, 100 when not given) or `&["--echo-upload"]`.
    ///
    /// # Panics
    /// When nghttpd is not installed, refuses its arguments, or does not listen within 10 s.
    pub fn start(extra: &[&str]) -> Self {
        let extra = owned(extra);
        let process = ServerProcess::start(
            Program { name: "nghttpd", package: "nghttp2-server" },
            move |directory, port| {
                let root = write_index(directory);
                let mut args = owned(&["--no-tls", "--address", "127.0.0.1"]);
                args.extend(["--htdocs".to_owned(), root]);
                args.extend(extra.iter().cloned());
                args.push(port.to_string());
                args
            },
        );
        Self(process)
    }

    /// The same with TLS, where clients ask for HTTP/2 in the handshake.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_tls(identity: &Identity) -> Self {
        let process = ServerProcess::start(
            Program { name: "nghttpd", package: "nghttp2-server" },
            move |directory, port| {
                let root = write_index(directory);
                write_identity(directory, identity);
                let mut args = owned(&["--address", "127.0.0.1", "--htdocs", &root]);
                args.push(port.to_string());
                args.extend(owned(&["key.pem", "certificate.pem"]));
                args
            },
        );
        Self(process)
    }

    /// The directory of the files to serve; a test may add files while the server runs. Has an
    /// `index.html` with the text `hello` and a newline.
    pub fn document_root(&self) -> &Path {
        self.0.document_root()
    }
}

/// The methods of every server, defined for each type so that its documentation shows them.
macro_rules! common_methods {
    ($($server:ident),*) => {$(
        impl $server {
            /// Address the server listens on. The same after [`restart`](Self::restart).
            pub fn addr(&self) -> SocketAddr {
                SocketAddr::from((Ipv4Addr::LOCALHOST, self.0.port()))
            }

            /// Process id of the running server. This process serves all requests.
            ///
            /// # Panics
            /// When the server is stopped.
            pub fn pid(&self) -> u32 {
                self.0.pid()
            }

            /// The standard output and error of the server so far.
            pub fn log(&self) -> String {
                self.0.log()
            }

            /// Kills the server and waits until it is gone. Does nothing when it is stopped.
            pub fn stop(&mut self) {
                self.0.stop();
            }

            /// Stops the server if it runs, starts it again with the same arguments on the same port
            /// and waits until it accepts connections.
            ///
            /// # Panics
            /// When it does not listen within 10 s.
            pub fn restart(&mut self) {
                self.0.restart();
            }
        }
    )*};
}

common_methods!(RedisServer, NginxServer, NghttpdServer, TinyproxyServer);

/// One process (`master_process off`), so that its id is that of the serving process and a kill leaves
/// no other process behind.
fn nginx_config(prefix: &str, port: u16, parameter: &str, sites: &[(String, String)]) -> String {
    let site = |(name, snippet): &(String, String)| {
        format!(
            "server {{\n\
             listen 127.0.0.1:{port}{parameter};\n\
             server_name {name};\n\
             root {prefix}/www;\n\
             {snippet}\n\
             }}\n"
        )
    };
    let servers: String = sites.iter().map(site).collect();
    format!(
        "daemon off;\n\
         master_process off;\n\
         worker_processes 1;\n\
         pid {prefix}/nginx.pid;\n\
         error_log stderr warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         access_log off;\n\
         default_type application/octet-stream;\n\
         client_body_temp_path {prefix}/client_body;\n\
         proxy_temp_path {prefix}/proxy;\n\
         fastcgi_temp_path {prefix}/fastcgi;\n\
         uwsgi_temp_path {prefix}/uwsgi;\n\
         scgi_temp_path {prefix}/scgi;\n\
         tcp_nodelay on;\n\
         keepalive_requests 1000000000;\n\
         {servers}\
         }}\n"
    )
}

/// Makes the document root with a small page; returns its path.
fn write_index(directory: &Path) -> String {
    let root = process::document_root(directory);
    fs::create_dir_all(&root).expect("the temporary directory is writable");
    fs::write(root.join("index.html"), "hello\n").expect("the document root is writable");
    root.display().to_string()
}

/// Puts the certificate of a server beside its configuration.
fn write_identity(directory: &Path, identity: &Identity) {
    let write = |name: &str, pem: &str| {
        fs::write(directory.join(name), pem).expect("the temporary directory is writable");
    };
    write("certificate.pem", &identity.certificate);
    write("key.pem", &identity.key);
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn talk(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.write_all(request).unwrap();
        let mut reply = vec![0; 1024];
        let length = socket.read(&mut reply).unwrap();
        reply.truncate(length);
        reply
    }

    #[test]
    fn redis_answers_before_and_after_a_restart() {
        let mut server = RedisServer::start(&["--maxclients", "10"]);
        let (addr, pid) = (server.addr(), server.pid());
        assert_eq!(talk(addr, b"PING\r\n"), b"+PONG\r\n");

        server.stop();
        assert!(TcpStream::connect(addr).is_err());

        server.restart();
        assert_eq!(server.addr(), addr);
        assert_ne!(server.pid(), pid);
        assert_eq!(talk(addr, b"PING\r\n"), b"+PONG\r\n");
    }

    #[test]
    fn nginx_serves_the_snippet_and_the_document_root() {
        let server = NginxServer::start("location /text { return 200 nonce; }");
        let reply = talk(server.addr(), b"GET /text HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(reply.starts_with(b"HTTP/1.1 200") && reply.ends_with(b"nonce"));

        fs::write(server.document_root().join("late"), "late text").unwrap();
        let reply = talk(server.addr(), b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(reply.starts_with(b"HTTP/1.1 200") && reply.ends_with(b"late text"));
    }

    #[test]
    fn servers_of_http2_answer_the_preface_with_settings() {
        let nghttpd = NghttpdServer::start(&["-m", "2"]);
        assert!(nghttpd.document_root().join("index.html").exists());
        let nginx = NginxServer::start_http2("");
        for addr in [nghttpd.addr(), nginx.addr()] {
            let reply =
                talk(addr, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
            assert_eq!(reply[3], 4, "the first frame is SETTINGS");
        }
    }

    #[test]
    fn drop_ends_the_process_and_removes_its_directory() {
        let server = NghttpdServer::start(&[]);
        let addr = server.addr();
        let root = server.document_root().to_owned();
        drop(server);
        assert!(TcpStream::connect(addr).is_err());
        assert!(!root.exists());
    }

    #[test]
    #[should_panic(expected = "FATAL CONFIG FILE ERROR")]
    fn a_refused_argument_shows_what_the_server_said() {
        drop(RedisServer::start(&["--maxclients"]));
    }
}
