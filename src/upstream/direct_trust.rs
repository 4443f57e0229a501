//! Certificates that are trusted by themselves, without a chain.
//!
//! `openssl req -x509` creates a certificate that is both a CA and the certificate of a server. If it is in a list of
//! CAs, KrakenD accepts it from the server that presents exactly this certificate. webpki rejects a CA as end entity
//! (`CaUsedAsEndEntity`). This module implements KrakenD's rule, with the remaining checks.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::FromDer;

/// The certificates in the configured lists of CAs.
#[derive(Debug, Clone, Default)]
pub(crate) struct DirectlyTrusted(Box<[CertificateDer<'static>]>);

/// The peer that presents a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ShownBy<'a> {
    /// A server that was called by this name.
    Server(&'a ServerName<'a>),
    Client,
}

impl FromIterator<CertificateDer<'static>> for DirectlyTrusted {
    fn from_iter<I: IntoIterator<Item = CertificateDer<'static>>>(all: I) -> DirectlyTrusted {
        DirectlyTrusted(all.into_iter().collect())
    }
}

impl DirectlyTrusted {
    /// The result for an end entity that is itself in the list. `None` if it is not, and its chain decides.
    ///
    /// # Errors
    /// The certificate has expired, has another purpose, or does not contain the server's name.
    pub(crate) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        shown_by: ShownBy<'_>,
        now: UnixTime,
    ) -> Option<Result<(), Error>> {
        let DirectlyTrusted(list) = self;
        let is_listed = list.iter().any(|one| one.as_ref() == end_entity.as_ref());
        is_listed.then(|| check(end_entity, shown_by, now))
    }
}

fn check(
    certificate: &CertificateDer<'_>,
    shown_by: ShownBy<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    let uses = parsed
        .extended_key_usage()
        .map_err(|_| CertificateError::BadEncoding)?;
    if uses.is_some_and(|uses| !allows(uses.value, shown_by)) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    match shown_by {
        ShownBy::Server(name) => {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
        }
        ShownBy::Client => Ok(()),
    }
}

fn allows(uses: &ExtendedKeyUsage<'_>, shown_by: ShownBy<'_>) -> bool {
    uses.any
        || match shown_by {
            ShownBy::Server(_) => uses.server_auth,
            ShownBy::Client => uses.client_auth,
        }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    /// The output of `openssl req -x509` for `keys.test`, valid from 2020 to 2030.
    fn made(uses: &[ExtendedKeyUsagePurpose]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["keys.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        params.extended_key_usages = uses.to_vec();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn in_year(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600))
    }

    fn verdict(
        shown: &CertificateDer<'static>,
        name: Option<&'static str>,
        year: u64,
    ) -> Result<(), Error> {
        let list = DirectlyTrusted::from_iter([made(&[]), shown.clone()]);
        let name = name.map(|name| ServerName::try_from(name).unwrap());
        let shown_by = name.as_ref().map_or(ShownBy::Client, ShownBy::Server);
        list.verify(shown, shown_by, in_year(year)).expect("listed")
    }

    #[test]
    fn a_listed_certificate_is_valid_for_its_name_and_time() {
        let shown = made(&[]);
        assert_eq!(verdict(&shown, Some("keys.test"), 2025), Ok(()));
        assert_eq!(verdict(&shown, None, 2025), Ok(()));
        for (name, year) in [
            ("evil.test", 2025),
            ("keys.test", 2019),
            ("keys.test", 2031),
        ] {
            verdict(&shown, Some(name), year).expect_err(name);
        }
        verdict(&shown, None, 2031).expect_err("expired");
    }

    #[test]
    fn the_purpose_is_checked_if_there_is_one() {
        let client = made(&[ExtendedKeyUsagePurpose::ClientAuth]);
        let server = made(&[ExtendedKeyUsagePurpose::ServerAuth]);
        let any = made(&[ExtendedKeyUsagePurpose::Any]);
        let wrong = Err(CertificateError::InvalidPurpose.into());
        assert_eq!(verdict(&client, Some("keys.test"), 2025), wrong);
        assert_eq!(verdict(&client, None, 2025), Ok(()));
        assert_eq!(verdict(&server, Some("keys.test"), 2025), Ok(()));
        assert_eq!(verdict(&server, None, 2025), wrong);
        assert_eq!(verdict(&any, Some("keys.test"), 2025), Ok(()));
        assert_eq!(verdict(&any, None, 2025), Ok(()));
    }

    #[test]
    fn another_certificate_gives_no_result() {
        let list = DirectlyTrusted::from_iter([made(&[])]);
        let verdict = list.verify(&made(&[]), ShownBy::Client, in_year(2025));
        assert!(verdict.is_none());
    }
}
