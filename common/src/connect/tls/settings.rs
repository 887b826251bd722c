//! The settings of TLS, and what rustls makes of them.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::{Tls, provider};

/// Collects the settings of a [`Tls`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct TlsBuilder {
    settings: Settings,
    /// The first mistake.
    mistake: Option<InvalidTls>,
}

/// Settings that TLS cannot be spoken with. Holds no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {part}: {reason}")]
pub struct InvalidTls {
    part: &'static str,
    reason: String,
}

#[derive(Clone, Default)]
pub(super) struct Settings {
    roots: Roots,
    added: Vec<CertificateDer<'static>>,
    identity: Option<Arc<Identity>>,
    pub(super) server_name: Option<ServerName<'static>>,
    without_resumption: bool,
    accept_any: bool,
    /// Instead of everything above except the server's name.
    config: Option<Arc<ClientConfig>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Roots {
    #[default]
    Platform,
    WebPki,
    None,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsBuilder {
    /// Trusts the certificate authorities of Mozilla, as compiled into the program, in place of those of the
    /// operating system.
    pub fn webpki_roots(mut self) -> Self {
        self.settings.roots = Roots::WebPki;
        self
    }

    /// Trusts only what is added.
    pub fn only_added_roots(mut self) -> Self {
        self.settings.roots = Roots::None;
        self
    }

    /// Trusts these authorities as well; DER.
    pub fn add_roots(
        mut self,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Self {
        self.settings.added.extend(certificates);
        self
    }

    /// Trusts the authorities in this PEM text as well.
    pub fn add_roots_pem(mut self, text: impl AsRef<[u8]>) -> Self {
        match certificates("roots", text.as_ref()) {
            Ok(certificates) => self.add_roots(certificates),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake);
                self
            }
        }
    }

    /// Shows this certificate to servers that ask for one, with its chain, its own first; DER.
    pub fn client_identity(
        mut self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        self.settings.identity = Some(Arc::new(Identity { chain, key }));
        self
    }

    /// As [`client_identity`](Self::client_identity), from PEM texts.
    pub fn client_identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|error| malformed("key of the client", &error));
        match (certificates("certificate of the client", chain.as_ref()), key) {
            (Ok(chain), Ok(key)) => self.client_identity(chain, key),
            (Err(mistake), _) | (_, Err(mistake)) => {
                self.mistake.get_or_insert(mistake);
                self
            }
        }
    }

    /// The name that the server's certificate must have, and that is sent to the server. Default: the host
    /// of the request. For servers that are reached under another name, or by an address.
    pub fn server_name(mut self, name: &str) -> Self {
        match ServerName::try_from(name.to_owned()) {
            Ok(name) => self.settings.server_name = Some(name),
            Err(_) => {
                let reason = format!("{name:?} is not a name");
                self.mistake.get_or_insert(InvalidTls { part: "server_name", reason });
            }
        }
        self
    }

    /// Whether sessions are resumed, which saves a dial the certificates and, with TLS 1.2, a round trip.
    /// Default yes, up to 256 sessions, kept in memory.
    pub fn resumption(mut self, resumes: bool) -> Self {
        self.settings.without_resumption = !resumes;
        self
    }

    /// Speaks to any server, whatever certificate it shows. Anybody between client and server can then
    /// read and change everything.
    pub fn dangerously_accept_any_certificate(mut self) -> Self {
        self.settings.accept_any = true;
        self
    }

    /// Uses this config of rustls in place of all other settings except
    /// [`server_name`](Self::server_name): together with another one it is an error of
    /// [`build`](Self::build). What it says of ALPN is not used: the protocol decides.
    pub fn rustls_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.settings.config = Some(config);
        self
    }

    /// The settings as a handle for clients.
    ///
    /// # Errors
    /// [`InvalidTls`] names the setting that cannot be used.
    pub fn build(self) -> Result<Tls, InvalidTls> {
        self.into_settings().map(Tls::new)
    }

    pub(super) fn into_settings(self) -> Result<Settings, InvalidTls> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        if let Some(setting) = self.settings.without_effect() {
            let reason = format!("replaces {setting}, which is set, too; put it into the config");
            return Err(InvalidTls { part: "rustls_config", reason });
        }
        // Everything but the roots of the system is tried here, where the mistake was made.
        let roots = Roots::None;
        let tried = Settings { roots, accept_any: true, ..self.settings.clone() };
        tried.to_config().map_err(|error| InvalidTls {
            part: "certificate of the client",
            reason: error.to_string(),
        })?;
        added(&mut RootCertStore::empty(), &self.settings.added)
            .map_err(|error| InvalidTls { part: "roots", reason: error.to_string() })?;
        Ok(self.settings)
    }
}

