//! OCSP responses from files.

use std::time::Duration;

use chrono::Utc;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::credulous::credulous_client;
use super::{checked, config};
use crate::support::http::request;
use crate::support::ocsp::{Response, UNKNOWN, pem_of, revoked};
use crate::support::tls::Authority;
use crate::support::{Client, Gateway, eventually};

/// A certificate with its issuer in the same file, as PEM, and its key; and the certificate as DER.
fn chain(authority: &Authority) -> (String, String, CertificateDer<'static>) {
    let (certificate, key) = authority.pair("a.test");
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    (format!("{certificate}{}", authority.pem()), key, der)
}

fn one_key() -> serde_json::Value {
    json!({ "keys": [{ "public_key": "c", "private_key": "k", "ocsp_response": "o" }] })
}

#[test]
fn a_response_of_the_authority_is_stapled() {
    let authority = Authority::new();
    let (chain, key, der) = chain(&authority);
    let response = Response::good(&der, authority.key()).der();
    let pair = [("c", &*chain), ("k", &*key)];
    let pem = pem_of(&response);
    let files: Vec<_> = pair.into_iter().chain([("o", &*pem)]).collect();
    let gateway = Gateway::start_with(&config(one_key()).to_string(), &files);
    let (_, stapled) = credulous_client(gateway.port(), None);
    assert_eq!(stapled, response);
    let with = |response: Option<&str>| {
        let response = response.map(|text| ("o", text));
        let files: Vec<_> = pair.into_iter().chain(response).collect();
        checked(&config(one_key()), &files)
    };
    let (code, said) = with(None);
    assert!(
        code == Some(1) && said.contains("tls/keys/0/ocsp_response"),
        "{said}"
    );
}

#[test]
fn a_response_that_clients_would_reject_is_not_stapled() {
    let authority = Authority::new();
    let (chain, key, der) = chain(&authority);
    let (_, _, other) = self::chain(&authority);
    let stranger = rcgen::KeyPair::generate().unwrap();
    let good = || Response::good(&der, authority.key());
    let revoked = revoked();
    for (response, warning) in [
        (good(), None),
        (
            Response {
                next_update: Some("20200108000000Z"),
                ..good()
            },
            Some("is past its nextUpdate"),
        ),
        (
            Response::good(&other, authority.key()),
            Some("is about another certificate"),
        ),
        (
            Response {
                signer: &stranger,
                ..good()
            },
            Some("is signed neither by the issuer"),
        ),
        (
            Response {
                status: &revoked,
                ..good()
            },
            Some("says that the certificate is revoked"),
        ),
        (
            Response {
                status: UNKNOWN,
                ..good()
            },
            Some("says that the certificate is unknown"),
        ),
        (
            Response {
                this_update: "20980101000000Z",
                ..good()
            },
            Some("has a thisUpdate in the future"),
        ),
    ] {
        let pem = pem_of(&response.der());
        let files = [("c", &*chain), ("k", &*key), ("o", &*pem)];
        let (code, said) = checked(&config(one_key()), &files);
        assert_eq!(code, Some(0), "{said}");
        let is_said = said.contains("and is not stapled");
        assert_eq!(is_said, warning.is_some(), "{said}");
        assert!(warning.is_none_or(|words| said.contains(words)), "{said}");
        let gateway = Gateway::start_with(&config(one_key()).to_string(), &files);
        let (_, stapled) = credulous_client(gateway.port(), None);
        assert_eq!(stapled.is_empty(), warning.is_some(), "{warning:?}");
    }
}

/// A job that renews the file may leave such files, if the OCSP server does not work.
#[test]
fn a_file_without_a_response_is_a_warning_at_start_and_at_a_reload() {
    let authority = Authority::new();
    let (chain, key, der) = chain(&authority);
    let good = pem_of(&Response::good(&der, authority.key()).der());
    // tryLater (RFC 6960 §4.2.1)
    let later = "0\u{3}\n\u{1}\u{3}";
    for bad in ["", &good[..good.len() / 2], later] {
        let files = [("c", &*chain), ("k", &*key), ("o", bad)];
        let (code, said) = checked(&config(one_key()), &files);
        let is_said = said.contains("and is not stapled");
        assert!(code == Some(0) && is_said, "{bad:?}: {said}");
        let gateway = Gateway::start_with(&config(one_key()).to_string(), &files);
        let stapled = || credulous_client(gateway.port(), None).1;
        assert!(stapled().is_empty());
        let reloaded = |text: &str, times: usize| {
            std::fs::write(gateway.dir().join("o"), text).unwrap();
            gateway.signal("HUP");
            eventually("the file is read", Duration::from_secs(60), || {
                gateway.output().matches("Configuration reloaded").count() == times
            });
        };
        reloaded(&good, 1);
        assert!(!stapled().is_empty());
        reloaded(bad, 2);
        assert!(stapled().is_empty());
    }
}

#[test]
fn the_end_of_a_response_is_a_metric_and_a_log_line() {
    let authority = Authority::new();
    let (chain, key, der) = chain(&authority);
    let metrics = crate::support::ports::free();
    let mut config = config(one_key());
    let listen = format!("127.0.0.1:{metrics}");
    config["extra_config"]["portcullis/metrics"] = json!({ "listen": listen });
    let end = Utc::now() + chrono::TimeDelta::seconds(6);
    let next = end.format("%Y%m%d%H%M%SZ").to_string();
    let response = Response {
        next_update: Some(&next),
        ..Response::good(&der, authority.key())
    };
    let pem = pem_of(&response.der());
    let files = [("c", &*chain), ("k", &*key), ("o", &*pem)];
    let gateway = Gateway::start_with(&config.to_string(), &files);
    let mut client = Client::connect(metrics).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let line = format!("\"}} {}\n", end.timestamp());
    let name = "portcullis_ocsp_response_expiry_timestamp_seconds{file=";
    assert!(page.contains(name) && page.contains(&line), "{page}");
    let text = "is past its nextUpdate and no longer stapled";
    eventually("the log says it", Duration::from_secs(60), || {
        gateway.output().contains(text)
    });
    let (_, stapled) = credulous_client(gateway.port(), None);
    assert!(stapled.is_empty());
}
