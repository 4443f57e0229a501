//! The hashed keys of a service, and the lookup of a presented key.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::{hmac, rand};
use smallvec::SmallVec;

use crate::jose::bloom::fnv1_128;

/// The form of a key in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyHash {
    /// The key itself.
    Plain,
    Fnv128,
    Sha256,
    Sha1,
}

impl KeyHash {
    /// The hash with this name.
    pub(crate) fn parse(name: &str) -> Option<KeyHash> {
        match name {
            "plain" => Some(KeyHash::Plain),
            "fnv128" => Some(KeyHash::Fnv128),
            "sha256" => Some(KeyHash::Sha256),
            "sha1" => Some(KeyHash::Sha1),
            _ => None,
        }
    }

    /// The length of a hash in bytes. For a plain key we store its SHA-256.
    fn length(self) -> usize {
        match self {
            KeyHash::Fnv128 => 16,
            KeyHash::Sha1 => 20,
            KeyHash::Plain | KeyHash::Sha256 => 32,
        }
    }

    fn of(self, bytes: &[u8]) -> SmallVec<[u8; 32]> {
        match self {
            KeyHash::Fnv128 => SmallVec::from_slice(&fnv1_128(bytes).to_be_bytes()),
            KeyHash::Sha1 => {
                SmallVec::from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
            }
            KeyHash::Plain | KeyHash::Sha256 => {
                SmallVec::from_slice(digest(&SHA256, bytes).as_ref())
            }
        }
    }
}

/// A stored key, which is never the key itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored(SmallVec<[u8; 32]>);

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why the keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyTableError {
    #[error("not a hash: {0} hexadecimal digits are expected")]
    NoHash(usize),
    #[error("this key is defined twice")]
    Twice,
    #[error("the system provides no random numbers")]
    Random,
}

/// The keys of a service, looked up by the key in a request.
///
/// The table is ordered by a keyed hash whose secret lives as long as the ring. So the duration of a lookup reveals
/// nothing about the keys, because an attacker cannot target a position in the table.
pub(crate) struct KeyTable {
    hash: KeyHash,
    salt: Box<[u8]>,
    secret: hmac::Key,
    table: HashMap<[u8; 32], usize>,
}

impl KeyTable {
    /// An empty ring.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub(crate) fn new(hash: KeyHash, salt: &str) -> Result<KeyTable, KeyTableError> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| KeyTableError::Random)?;
        Ok(KeyTable {
            hash,
            salt: salt.as_bytes().into(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            table: HashMap::new(),
        })
    }

    /// Adds a key as written in the configuration, with a number that the caller chooses.
    ///
    /// # Errors
    /// The text is not a hash of this kind, or the key exists already.
    pub(crate) fn add(&mut self, text: &str, number: usize) -> Result<Stored, KeyTableError> {
        let stored = match self.hash {
            KeyHash::Plain => self.hashed(text.as_bytes()),
            hash => hex::decode(text)
                .ok()
                .map(SmallVec::from_vec)
                .filter(|bytes| bytes.len() == hash.length())
                .ok_or(KeyTableError::NoHash(2 * hash.length()))?,
        };
        if self.table.insert(self.place(&stored), number).is_some() {
            return Err(KeyTableError::Twice);
        }
        Ok(Stored(stored))
    }

    /// The number of the key in a request.
    pub(crate) fn find(&self, presented: &[u8]) -> Option<usize> {
        self.table
            .get(&self.place(&self.hashed(presented)))
            .copied()
    }

    fn hashed(&self, key: &[u8]) -> SmallVec<[u8; 32]> {
        if self.salt.is_empty() {
            return self.hash.of(key);
        }
        let mut salted: SmallVec<[u8; 128]> = SmallVec::from_slice(&self.salt);
        salted.extend_from_slice(key);
        self.hash.of(&salted)
    }

    fn place(&self, stored: &[u8]) -> [u8; 32] {
        let mut place = [0; 32];
        for (to, from) in place
            .iter_mut()
            .zip(hmac::sign(&self.secret, stored).as_ref())
        {
            *to = *from;
        }
        place
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyTable({} keys)", self.table.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_hash() {
        let mut ring = KeyTable::new(KeyHash::Plain, "").unwrap();
        ring.add("secret", 3).unwrap();
        assert_eq!(ring.find(b"secret"), Some(3));
        assert_eq!(ring.find(b"other"), None);
        assert_eq!(ring.find(b""), None);
    }

    #[test]
    fn hashes_match_those_of_common_tools() {
        assert_eq!(
            hex::encode(KeyHash::Sha256.of(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex::encode(KeyHash::Sha1.of(b"abc")),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        // Go: fnv.New128().
        assert_eq!(
            hex::encode(KeyHash::Fnv128.of(b"jti-J1")),
            "49e6e832853c64bf6dc577c970a86e2e"
        );
    }

    #[test]
    fn the_salt_precedes_the_key() {
        let mut ring = KeyTable::new(KeyHash::Sha1, "a").unwrap();
        ring.add("A9993E364706816ABA3E25717850C26C9CD0D89D", 0)
            .unwrap();
        assert_eq!(ring.find(b"bc"), Some(0));
        assert_eq!(ring.find(b"abc"), None);
    }

    #[test]
    fn invalid_and_duplicate_hashes_are_rejected() {
        let mut ring = KeyTable::new(KeyHash::Sha1, "").unwrap();
        for bad in [
            "",
            "a9",
            "x9993e364706816aba3e25717850c26c9cd0d89d",
            "secret",
        ] {
            assert_eq!(
                ring.add(bad, 0).err(),
                Some(KeyTableError::NoHash(40)),
                "{bad}"
            );
        }
        let good = "a9993e364706816aba3e25717850c26c9cd0d89d";
        ring.add(good, 0).unwrap();
        assert_eq!(ring.add(good, 1).err(), Some(KeyTableError::Twice));
    }
}
