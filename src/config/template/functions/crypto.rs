//! Hashes, passwords, keys.

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use aws_lc_rs::{digest, hmac};

use super::Kind::{Int, Text};
use super::{Call, Function, Outcome, encoding, fixed, int, random, string, text};
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("sha1sum", &[Text], |_, arguments| {
        Ok(Value::text(hex::encode(
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text(&arguments, 0)).as_ref(),
        )))
    }),
    fixed("sha256sum", &[Text], |_, arguments| {
        Ok(Value::text(hex::encode(
            digest::digest(&digest::SHA256, &text(&arguments, 0)).as_ref(),
        )))
    }),
    fixed("adler32sum", &[Text], |_, arguments| {
        Ok(Value::text(adler32(&text(&arguments, 0)).to_string()))
    }),
    fixed("bcrypt", &[Text], |_, arguments| {
        bcrypt_hash(&text(&arguments, 0)).map(Value::text)
    }),
    fixed("htpasswd", &[Text, Text], |_, arguments| {
        let user = string(&arguments, 0);
        if user.contains(':') {
            return Ok(Value::text(format!("invalid username: {user}")));
        }
        Ok(Value::text(format!(
            "{user}:{}",
            bcrypt_hash(&text(&arguments, 1))?
        )))
    }),
    fixed(
        "derivePassword",
        &[Int, Text, Text, Text, Text],
        derive_password,
    ),
    fixed("genPrivateKey", &[Text], generate_key),
    fixed("encryptAES", &[Text, Text], encrypt),
    fixed("decryptAES", &[Text, Text], decrypt),
];

/// RFC 1950 §9.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut low, mut high) = (1, 0);
    for byte in bytes {
        low = (low + u32::from(*byte)) % MODULUS;
        high = (high + low) % MODULUS;
    }
    (high << 16) | low
}

fn bcrypt_hash(password: &[u8]) -> Result<String, String> {
    let mut salt = [0; 16];
    random::fill(&mut salt)?;
    let parts = bcrypt::hash_with_salt(password, 10, salt).map_err(|error| error.to_string())?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

const SEED: &[u8] = b"com.lyndir.masterpassword";

/// The templates and letters of the Master Password algorithm.
const TEMPLATES: &[(&str, &[&str])] = &[
    ("maximum", &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"]),
    (
        "long",
        &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
    ),
    ("medium", &["CvcnoCvc", "CvcCvcno"]),
    ("short", &["Cvcn"]),
    ("basic", &["aaanaaan", "aannaaan", "aaannaaa"]),
    ("pin", &["nnnn"]),
];

fn letters(class: u8) -> &'static [u8] {
    match class {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'A' => b"AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

fn with_length(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}

fn derive_password(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let kind = string(&arguments, 1);
    let Some((_, templates)) = TEMPLATES.iter().find(|(name, _)| *name == kind) else {
        return Ok(Value::text(format!("cannot find password template {kind}")));
    };
    let mut salt = SEED.to_vec();
    with_length(&mut salt, &text(&arguments, 3));
    let parameters = scrypt::Params::new(15, 8, 2, 64).map_err(|error| error.to_string())?;
    let mut key = [0; 64];
    scrypt::scrypt(&text(&arguments, 2), &salt, &parameters, &mut key)
        .map_err(|error| error.to_string())?;
    let mut message = SEED.to_vec();
    with_length(&mut message, &text(&arguments, 4));
    message.extend_from_slice(&(int(&arguments, 0) as u32).to_be_bytes());
    let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
    let seed = seed.as_ref();
    let template = templates[usize::from(seed[0]) % templates.len()];
    let password = template.bytes().zip(&seed[1..]).map(|(class, number)| {
        let letters = letters(class);
        letters[usize::from(*number) % letters.len()]
    });
    Ok(Value::text(password.collect::<Vec<u8>>()))
}

/// The key of a password: padded with zeros or truncated to 32 bytes.
fn cipher_key(password: &[u8]) -> Result<UnboundCipherKey, String> {
    let mut key = [0; 32];
    let length = password.len().min(32);
    key[..length].copy_from_slice(&password[..length]);
    UnboundCipherKey::new(&AES_256, &key).map_err(|error| error.to_string())
}

fn encrypt(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let failed = |_| "the text cannot be encrypted".to_owned();
    let key =
        PaddedBlockEncryptingKey::cbc_pkcs7(cipher_key(&text(&arguments, 0))?).map_err(failed)?;
    let mut sealed = text(&arguments, 1).to_vec();
    let context = key.encrypt(&mut sealed).map_err(failed)?;
    let DecryptionContext::Iv128(iv) = context else {
        return Err("the cipher has no initialization vector".to_owned());
    };
    let iv: &[u8; 16] = iv.as_ref();
    Ok(Value::text(encoding::base64(&[&iv[..], &sealed].concat())))
}

fn decrypt(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let failed = |_| "the text cannot be decrypted".to_owned();
    let sealed = encoding::from_base64(&text(&arguments, 1))
        .map_err(|at| format!("illegal base64 data at input byte {at}"))?;
    let Some((iv, body)) = sealed.split_at_checked(16) else {
        return Err("the text is too short".to_owned());
    };
    let iv: [u8; 16] = iv
        .try_into()
        .map_err(|_| "the text is too short".to_owned())?;
    let key =
        PaddedBlockDecryptingKey::cbc_pkcs7(cipher_key(&text(&arguments, 0))?).map_err(failed)?;
    let mut body = body.to_vec();
    let plain = key
        .decrypt(&mut body, DecryptionContext::Iv128(iv.into()))
        .map_err(failed)?;
    Ok(Value::text(plain))
}

/// A new private key as PEM. For other kinds the text `Unknown type …`, as in Sprig.
fn generate_key(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let failed = |_| "the key cannot be made".to_owned();
    let kind = string(&arguments, 0);
    let (label, der) = match kind.as_str() {
        "" | "rsa" => {
            let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa4096).map_err(failed)?;
            let document: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
            let inner = pkcs8_key(document.as_ref()).ok_or("the key cannot be written")?;
            ("RSA PRIVATE KEY", inner.to_vec())
        }
        "ecdsa" => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
            let key = pair.private_key();
            let document: EcPrivateKeyRfc5915Der<'_> = key.as_der().map_err(failed)?;
            ("EC PRIVATE KEY", document.as_ref().to_vec())
        }
        "ed25519" => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            (
                "PRIVATE KEY",
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            )
        }
        "dsa" => return Err("DSA keys are not supported: use rsa, ecdsa or ed25519".to_owned()),
        _ => return Ok(Value::text(format!("Unknown type {kind}"))),
    };
    Ok(Value::text(pem(label, &der)))
}

/// The key within a PKCS #8 structure (RFC 5208 §5): the octet string after version and algorithm.
fn pkcs8_key(der: &[u8]) -> Option<&[u8]> {
    let (_, body, _) = element(der)?;
    let (_, _, rest) = element(body)?;
    let (_, _, rest) = element(rest)?;
    let (tag, key, _) = element(rest)?;
    (tag == 4).then_some(key)
}

/// One DER element: its tag, its content, and the rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                digits
                    .iter()
                    .fold(0, |length, digit| (length << 8) | usize::from(*digit)),
                rest,
            )
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// RFC 7468 §2.
fn pem(label: &str, der: &[u8]) -> String {
    let text = encoding::base64(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
