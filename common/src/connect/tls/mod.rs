//! TLS, with rustls.
//!
//! [`Tls`] is a handle on settings that can be replaced while clients use them. Each version of the
//! settings has its own sessions to resume, so no session is resumed under other roots or as another
//! client than it was made for.

mod explain;
mod settings;
mod stream;

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

pub use settings::{InvalidTls, TlsBuilder};
pub(super) use stream::TlsStream;

use super::stream::Stream;

/// How a client speaks TLS: which servers it trusts, and which certificate it shows.
///
/// By default it trusts the authorities that the operating system trusts, and shows no certificate. Clones
/// are handles on the same settings.
///
/// ```no_run
/// use pool_common::connect::Tls;
/// use std::fs::read;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::builder()
///     .add_roots_pem(read("our-ca.pem")?)
///     .client_identity_pem(read("client.pem")?, read("client-key.pem")?)
///     .build()?;
/// // Later, while clients use it: new connections show the new certificate.
/// tls.replace(Tls::builder().client_identity_pem(read("new.pem")?, read("new-key.pem")?))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Tls {
    current: Arc<RwLock<Arc<Version>>>,
}

/// One version of the settings.
#[derive(Default)]
struct Version {
    settings: settings::Settings,
    /// Made for the first connection, since the roots of the system are read from files.
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Settings to change.
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    fn new(settings: settings::Settings) -> Self {
        let version = Version { settings, config: OnceCell::new() };
        Self { current: Arc::new(RwLock::new(Arc::new(version))) }
    }

    /// Replaces the settings. Connections that are dialed from now on use the new ones;
    /// [`Pool::retire_all`](crate::Pool::retire_all) then replaces those of a pool that are open. Sessions
    /// of the old settings are not resumed.
    ///
    /// # Errors
    /// [`InvalidTls`] when the new settings cannot be used. The old ones then stay.
    pub fn replace(&self, settings: TlsBuilder) -> Result<(), InvalidTls> {
        let version = Version { settings: settings.into_settings()?, config: OnceCell::new() };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(version);
        Ok(())
    }

    fn version(&self) -> Arc<Version> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shakes hands with the server `host` on `stream`, and offers the protocols of `alpn`.
    pub(super) async fn secure(
        &self,
        stream: Stream,
        host: Option<&str>,
        alpn: &[&[u8]],
    ) -> io::Result<Stream> {
        let version = self.version();
        let config = Arc::clone(version.config().await?);
        let name = version.server_name(host)?;
        let connector = TlsConnector::from(config);
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = connector.with_alpn(alpn).connect(name, stream).await;
        Ok(Stream::tls(TlsStream::new(stream.map_err(explain::with_way_out)?)))
    }
}

impl Version {
    async fn config(&self) -> io::Result<&Arc<ClientConfig>> {
        let make = async || {
            let settings = self.settings.clone();
            // The roots of the system are files.
            let made = tokio::task::spawn_blocking(move || settings.to_config()).await;
            made.map_err(io::Error::other)?.map(Arc::new).map_err(invalid_input)
        };
        self.config.get_or_try_init(make).await
    }

    fn server_name(&self, host: Option<&str>) -> io::Result<ServerName<'static>> {
        if let Some(name) = &self.settings.server_name {
            return Ok(name.clone());
        }
        let no_name = "TLS needs the name of the server: set server_name";
        let host = host.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, no_name))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(bare.to_owned()).map_err(invalid_input)
    }
}

fn invalid_input(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Says nothing of keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.version().settings).finish()
    }
}

/// What rustls computes with: the provider that the program has installed, or ring.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let installed = rustls::crypto::CryptoProvider::get_default().cloned();
    installed.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}
