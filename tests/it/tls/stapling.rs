//! OCSP responses from files.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::credulous::credulous_client;
use super::{checked, config};
use crate::support::Gateway;
use crate::support::tls::Authority;

#[test]
fn a_response_of_the_authority_is_stapled() {
    let authority = Authority::new();
    let port = crate::support::ports::free();
    let pair = authority.pair("a.test");
    let tls = json!({ "keys": [{ "public_key": "c", "private_key": "k", "ocsp_response": "o" }] });
    let response = "-----BEGIN OCSP RESPONSE-----\nMAMKAQA=\n-----END OCSP RESPONSE-----\n";
    let files = [("c", &*pair.0), ("k", &*pair.1), ("o", response)];
    let number = port.to_string();
    let gateway = Gateway::spawn(
        port,
        &config(tls.clone()).to_string(),
        &files,
        &["-p", &number],
    );
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    let (_, stapled) = credulous_client(port, None);
    assert_eq!(stapled, [0x30, 3, 10, 1, 0]);
    let with = |response: Option<&str>| {
        let response = response.map(|text| ("o", text));
        let pair = [("c", &*pair.0), ("k", &*pair.1)];
        checked(
            &config(tls.clone()),
            &pair.into_iter().chain(response).collect::<Vec<_>>(),
        )
    };
    let (code, said) = with(Some("no"));
    assert!(
        code == Some(1) && said.contains("is not an OCSP response"),
        "{said}"
    );
    let (code, said) = with(None);
    assert!(
        code == Some(1) && said.contains("tls/keys/0/ocsp_response"),
        "{said}"
    );
}

/// An OCSP response (RFC 6960 §4.2.1) about the certificate with this serial number and SHA-1 of the issuer's name.
fn ocsp_about(issuer: &[u8], serial: &[u8], next_update: &[u8]) -> String {
    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let data = parts.concat();
        let length = u8::try_from(data.len()).unwrap();
        let long = [0x81, length];
        [
            &[tag][..],
            if length < 128 { &long[1..] } else { &long[..] },
            &data[..],
        ]
        .concat()
    }
    let time = tlv(0x18, &[b"20200101000000Z"]);
    let next = tlv(0xa0, &[&tlv(0x18, &[next_update])]);
    let sha1 = tlv(0x30, &[&tlv(0x06, &[&[43, 14, 3, 2, 26]])]);
    let (name, key) = (tlv(0x04, &[issuer]), tlv(0x04, &[&[0; 20]]));
    let id = tlv(0x30, &[&sha1, &name, &key, &tlv(0x02, &[serial])]);
    let single = tlv(0x30, &[&id, &tlv(0x80, &[]), &time, &next]);
    let data = tlv(
        0x30,
        &[
            &tlv(0xa1, &[&tlv(0x30, &[])]),
            &time,
            &tlv(0x30, &[&single]),
        ],
    );
    let octets = tlv(0x04, &[&tlv(0x30, &[&data])]);
    let bytes = tlv(0x30, &[&tlv(0x06, &[&[43]]), &octets]);
    let der = tlv(0x30, &[&tlv(0x0a, &[&[0]]), &tlv(0xa0, &[&bytes])]);
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN OCSP RESPONSE-----\n{text}\n-----END OCSP RESPONSE-----\n")
}

#[test]
fn a_response_that_clients_would_reject_is_not_stapled() {
    let authority = Authority::new();
    let pair = authority.pair("a.test");
    let der = CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let name = parsed.issuer().as_raw();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, name);
    let (issuer, serial) = (hash.as_ref(), parsed.raw_serial());
    let (late, early): (&[u8], &[u8]) = (b"20990101000000Z", b"20200108000000Z");
    let tls = json!({ "keys": [{ "public_key": "c", "private_key": "k", "ocsp_response": "o" }] });
    for (response, warning) in [
        (ocsp_about(issuer, serial, late), None),
        (
            ocsp_about(issuer, serial, early),
            Some("past its nextUpdate"),
        ),
        (
            ocsp_about(issuer, &[1, 2, 3], late),
            Some("about another certificate"),
        ),
        (
            ocsp_about(&[7; 20], serial, late),
            Some("about another certificate"),
        ),
    ] {
        let files = [("c", &*pair.0), ("k", &*pair.1), ("o", &*response)];
        let (code, said) = checked(&config(tls.clone()), &files);
        assert_eq!(code, Some(0), "{said}");
        assert!(warning.is_none_or(|words| said.contains(words)), "{said}");
        let gateway = Gateway::start_with(&config(tls.clone()).to_string(), &files);
        let (_, stapled) = credulous_client(gateway.port(), None);
        assert_eq!(stapled.is_empty(), warning.is_some(), "{warning:?}");
    }
}
