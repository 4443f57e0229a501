//! Checks the contents of the configured certificate and key files, for `check` as well as for `run`.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use crate::compile::files::readable;
use crate::config::tls::KeyPair;
use crate::config::{ConfigError, Node};
use crate::ext::{
    CertificateUse, Compile, StapleEnd, StapleInUse, look_at_certificates, warn_if_others_write,
};
use crate::upstream::{
    CertificatePair, PemError, Staple, certificate_pair, certificates_in, facts, read_ocsp_response,
};

/// A file with CA certificates.
pub(super) fn authorities(node: &Node<'_>, cx: &Compile<'_>) -> Option<PathBuf> {
    let path = readable(node, cx)?;
    match certificates_in(&path) {
        Ok(_) => {
            look_at_certificates(node, &path, CertificateUse::Authority, cx);
            Some(path)
        }
        Err(error) => {
            node.invalid(error.to_string());
            None
        }
    }
}

/// Our own certificate and its key, which must match.
pub(super) fn pair(
    written: &KeyPair<'_>,
    used_as: CertificateUse,
    cx: &Compile<'_>,
) -> Option<CertificatePair> {
    let certificate = written.certificate.as_ref();
    let private_key = written.private_key.as_ref();
    // Both are checked before an error is returned.
    let paths = (
        certificate.and_then(|node| readable(node, cx)),
        private_key.and_then(|node| readable(node, cx)),
    );
    let pair = CertificatePair {
        certificate: paths.0?,
        private_key: paths.1?,
    };
    match certificate_pair(&pair.certificate, &pair.private_key) {
        Ok(_) => {
            look_at_certificates(certificate?, &pair.certificate, used_as, cx);
            warn_if_others_write(private_key?, &pair.private_key);
            Some(pair)
        }
        Err(error) => {
            culprit(written, &pair, &error)?.invalid(error.to_string());
            None
        }
    }
}

fn culprit<'w, 'a>(
    written: &'w KeyPair<'a>,
    pair: &CertificatePair,
    error: &PemError,
) -> Option<&'w Node<'a>> {
    if error.path == pair.private_key {
        written.private_key.as_ref()
    } else {
        written.certificate.as_ref()
    }
}

/// The OCSP response of a pair, which a certificate may require (RFC 7633).
pub(super) fn ocsp_response(written: &KeyPair<'_>, cx: &Compile<'_>) -> Option<PathBuf> {
    let Some(node) = &written.ocsp_response else {
        warn_without_response(written, cx);
        return None;
    };
    let path = readable(node, cx)?;
    let response = match read_ocsp_response(&path) {
        Ok(response) => response,
        Err(error) => {
            node.invalid(error.to_string());
            return None;
        }
    };
    // An unreadable certificate is reported where it is used.
    let chain = chain(written, cx)?;
    let staple = response.staple(&chain);
    let is_needed = must_staple(&chain);
    match &staple {
        Ok(staple) if staple.is_verified => {}
        Ok(_) => node.warn_hint(
            ConfigError::invalid(
                "the signature of the OCSP response is not verified, because the issuer of the certificate is not in its file",
            ),
            "append the certificate of the issuer to the file in \"public_key\"",
        ),
        Err(problem) => {
            let more = if is_needed {
                ": clients reject the certificate without one"
            } else {
                ""
            };
            node.warn_hint(
                ConfigError::invalid(format!(
                    "the OCSP response {problem} and is not stapled{more}"
                )),
                "write a new one into this file and reload",
            );
        }
    }
    cx.staples.borrow_mut().push(StapleInUse {
        file: path.display().to_string(),
        end: match &staple {
            Err(_) => StapleEnd::Past,
            Ok(Staple { until: None, .. }) => StapleEnd::Never,
            Ok(Staple {
                until: Some(end), ..
            }) => StapleEnd::At(*end),
        },
        ends_with_signer: staple.is_ok_and(|staple| staple.ends_with_signer),
        is_needed,
    });
    Some(path)
}

/// The certificates of a pair, if they can be read.
fn chain(written: &KeyPair<'_>, cx: &Compile<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let node = written.certificate.as_ref()?;
    let path = cx.path(node.text(crate::config::Typing::Weak)?);
    certificates_in(&path).ok()
}

fn must_staple(chain: &[CertificateDer<'_>]) -> bool {
    let facts = chain.first().and_then(facts);
    facts.is_some_and(|facts| facts.must_staple)
}

fn warn_without_response(written: &KeyPair<'_>, cx: &Compile<'_>) {
    let Some(node) = &written.certificate else {
        return;
    };
    if chain(written, cx).is_some_and(|chain| must_staple(&chain)) {
        node.warn_hint(
            ConfigError::invalid(
                "clients demand a stapled OCSP response with this certificate, and there is none",
            ),
            "\"ocsp_response\" next to it names a file with one",
        );
    }
}
