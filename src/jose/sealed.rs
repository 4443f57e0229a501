//! Encrypted key files: `secret_url` and `cypher_key`.
//!
//! As in KrakenD, a keeper decrypts `cypher_key`, which contains a passphrase. The MD5 of the passphrase in
//! hexadecimal is the AES key of the file. The key of `base64key://` is part of the URL. Calls to a Vault are made
//! elsewhere.

mod keeper;

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};
use md5::{Digest, Md5};

pub use keeper::TransitKey;
pub(crate) use keeper::{Keeper, KeeperError};

/// The minimum size of a file: a nonce, and the tag of an empty text.
const MIN_FILE: usize = NONCE_LEN + 16;

/// Why a key file cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error("`cypher_key` is not base64")]
    CypherKey,
    #[error("`cypher_key` was not sealed with the key in `secret_url`")]
    WrongKeeper,
    #[error("`cypher_key` is not a ciphertext of Vault's transit engine, vault:v1:… in base64")]
    NotVaults,
    #[error("the key file was not encrypted with the passphrase in `cypher_key`")]
    WrongPassphrase,
    #[error("this is not an encrypted key file: it has less than {MIN_FILE} bytes")]
    TooShort,
}

/// The secret that decrypts a key file.
#[derive(Clone)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    pub fn new(bytes: Vec<u8>) -> Passphrase {
        Passphrase(bytes)
    }

    /// Decrypts a key file and returns the document: the file is a nonce of 12 bytes, followed by AES-256-GCM without
    /// associated data.
    ///
    /// # Errors
    /// The file was encrypted with another passphrase, was changed, or is not such a file.
    pub fn open(&self, file: &[u8]) -> Result<Vec<u8>, SealedError> {
        check_file(file)?;
        self.decrypt(file).ok_or(SealedError::WrongPassphrase)
    }

    fn decrypt(&self, file: &[u8]) -> Option<Vec<u8>> {
        let key = hex::encode(Md5::digest(&self.0));
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
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Checks that this can be an encrypted key file, as far as that is possible without the passphrase.
///
/// # Errors
/// It cannot be one.
pub(crate) fn check_file(file: &[u8]) -> Result<(), SealedError> {
    if file.len() < MIN_FILE {
        Err(SealedError::TooShort)
    } else {
        Ok(())
    }
}

/// The passphrase in a `cypher_key` that was encrypted with the key of `base64key://`: a nonce of 24 bytes, followed
/// by a NaCl secretbox.
///
/// # Errors
/// It was encrypted with another key, or is not such a box.
pub(crate) fn passphrase(key: &[u8; 32], cypher_key: &str) -> Result<Passphrase, SealedError> {
    let sealed = decoded(cypher_key)?;
    let (nonce, secret) = sealed
        .split_first_chunk::<24>()
        .ok_or(SealedError::WrongKeeper)?;
    XSalsa20Poly1305::new(key.into())
        .decrypt(nonce.into(), secret)
        .map(Passphrase)
        .map_err(|_| SealedError::WrongKeeper)
}

/// The ciphertext in a `cypher_key` that Vault has to decrypt.
///
/// # Errors
/// It was not encrypted by Vault.
pub(crate) fn vault_ciphertext(cypher_key: &str) -> Result<String, SealedError> {
    let text = String::from_utf8(decoded(cypher_key)?).map_err(|_| SealedError::NotVaults)?;
    let version = text
        .strip_prefix("vault:v")
        .and_then(|rest| rest.split_once(':'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match version {
        Some((version, sealed))
            if is_number(version) && sealed.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(text)
        }
        _ => Err(SealedError::NotVaults),
    }
}

fn decoded(cypher_key: &str) -> Result<Vec<u8>, SealedError> {
    STANDARD
        .decode(cypher_key)
        .map_err(|_| SealedError::CypherKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::testing::{seal, seal_box};

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn an_encrypted_file_opens_only_with_its_own_keeper() {
        let cypher_key = seal_box(&KEY, b"correct horse");
        let file = seal(b"correct horse", br#"{"keys":[]}"#);
        let passphrase = passphrase(&KEY, &cypher_key).unwrap();
        assert_eq!(passphrase.open(&file).unwrap(), br#"{"keys":[]}"#);
        assert_eq!(
            super::passphrase(&[8; 32], &cypher_key).unwrap_err(),
            SealedError::WrongKeeper
        );
        let other = Passphrase::new(b"wrong horse".to_vec());
        assert_eq!(other.open(&file), Err(SealedError::WrongPassphrase));
    }

    #[test]
    fn other_content_is_not_decrypted() {
        for (cypher_key, expected) in [
            ("?", SealedError::CypherKey),
            ("", SealedError::WrongKeeper),
            ("AAAA", SealedError::WrongKeeper),
        ] {
            assert_eq!(passphrase(&KEY, cypher_key).unwrap_err(), expected);
        }
        let mut file = seal(b"x", b"y");
        let passphrase = Passphrase::new(b"x".to_vec());
        for short in [&file[..0], &file[..12], &file[..27]] {
            assert_eq!(passphrase.open(short), Err(SealedError::TooShort));
        }
        file[13] ^= 1;
        assert_eq!(passphrase.open(&file), Err(SealedError::WrongPassphrase));
    }

    #[test]
    fn vault_is_called_only_for_its_own_ciphertexts() {
        let encoded = |text: &str| STANDARD.encode(text);
        assert_eq!(
            vault_ciphertext(&encoded("vault:v12:AbC+/=")).unwrap(),
            "vault:v12:AbC+/="
        );
        for (cypher_key, expected) in [
            ("vault:v1:AbC=".to_owned(), SealedError::CypherKey),
            (encoded("AbC="), SealedError::NotVaults),
            (encoded("vault:v:AbC"), SealedError::NotVaults),
            (encoded("vault:v1"), SealedError::NotVaults),
            (encoded("vault:v1:Ab\n"), SealedError::NotVaults),
            (STANDARD.encode([0xff]), SealedError::NotVaults),
        ] {
            assert_eq!(vault_ciphertext(&cypher_key), Err(expected), "{cypher_key}");
        }
    }

    #[test]
    fn a_passphrase_is_not_printed() {
        let passphrase = Passphrase::new(b"correct horse".to_vec());
        assert_eq!(format!("{passphrase:?}"), "[redacted]");
    }
}
