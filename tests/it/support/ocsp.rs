//! OCSP responses (RFC 6960 §4.2.1), made by hand. Unit tests use them, too.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rcgen::{KeyPair, SigningKey as _};

/// What a response says.
pub struct Response<'r> {
    /// The certificate that it is about, as DER.
    pub certificate: &'r [u8],
    pub issuer: &'r KeyPair,
    pub signer: &'r KeyPair,
    /// The DER of certStatus.
    pub status: &'r [u8],
    pub this_update: &'r str,
    pub next_update: Option<&'r str>,
    /// The certificate of a responder.
    pub attached: Option<&'r [u8]>,
}

pub const GOOD: &[u8] = &[0x80, 0];
pub const UNKNOWN: &[u8] = &[0x82, 0];

impl<'r> Response<'r> {
    pub fn good(certificate: &'r [u8], issuer: &'r KeyPair) -> Response<'r> {
        Response {
            certificate,
            issuer,
            signer: issuer,
            status: GOOD,
            this_update: "20200101000000Z",
            next_update: Some("20990101000000Z"),
            attached: None,
        }
    }

    /// Signed now, with a signature that differs each time.
    pub fn der(&self) -> Vec<u8> {
        let (_, parsed) = x509_parser::parse_x509_certificate(self.certificate).unwrap();
        let hash = |text| digest(&SHA1_FOR_LEGACY_USE_ONLY, text).as_ref().to_vec();
        let id = tlv(
            0x30,
            &[
                &tlv(0x30, &[&tlv(0x06, &[&[43, 14, 3, 2, 26]])]),
                &tlv(0x04, &[&hash(parsed.issuer().as_raw())]),
                &tlv(0x04, &[&hash(self.issuer.public_key_raw())]),
                &tlv(0x02, &[parsed.raw_serial()]),
            ],
        );
        let time = tlv(0x18, &[self.this_update.as_bytes()]);
        let next = self.next_update.map_or_else(Vec::new, |next| {
            tlv(0xa0, &[&tlv(0x18, &[next.as_bytes()])])
        });
        let single = tlv(0x30, &[&id, self.status, &time, &next]);
        let responder = tlv(0xa2, &[&tlv(0x04, &[&hash(self.signer.public_key_raw())])]);
        let data = tlv(0x30, &[&responder, &time, &tlv(0x30, &[&single])]);
        // ecdsa-with-SHA256
        let algorithm = tlv(0x30, &[&tlv(0x06, &[&[42, 134, 72, 206, 61, 4, 3, 2]])]);
        let signature = tlv(0x03, &[&[0], &self.signer.sign(&data).unwrap()]);
        let attached = self
            .attached
            .map_or_else(Vec::new, |der| tlv(0xa0, &[&tlv(0x30, &[der])]));
        let basic = tlv(0x30, &[&data, &algorithm, &signature, &attached]);
        // id-pkix-ocsp-basic
        let kind = tlv(0x06, &[&[43, 6, 1, 5, 5, 7, 48, 1, 1]]);
        let bytes = tlv(0x30, &[&kind, &tlv(0x04, &[&basic])]);
        tlv(0x30, &[&tlv(0x0a, &[&[0]]), &tlv(0xa0, &[&bytes])])
    }
}

/// Each call of [`Response::der`] signs again, so a test that compares bytes makes them once.
pub fn pem_of(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN OCSP RESPONSE-----\n{text}\n-----END OCSP RESPONSE-----\n")
}

/// The status revoked.
pub fn revoked() -> Vec<u8> {
    tlv(0xa1, &[&tlv(0x18, &[b"20200101000000Z"])])
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let data = parts.concat();
    let length = u16::try_from(data.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let header = match length {
        0..128 => vec![tag, low],
        128..256 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [header, data].concat()
}
