//! A JWK set: read with bounds, unusable keys left out, the rest found by what a token says of its key.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use aws_lc_rs::digest;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::jose::key::{Key, KeyFault, for_log};
use crate::jose::reason::{Reason, Refusal};
use crate::jose::strict;
use crate::jose::token::Token;

/// Largest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Most keys in one set. Providers publish a handful; each key costs memory for every algorithm it fits.
pub const MAX_KEYS: usize = 1000;

/// Which header members of a token name its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyIdStrategy {
    /// `kid`
    Kid,
    /// `x5t`, or `kid` where the token has none.
    X5t,
    /// `x5t#S256`, or `kid` where the token has none.
    X5tS256,
    /// `kid` followed by `x5t` (or by `kid` again).
    KidX5t,
}

impl KeyIdStrategy {
    const ALL: [KeyIdStrategy; 4] = [
        KeyIdStrategy::Kid,
        KeyIdStrategy::X5t,
        KeyIdStrategy::X5tS256,
        KeyIdStrategy::KidX5t,
    ];

    /// The strategy of this name, as in `key_identify_strategy`.
    pub fn parse(name: &str) -> Option<KeyIdStrategy> {
        KeyIdStrategy::ALL
            .into_iter()
            .find(|known| known.as_str() == name)
    }

    /// The name, as in `key_identify_strategy`.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyIdStrategy::Kid => "kid",
            KeyIdStrategy::X5t => "x5t",
            KeyIdStrategy::X5tS256 => "x5t#S256",
            KeyIdStrategy::KidX5t => "kid_x5t",
        }
    }

    fn id_of(self, key: &Key) -> Cow<'_, str> {
        let thumbprints = key.thumbprints();
        match self {
            KeyIdStrategy::Kid => Cow::Borrowed(key.kid()),
            KeyIdStrategy::X5t => Cow::Borrowed(&thumbprints.sha1),
            KeyIdStrategy::X5tS256 => Cow::Borrowed(&thumbprints.sha256),
            KeyIdStrategy::KidX5t => Cow::Owned([key.kid(), &thumbprints.sha1].concat()),
        }
    }
}

/// The usable keys of one source.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// One index for each strategy, in the order of [`KeyIdStrategy::ALL`].
    by_id: [HashMap<Box<str>, usize>; 4],
    /// `kid`s of keys that were left out, so that a token signed with one is told so and wakes no refresh.
    left_out: HashSet<Box<str>>,
}

/// A set that was read, and what had to be left out of it.
#[derive(Debug)]
pub struct Parsed {
    pub set: KeySet,
    /// In the order of the document; worth one warning each time a new document is loaded.
    pub skipped: Vec<Skipped>,
    /// SHA-256 of the document: a refresh that brings the same bytes need not start a new generation.
    pub digest: [u8; 32],
}

/// A key that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Fit for a log line: cut to 64 characters, control characters escaped. Empty when the key has none.
    pub kid: Box<str>,
    pub why: KeyFault,
}

/// Why a document is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the key set has more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    /// Also what a bare JWK gives: an object without `keys`.
    #[error("no Keys has been found")]
    NoKeys,
    /// Where, and not what: a set for signing holds private keys, which no error may quote.
    #[error("the key set is no JSON object with one array `keys` (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
}

impl KeySet {
    /// Reads a JWK set (RFC 7517 §5).
    ///
    /// A key we cannot or must not use is left out and reported, and does not spoil its neighbours: a provider that
    /// adds a key type of tomorrow must not take today's site down. A set in which no key is usable is still a set;
    /// see [`KeySet::is_empty`].
    pub fn parse(document: &[u8]) -> Result<Parsed, KeySetError> {
        let mut parsed = Parsed {
            set: KeySet::default(),
            skipped: Vec::new(),
            digest: sha256(document),
        };
        for raw in raw_keys(document)? {
            let jwk = strict::object(raw.get().as_bytes());
            let kid = jwk.as_ref().ok().and_then(|jwk| jwk.get("kid")?.as_str());
            match jwk
                .as_ref()
                .map_err(|_| KeyFault::NotAnObject)
                .and_then(Key::from_jwk)
            {
                Ok(key) => parsed.set.add(key),
                Err(why) => {
                    let kid = kid.unwrap_or_default();
                    parsed.skipped.push(Skipped {
                        kid: for_log(kid).into(),
                        why,
                    });
                    parsed.set.left_out.insert(kid.into());
                }
            }
        }
        Ok(parsed)
    }

    /// The key that the token names, and no other: there is no trial of keys (RFC 8725 §3.10).
    pub fn find(&self, token: &Token<'_>, strategy: KeyIdStrategy) -> Result<&Key, Refusal> {
        let id = token.key_id(strategy)?;
        if let Some(key) = self.by_id(strategy, &id) {
            return Ok(key);
        }
        if strategy == KeyIdStrategy::Kid && self.left_out.contains(&*id) {
            return Err(Refusal::unusable_key());
        }
        Err(Refusal::new(Reason::UnknownKey, "no Keys have been found"))
    }

    /// The key with this id under a strategy.
    pub fn by_id(&self, strategy: KeyIdStrategy, id: &str) -> Option<&Key> {
        let index = self.by_id.get(strategy as usize)?.get(id)?;
        self.keys.get(*index)
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The usable keys, in the order of the document.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    fn add(&mut self, key: Key) {
        let index = self.keys.len();
        for (strategy, ids) in KeyIdStrategy::ALL.into_iter().zip(&mut self.by_id) {
            // As KrakenD does: of several keys with one id the last counts.
            ids.insert(strategy.id_of(&key).into(), index);
        }
        self.keys.push(key);
    }
}

/// Reads whatever it is given, for the fuzzer and the property test: must not panic.
pub fn parse_anything(bytes: &[u8]) {
    if let Ok(parsed) = KeySet::parse(bytes) {
        assert!(parsed.set.len() + parsed.skipped.len() <= MAX_KEYS);
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The members of `keys`, each still as text, so that a fault in one stays there.
pub(super) fn raw_keys(document: &[u8]) -> Result<Vec<&RawValue>, KeySetError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(KeySetError::TooLarge);
    }
    let syntax = |error: serde_json::Error| {
        if error.to_string().contains(TOO_MANY) {
            KeySetError::TooMany
        } else {
            KeySetError::Syntax {
                line: error.line(),
                column: error.column(),
            }
        }
    };
    let mut reader = serde_json::Deserializer::from_slice(document);
    let keys = reader.deserialize_map(Document).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    match keys {
        Some(keys) if !keys.is_empty() => Ok(keys),
        _ => Err(KeySetError::NoKeys),
    }
}

const TOO_MANY: &str = "too many keys";

struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name != "keys" {
                map.next_value::<IgnoredAny>()?;
            } else if keys.replace(map.next_value_seed(Keys)?).is_some() {
                return Err(A::Error::custom("duplicate member `keys`"));
            }
        }
        Ok(keys)
    }
}

struct Keys;

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of keys")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element()? {
            if keys.len() == MAX_KEYS {
                return Err(A::Error::custom(TOO_MANY));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests;