fn certificates(
    part: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|error| malformed(part, &error))?;
    if certificates.is_empty() {
        return Err(malformed(part, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Without the text that was to be read: it may be a key.
fn malformed(part: &'static str, error: &pem::Error) -> InvalidTls {
    let reason = match error {
        pem::Error::NoItemsFound => "the PEM text holds none",
        _ => "the PEM text is malformed",
    };
    InvalidTls { part, reason: reason.to_owned() }
}

fn added(
    store: &mut RootCertStore,
    certificates: &[CertificateDer<'static>],
) -> Result<(), rustls::Error> {
    certificates.iter().try_for_each(|certificate| store.add(certificate.clone()))
}

impl Tls {
    /// The names of the settings, for the test that each of them keeps connections apart.
    #[cfg(all(feature = "testing", feature = "proxy", feature = "rustls", feature = "tower"))]
    pub(in super::super) fn settings() -> Vec<&'static str> {
        crate::testing::field_names!(Settings {
            roots,
            added,
            identity,
            server_name,
            without_resumption,
            accept_any,
            config,
        })
    }
}

impl Settings {
    /// The name of a setting that was made, and that the user's own config of rustls leaves without effect.
    fn without_effect(&self) -> Option<&'static str> {
        // Taken apart, so that a new setting cannot be forgotten.
        let Self { roots, added, identity, server_name: _, without_resumption, accept_any, config } =
            self;
        config.as_ref()?;
        let made = [
            (*roots == Roots::WebPki, "webpki_roots"),
            (*roots == Roots::None, "only_added_roots"),
            (!added.is_empty(), "add_roots"),
            (identity.is_some(), "client_identity"),
            (*without_resumption, "resumption"),
            (*accept_any, "dangerously_accept_any_certificate"),
        ];
        made.into_iter().find(|(made, _)| *made).map(|(_, name)| name)
    }

    /// Reads the roots of the system if they are to be trusted, so this blocks.
    pub(super) fn to_config(&self) -> Result<ClientConfig, rustls::Error> {
        if let Some(config) = &self.config {
            return Ok((**config).clone());
        }
        let provider = provider();
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
        };
        if self.without_resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        if self.accept_any {
            return Ok(Arc::new(AcceptAny(Arc::clone(provider))));
        }
        let mut store = RootCertStore::empty();
        match self.roots {
            Roots::Platform => return self.platform_verifier(provider),
            Roots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::None => {}
        }
        added(&mut store, &self.added)?;
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(store),
            Arc::clone(provider),
        );
        let verifier = verifier.build();
        Ok(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
    }

    fn platform_verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        use rustls_platform_verifier::Verifier;
        let provider = Arc::clone(provider);
        if self.added.is_empty() {
            return Ok(Arc::new(Verifier::new(provider)?));
        }
        #[cfg(not(target_os = "android"))]
        return Ok(Arc::new(Verifier::new_with_extra_roots(self.added.clone(), provider)?));
        #[cfg(target_os = "android")]
        return Err(rustls::Error::General("Android takes no further roots".to_owned()));
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("roots", &self.roots)
            .field("added_roots", &self.added.len())
            .field("client_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("resumption", &!self.without_resumption)
            .field("accept_any_certificate", &self.accept_any)
            .field("own_config", &self.config.is_some())
            .finish()
    }
}

/// Takes every certificate. The server must still own the key of the one it shows.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_found_when_the_settings_are_built_and_repeats_no_key() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(["a".to_owned()]).expect("a name");
        let certificate = certificate.self_signed(&key).expect("signed").pem();
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let good = || Tls::builder().client_identity_pem(&certificate, key.serialize_pem());
        assert!(good().build().is_ok());
        let own = || {
            let config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .expect("ring has them")
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            Tls::builder().rustls_config(Arc::new(config))
        };
        assert!(own().server_name("a.example").build().is_ok());
        for (settings, part) in [
            (Tls::builder().add_roots_pem("nothing"), "roots"),
            (Tls::builder().add_roots([CertificateDer::from(vec![1, 2, 3])]), "roots"),
            (Tls::builder().client_identity_pem(&certificate, "secret"), "key of the client"),
            (Tls::builder().client_identity_pem(&certificate, &other), "certificate of the client"),
            (Tls::builder().server_name("not a name"), "server_name"),
            (own().webpki_roots(), "rustls_config"),
            (own().only_added_roots(), "rustls_config"),
            (own().add_roots_pem(&certificate), "rustls_config"),
            (own().client_identity_pem(&certificate, key.serialize_pem()), "rustls_config"),
            (own().resumption(false), "rustls_config"),
            (own().dangerously_accept_any_certificate(), "rustls_config"),
        ] {
            let error = settings.build().expect_err(part);
            assert_eq!(error.part, part, "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let shown = format!("{:?}", good().build().expect("good"));
        assert!(shown.contains("client_identity: true"), "{shown}");
    }
}
