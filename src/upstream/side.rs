//! Calls of our own (key sets, tokens, discovery) over reqwest, bounded in time and size.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedCipherSuite,
};

use super::client::ClientError;
use super::tls::{certificates_in, system_certificates};

/// Key sets and tokens are small; what is larger is a mistake or an attack.
pub const MOST_BYTES: usize = 1 << 20;
/// No side call takes longer, whoever waits for it.
pub const MOST_TIME: Duration = Duration::from_secs(5);
/// As many as the reference follows.
const MOST_REDIRECTS: usize = 10;

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

/// A client for side calls. Honours `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone)]
pub struct SideClient {
    http: reqwest::Client,
}

/// An answer to a side call, whatever its status.
#[derive(Debug, Clone)]
pub struct SideAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why a side call gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SideError {
    /// No usable connection.
    #[error("{method} \"{url}\": {reason}")]
    Connect {
        method: &'static str,
        url: String,
        reason: String,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("{method} \"{url}\": {reason}")]
    Broken {
        method: &'static str,
        url: String,
        reason: String,
    },
    #[error("{method} \"{url}\": no complete answer within {limit:?}")]
    Time {
        method: &'static str,
        url: String,
        limit: Duration,
    },
    #[error("answer larger than {MOST_BYTES} bytes")]
    Size,
    #[error("unexpected status {0}")]
    Status(StatusCode),
    #[error("should have a JSON content type")]
    ContentType,
}

impl SideClient {
    /// Makes a client that introduces itself as `user_agent`.
    ///
    /// # Errors
    /// A CA file that cannot be used, or a list of cipher suites of which we have none.
    pub fn new(tls: &SideTls, user_agent: &HeaderValue) -> Result<SideClient, ClientError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(tls)?)
            .user_agent(user_agent.clone())
            .redirect(redirects())
            .connect_timeout(MOST_TIME)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(2)
            .http1_only()
            .build()
            .map_err(|error| ClientError::Side {
                reason: error.to_string(),
            })?;
        Ok(SideClient { http })
    }

    /// Fetches `url`; anything but a 2xx is an error. With `types`, the answer's `Content-Type` must begin with one.
    ///
    /// # Errors
    /// See [`SideError`].
    pub async fn get(&self, url: &str, types: &[&str]) -> Result<SideAnswer, SideError> {
        let request = self.http.request(Method::GET, url);
        let answer = self.send(request, "Get", url, MOST_TIME).await?;
        if !answer.status.is_success() {
            return Err(SideError::Status(answer.status));
        }
        let kind = answer.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let fits = |wanted: &&str| kind.is_some_and(|kind| kind.starts_with(wanted.as_bytes()));
        if !types.is_empty() && !types.iter().any(fits) {
            return Err(SideError::ContentType);
        }
        Ok(answer)
    }

    /// Posts a form; every status is an answer.
    ///
    /// # Errors
    /// See [`SideError`].
    pub async fn post_form(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<SideAnswer, SideError> {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = self
            .http
            .request(Method::POST, url)
            .header(CONTENT_TYPE, form)
            .headers(headers)
            .body(body);
        self.send(request, "Post", url, MOST_TIME).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        method: &'static str,
        url: &str,
        limit: Duration,
    ) -> Result<SideAnswer, SideError> {
        match tokio::time::timeout(limit, exchange(request, method, url)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SideError::Time {
                method,
                url: url.to_owned(),
                limit,
            }),
        }
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    method: &'static str,
    url: &str,
) -> Result<SideAnswer, SideError> {
    let failed = |error: reqwest::Error| failure(&error, method, url);
    let mut response = request.send().await.map_err(failed)?;
    let announced = response.content_length().unwrap_or(0);
    if announced > MOST_BYTES as u64 {
        return Err(SideError::Size);
    }
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(SideError::Size);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(SideAnswer {
        status,
        headers,
        body: body.freeze(),
    })
}

/// Says what happened in the reference's words where there are such, else in those of the innermost cause.
fn failure(error: &reqwest::Error, method: &'static str, url: &str) -> SideError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let refused = cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
    let url = url.to_owned();
    if error.is_connect() {
        let reason = if refused {
            format!("dial tcp {}: connect: connection refused", authority(&url))
        } else {
            cause.to_string()
        };
        return SideError::Connect {
            method,
            url,
            reason,
        };
    }
    SideError::Broken {
        method,
        url,
        reason: cause.to_string(),
    }
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Up to ten, and never from https to http: what came in secret must not go on in the clear.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let was_secure = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if was_secure && attempt.url().scheme() != "https" {
            attempt.error("redirect from https to http")
        } else if attempt.previous().len() >= MOST_REDIRECTS {
            attempt.error("stopped after 10 redirects")
        } else {
            attempt.follow()
        }
    })
}

fn client_config(tls: &SideTls) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(crypto_provider(tls)?);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_certificates());
    for path in &tls.ca_certs {
        for certificate in certificates_in(path)? {
            roots
                .add(certificate)
                .map_err(|error| ClientError::file(path, error))?;
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
        match &self.chain {
            Some(chain) => {
                chain.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                )?;
            }
            None if self.insecure => {}
            None => return Err(CertificateError::UnknownIssuer.into()),
        }
        let pinned = self.pins.is_empty()
            || self.is_pinned(end_entity)
            || !self.insecure && intermediates.iter().any(|one| self.is_pinned(one));
        if pinned {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
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
    use super::*;

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
