//! The way out of a failed handshake, for the text of its error.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// The same error, and at the end of its text what to do about it, if that is known.
pub(super) fn with_way_out(error: io::Error) -> io::Error {
    let Some(way_out) = way_out(&error) else { return error };
    io::Error::new(error.kind(), format!("{error}; {way_out}"))
}

fn way_out(error: &io::Error) -> Option<&'static str> {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Some("the peer closed the connection; it may not speak TLS on this port");
    }
    Some(match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has to be renewed, or a clock is wrong"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "a clock is wrong, here or where the certificate was made"
            }
            CertificateError::UnknownIssuer => {
                "to trust the issuer, add its certificate with TlsBuilder::add_roots_pem"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "ask for a host that the certificate names, or set TlsBuilder::server_name"
            }
            _ => return None,
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA => {
                "the server may ask for a certificate: set TlsBuilder::client_identity_pem"
            }
            AlertDescription::NoApplicationProtocol => {
                "the server does not speak this protocol (ALPN)"
            }
            _ => return None,
        },
        Error::InvalidMessage(_) => {
            "the peer does not answer in TLS; is this a port for plain text?"
        }
        _ => return None,
    })
}
