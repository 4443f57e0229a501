//! Encrypts key files and passphrases as an operator does; the tests of the library use it too.

// As in the other modules of this folder: each binary uses a different part.
#![allow(dead_code)]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use md5::{Digest as _, Md5};

/// The content of a key file that this passphrase decrypts.
pub(crate) fn seal(passphrase: &[u8], document: &[u8]) -> Vec<u8> {
    let key: String = Md5::digest(passphrase)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).unwrap());
    let nonce: [u8; NONCE_LEN] = random();
    let mut file = document.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut file)
        .unwrap();
    [nonce.as_slice(), &file].concat()
}

/// The `cypher_key` of a passphrase under the key of a `base64key://`.
pub(crate) fn seal_box(key: &[u8; 32], passphrase: &[u8]) -> String {
    let nonce: [u8; 24] = random();
    let sealed = XSalsa20Poly1305::new(key.into())
        .encrypt(&nonce.into(), passphrase)
        .unwrap();
    STANDARD.encode([nonce.as_slice(), &sealed].concat())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).unwrap();
    bytes
}
