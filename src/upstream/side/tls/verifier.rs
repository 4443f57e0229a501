//! Checks the certificate of a server, also by pins.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use crate::upstream::direct_trust::{DirectlyTrusted, ShownBy};
use crate::upstream::handshake_signature::{self, Signed, explained};

/// The usual verification, unless it is disabled, followed by the pins.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The CAs of the configuration: a server may also present one of them as its own certificate.
    pub(super) listed: DirectlyTrusted,
    /// `None`: with `insecure` nothing is verified; otherwise there are no roots and every server is rejected.
    pub(super) chain: Option<Arc<WebPkiServerVerifier>>,
    pub(super) insecure: bool,
    pub(super) pins: Vec<[u8; 32]>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        use x509_parser::prelude::FromDer;
        let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(certificate)
        else {
            return false;
        };
        let hash = digest::digest(&digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
        self.pins.iter().any(|pin| pin == hash.as_ref())
    }
}

impl Verifier {
    /// If certificates are not verified, a key that we do not support is accepted as well: an attacker in the middle
    /// could present a supported one anyway.
    fn signature(
        &self,
        signed: Signed<'_>,
        certificate: &CertificateDer<'_>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match handshake_signature::verify(signed, certificate, algorithms) {
            Err(_)
                if self.insecure
                    && self.pins.is_empty()
                    && !handshake_signature::is_usable(certificate, algorithms) =>
            {
                Ok(HandshakeSignatureValid::assertion())
            }
            outcome => outcome.map_err(|error| explained(error, certificate)),
        }
    }

    pub(super) fn certificate(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown_by = ShownBy::Server(server_name);
        let listed = if self.insecure {
            None
        } else {
            self.listed.verify(end_entity, shown_by, now)
        };
        // If only the server's own certificate is trusted, only its own pin counts.
        let alone = self.insecure || listed.is_some();
        match (listed, &self.chain) {
            (Some(verdict), _) => verdict?,
            (None, Some(chain)) => {
                chain.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                )?;
            }
            (None, None) if self.insecure => {}
            (None, None) => return Err(CertificateError::UnknownIssuer.into()),
        }
        let pinned = self.pins.is_empty()
            || self.is_pinned(end_entity)
            || !alone && intermediates.iter().any(|one| self.is_pinned(one));
        if pinned {
            Ok(ServerCertVerified::assertion())
        } else {
            // KrakenD's message.
            Err(rustls::Error::General(
                "JWK client did not find a pinned key".to_owned(),
            ))
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.certificate(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| explained(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(Signed::Tls12(message, dss), cert)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(Signed::Tls13(message, dss), cert)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
