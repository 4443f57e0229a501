//! Verification of client certificates (`enable_mtls`).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::upstream::{
    DirectlyTrusted, ShownBy, Signed, certificate_words, explained, verify_signature,
};

/// The usual verification of a chain, and in addition the configured certificates, which a client may present
/// themselves: `openssl req -x509` creates a certificate that is also a CA, and a chain must not end with one.
#[derive(Debug)]
pub(super) struct ClientAuth {
    pub listed: DirectlyTrusted,
    pub chain: Arc<dyn ClientCertVerifier>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ClientAuth {
    /// A configured certificate may have a form that the library does not parse.
    fn signature(
        &self,
        signed: Signed<'_>,
        certificate: &CertificateDer<'_>,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(signed, certificate, &self.algorithms)
            .map_err(|error| explained(error, certificate))
    }
}

/// Why a handshake failed, if the reason was the client's certificate. This is logged visibly, because the client
/// only receives an alert.
pub(super) fn rejected_certificate(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(why) => Some(certificate_words(&why.to_string()).to_owned()),
        Error::NoCertificatesPresented => Some("the client sent none".to_owned()),
        _ => None,
    }
}

impl ClientCertVerifier for ClientAuth {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = match self.listed.verify(end_entity, ShownBy::Client, now) {
            Some(verdict) => verdict.map(|()| ClientCertVerified::assertion()),
            None => self
                .chain
                .verify_client_cert(end_entity, intermediates, now),
        };
        verdict.map_err(|error| explained(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(Signed::Tls12(message, signature), certificate)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(Signed::Tls13(message, signature), certificate)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
