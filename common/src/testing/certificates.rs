//! Certificates for servers and clients of tests, made anew for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// An authority that a test trusts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// When no key can be made.
    #[expect(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Authorities of one name would be taken for one that signs badly.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("authority {} of a test", NEXT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("it can be signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names and addresses; the first is its common name.
    ///
    /// # Panics
    /// When a name is malformed.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(names, |_| {})
    }

    /// A certificate that has expired long ago.
    ///
    /// # Panics
    /// As [`issue`](Self::issue).
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    fn sign(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Identity {
        let mut params = leaf(names);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Identity {
    /// A certificate that no authority has signed.
    ///
    /// # Panics
    /// When a name is malformed.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf(names).self_signed(&key).expect("it can be signed");
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn leaf(names: &[&str]) -> CertificateParams {
    let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(owned).expect("names");
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params
}
