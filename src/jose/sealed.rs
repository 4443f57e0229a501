//! Key files that are stored encrypted: `secret_url` and `cypher_key`.
//!
//! As KrakenD does: a keeper holds the key that opens `cypher_key`, whose content is a passphrase, whose MD5 in
//! hexadecimal is the AES key of the file. Only the keeper inside the URL itself is offered, `base64key://`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT, STANDARD};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};
use md5::{Digest, Md5};

/// Why a key file stays closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error(
        "`secret_url` must be base64key:// and 32 bytes in base64url; other keepers are not supported"
    )]
    Keeper,
    #[error("`cypher_key` is not base64")]
    CypherKey,
    #[error("`cypher_key` was not sealed with the key in `secret_url`")]
    WrongKeeper,
    #[error("the key file was not encrypted with the passphrase in `cypher_key`")]
    WrongPassphrase,
}

/// Opens an encrypted key file and returns the document inside.
pub fn open(secret_url: &str, cypher_key: &str, file: &[u8]) -> Result<Vec<u8>, SealedError> {
    let keeper = keeper_key(secret_url)?;
    let sealed = STANDARD
        .decode(cypher_key)
        .map_err(|_| SealedError::CypherKey)?;
    let passphrase = open_box(&keeper, &sealed)?;
    open_file(&passphrase, file).ok_or(SealedError::WrongPassphrase)
}

fn keeper_key(secret_url: &str) -> Result<[u8; 32], SealedError> {
    secret_url
        .strip_prefix("base64key://")
        .and_then(|text| URL_SAFE.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SealedError::Keeper)
}

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PAD_INDIFFERENT);

/// A NaCl secretbox behind its nonce of 24 bytes.
fn open_box(key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, SealedError> {
    let (nonce, secret) = sealed
        .split_first_chunk::<24>()
        .ok_or(SealedError::CypherKey)?;
    XSalsa20Poly1305::new(key.into())
        .decrypt(nonce.into(), secret)
        .map_err(|_| SealedError::WrongKeeper)
}

/// A nonce of 12 bytes, then AES-256-GCM without further data.
fn open_file(passphrase: &[u8], file: &[u8]) -> Option<Vec<u8>> {
    let key: String = Md5::digest(passphrase)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok()?);
    let (nonce, sealed) = file.split_first_chunk::<NONCE_LEN>()?;
    let mut buffer = sealed.to_vec();
    let plain = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::empty(),
            &mut buffer,
        )
        .ok()?
        .len();
    buffer.truncate(plain);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// The reverse of the above, so that the test needs no file of its own.
    fn seal(passphrase: &[u8], document: &[u8]) -> (String, String, Vec<u8>) {
        let url = format!(
            "base64key://{}",
            base64::engine::general_purpose::URL_SAFE.encode(KEY)
        );
        let mut sealed = vec![9; 24];
        let nonce = [9; 24];
        sealed.extend(
            XSalsa20Poly1305::new(&KEY.into())
                .encrypt(&nonce.into(), passphrase)
                .unwrap(),
        );
        let hex: String = Md5::digest(passphrase)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, hex.as_bytes()).unwrap());
        let mut file = document.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key([3; 12]),
            Aad::empty(),
            &mut file,
        )
        .unwrap();
        (
            url,
            STANDARD.encode(sealed),
            [[3; 12].as_slice(), &file].concat(),
        )
    }

    #[test]
    fn a_sealed_file_opens_with_its_own_keeper_only() {
        let (url, cypher_key, file) = seal(b"correct horse", br#"{"keys":[]}"#);
        assert_eq!(open(&url, &cypher_key, &file).unwrap(), br#"{"keys":[]}"#);
        let other = format!("base64key://{}", URL_SAFE.encode([8; 32]));
        assert_eq!(
            open(&other, &cypher_key, &file),
            Err(SealedError::WrongKeeper)
        );
        let (_, other_key, _) = seal(b"wrong horse", b"");
        assert_eq!(
            open(&url, &other_key, &file),
            Err(SealedError::WrongPassphrase)
        );
    }

    #[test]
    fn anything_else_stays_closed() {
        let (url, cypher_key, file) = seal(b"x", b"y");
        for (url, cypher_key, file) in [
            ("awskms://x", cypher_key.as_str(), file.as_slice()),
            ("base64key://AAAA", &cypher_key, &file),
            (&url, "?", &file),
            (&url, "AAAA", &file),
            (&url, &cypher_key, &[]),
            (&url, &cypher_key, &[0; 12]),
        ] {
            assert!(open(url, cypher_key, file).is_err());
        }
    }
}
