//! How the other end of a side call is verified: authorities, pins, cipher suites.

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedCipherSuite,
};

use crate::upstream::client::ClientError;
use crate::upstream::listed::{ListedCertificates, ShownBy};
use crate::upstream::tls::{certificates_in, system_certificates};

/// How the other end of a side call proves who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SideTls {
    /// Accept any certificate. Pins hold nevertheless, but then only for the server's own certificate: nothing vouches
    /// for the rest of the chain.
    pub insecure: bool,
    /// PEM files trusted besides the system's certificates.
    pub ca_certs: Vec<PathBuf>,
    /// SHA-256 of the public keys (DER `SubjectPublicKeyInfo`) of which one must be in the chain; empty: any.
    pub pins: Vec<[u8; 32]>,
    /// IANA numbers of the TLS 1.2 suites; empty: all that we have. Those of TLS 1.3 are always on.
    pub cipher_suites: Vec<u16>,
}

impl SideTls {
    /// The numbers of `cipher_suites` that this TLS stack does not have: RC4, 3DES, CBC, static RSA.
    pub fn unsupported_suites(&self) -> Vec<u16> {
        let known = provider::default_provider().cipher_suites;
        self.cipher_suites
            .iter()
            .copied()
            .filter(|number| !known.iter().any(|suite| is_tls12(suite, *number)))
            .collect()
    }
}

/// A client configuration that verifies as `tls` says.
pub(super) fn client_config(tls: &SideTls) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(crypto_provider(tls)?);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_certificates());
    let mut own = Vec::new();
    for path in &tls.ca_certs {
        for certificate in certificates_in(path)? {
            roots
                .add(certificate.clone())
                .map_err(|error| ClientError::file(path, error))?;
            own.push(certificate);
        }
    }
    let failed = |reason: String| ClientError::Side { reason };
    let chain = if tls.insecure || roots.is_empty() {
        None
    } else {
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        Some(builder.build().map_err(|error| failed(error.to_string()))?)
    };
    let verifier = Verifier {
        listed: own.into_iter().collect(),
        chain,
        insecure: tls.insecure,
        pins: tls.pins.clone(),
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// aws-lc-rs, chosen by name: Pingora links ring too, so the process has no natural default.
fn crypto_provider(tls: &SideTls) -> Result<CryptoProvider, ClientError> {
    let mut provider = provider::default_provider();
    if !tls.cipher_suites.is_empty() {
        let wanted = |suite: &SupportedCipherSuite| {
            tls.cipher_suites
                .iter()
                .any(|number| is_tls12(suite, *number))
        };
        if !provider.cipher_suites.iter().any(wanted)
            && tls.unsupported_suites().len() == tls.cipher_suites.len()
        {
            return Err(ClientError::Side {
                reason: "none of the cipher suites is supported".to_owned(),
            });
        }
        provider
            .cipher_suites
            .retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)) || wanted(suite));
    }
    Ok(provider)
}

fn is_tls12(suite: &SupportedCipherSuite, number: u16) -> bool {
    matches!(suite, SupportedCipherSuite::Tls12(_)) && u16::from(suite.suite()) == number
}

/// The usual verification, unless it is switched off, and then the pins.
#[derive(Debug)]
struct Verifier {
    /// Those of the file: a server may also show one of them itself.
    listed: ListedCertificates,
    /// `None`: nothing is checked when `insecure`; everything is refused when there is no root to check against.
    chain: Option<Arc<WebPkiServerVerifier>>,
    insecure: bool,
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
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

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown_by = ShownBy::Server(server_name);
        let listed = match self.insecure {
            true => None,
            false => self.listed.verify(end_entity, shown_by, now),
        };
        // Where only the server's own certificate is vouched for, only its pin counts.
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
            // In KrakenD's words.
            Err(rustls::Error::General(
                "JWK client did not find a pinned key".to_owned(),
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    /// A server for `keys.test` with what `openssl req -x509` makes, and that certificate as PEM.
    fn server() -> (ServerConnection, String) {
        let mut params = CertificateParams::new(vec!["keys.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        (connection, certificate.pem())
    }

    /// Shakes hands in memory.
    fn handshake(tls: &SideTls, mut server: ServerConnection, name: &str) -> Result<(), String> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let config = client_config(tls).map_err(|error| error.to_string())?;
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client
                .process_new_packets()
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn a_self_signed_certificate_on_the_list_is_its_servers_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let listed = SideTls {
            ca_certs: vec![path.clone()],
            ..SideTls::default()
        };
        let (ours, pem) = server();
        std::fs::write(&path, pem).unwrap();
        assert_eq!(handshake(&listed, ours, "keys.test"), Ok(()));
        let (stranger, _) = server();
        handshake(&listed, stranger, "keys.test").expect_err("not on the list");
        let (ours, pem) = server();
        std::fs::write(&path, pem).unwrap();
        handshake(&listed, ours, "other.test").expect_err("another name");
    }

    #[test]
    fn a_server_without_a_pinned_key_is_told_apart() {
        let (server, _) = server();
        let pinned = SideTls {
            insecure: true,
            pins: vec![[0; 32]],
            ..SideTls::default()
        };
        let why = handshake(&pinned, server, "keys.test").unwrap_err();
        assert!(
            why.ends_with("JWK client did not find a pinned key"),
            "{why}"
        );
    }

    #[test]
    fn only_suites_that_exist_are_offered() {
        let tls = SideTls {
            cipher_suites: vec![5, 49199],
            ..SideTls::default()
        };
        assert_eq!(tls.unsupported_suites(), [5]);
        let suites = crypto_provider(&tls).unwrap().cipher_suites;
        let old = |suite: &&SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls12(_));
        assert_eq!(suites.iter().filter(old).count(), 1);
        assert!(suites.len() > 1, "those of TLS 1.3 stay");
    }

    #[test]
    fn a_list_without_any_suite_of_ours_is_refused() {
        let tls = SideTls {
            cipher_suites: vec![5, 10],
            ..SideTls::default()
        };
        assert!(crypto_provider(&tls).is_err());
    }
}
