//! A JWK set: parsed with limits, without its unusable keys, and indexed by the ids that tokens name.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::jose::key::{Key, KeyFault, for_log};
use crate::jose::reason::{Reason, Rejection};
use crate::jose::strict_json;
use crate::jose::token::Token;

/// Maximum size of a document in bytes.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Maximum number of keys in a set. Providers publish a handful; each key uses memory for every algorithm it fits.
pub(crate) const MAX_KEYS: usize = 1000;

/// The header members of a token that identify its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyIdStrategy {
    /// `kid`
    Kid,
    /// `x5t`, or `kid` if the token has none.
    X5t,
    /// `x5t#S256`, or `kid` if the token has none.
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

    /// The strategy with this name, as in `key_identify_strategy`.
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
    /// Shared with the sets that were joined from this one.
    keys: Vec<Arc<Key>>,
    /// One index for each strategy, in the order of [`KeyIdStrategy::ALL`].
    by_id: [HashMap<Box<str>, usize>; 4],
    /// The `kid`s of skipped keys. A token signed with one of them is rejected with that reason and triggers no
    /// refresh.
    left_out: HashSet<Box<str>>,
}

/// A parsed set, and the keys that were skipped.
#[derive(Debug)]
pub struct Parsed {
    pub set: KeySet,
    /// In the order of the document. Each is logged as a warning when a new document is loaded.
    pub skipped: Vec<Skipped>,
    /// SHA-256 of the document. A refresh that yields the same bytes need not start a new generation.
    pub digest: [u8; 32],
}

/// A key that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Safe for a log line: truncated to 64 characters, with control characters escaped. Empty if the key has none.
    pub kid: Box<str>,
    pub why: KeyFault,
}

/// Why a document is not a key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the key set has more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    /// The object has no `keys`. A bare JWK gives this error too.
    #[error("no Keys has been found")]
    NoKeys,
    /// The position, but no text of the document: a set for signing holds private keys, which no error may quote.
    #[error(
        "the key set is not a JSON object with one array `keys` (line {line}, column {column})"
    )]
    Syntax { line: usize, column: usize },
}

impl KeySet {
    /// Parses a JWK set (RFC 7517 §5).
    ///
    /// A key that we cannot or must not use is skipped and reported without affecting the others: a provider that
    /// adds a new type of key must not break a running site. A set without any usable key is still a set; see
    /// [`KeySet::is_empty`].
    pub fn parse(document: &[u8]) -> Result<Parsed, KeySetError> {
        let mut parsed = Parsed {
            set: KeySet::default(),
            skipped: Vec::new(),
            digest: sha256(document),
        };
        for raw in raw_keys(document)? {
            let jwk = strict_json::object(raw.get().as_bytes());
            let kid = jwk.as_ref().ok().and_then(|jwk| jwk.get("kid")?.as_str());
            match jwk
                .as_ref()
                .map_err(|_| KeyFault::NotAnObject)
                .and_then(Key::from_jwk)
            {
                Ok(key) => parsed.set.add(Arc::new(key)),
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
        // Most sets have one key or two, and a file may name thousands of sets.
        parsed.set.keys.shrink_to_fit();
        Ok(parsed)
    }

    /// The keys of several sets as one set, as if they were in one document in this order.
    pub fn join<'s>(sets: impl Iterator<Item = &'s KeySet>) -> KeySet {
        let mut joined = KeySet::default();
        for set in sets {
            for key in &set.keys {
                joined.add(Arc::clone(key));
            }
            joined.left_out.extend(set.left_out.iter().cloned());
        }
        joined.keys.shrink_to_fit();
        joined
    }

    /// The `kid`s that keys of several of these sets have. After [`KeySet::join`] the last of them counts.
    pub fn repeated<'s>(sets: impl Iterator<Item = &'s KeySet>) -> BTreeSet<&'s str> {
        let (mut known, mut repeated) = (HashSet::new(), BTreeSet::new());
        for set in sets {
            let own: HashSet<&str> = set.keys().map(Key::kid).collect();
            repeated.extend(own.intersection(&known));
            known.extend(own);
        }
        repeated.remove("");
        repeated
    }

    /// The key that the token names. Other keys are never tried (RFC 8725 §3.10).
    ///
    /// With `lone_key`, a token that names no key is verified with the only key of the set that fits its algorithm, if
    /// there is exactly one. Of several keys with the same id, one that fits the algorithm counts.
    pub fn find(
        &self,
        token: &Token<'_>,
        strategy: KeyIdStrategy,
        lone_key: bool,
    ) -> Result<&Key, Rejection> {
        let id = token.key_id(strategy)?;
        let fits = |key: &&Key| token.algorithm().is_some_and(|named| key.fits(named));
        if let Some(key) = self.by_id(strategy, &id) {
            let twin = |key: &&Key| fits(key) && strategy.id_of(key) == id;
            let other = || self.keys().rev().find(twin);
            return Ok(Some(key).filter(fits).or_else(other).unwrap_or(key));
        }
        if lone_key && !token.names_a_key() {
            let mut fitting = self.keys().filter(fits);
            if let (Some(key), None) = (fitting.next(), fitting.next()) {
                return Ok(key);
            }
            if let [key] = self.keys.as_slice() {
                return Ok(key);
            }
        }
        if strategy == KeyIdStrategy::Kid && self.left_out.contains(&*id) {
            return Err(Rejection::unusable_key());
        }
        Err(Rejection::new(
            Reason::UnknownKey,
            "no Keys have been found",
        ))
    }

    /// The key with this id under a strategy.
    pub fn by_id(&self, strategy: KeyIdStrategy, id: &str) -> Option<&Key> {
        let index = self.by_id.get(strategy as usize)?.get(id)?;
        self.keys.get(*index).map(Arc::as_ref)
    }

    /// The number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the set has no usable key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The usable keys, in the order of the document.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> {
        self.keys.iter().map(Arc::as_ref)
    }

    fn add(&mut self, key: Arc<Key>) {
        let index = self.keys.len();
        for (strategy, ids) in KeyIdStrategy::ALL.into_iter().zip(&mut self.by_id) {
            // As in KrakenD, the last of several keys with the same id wins.
            ids.insert(strategy.id_of(&key).into(), index);
        }
        self.keys.push(key);
    }
}

/// For the fuzzer and the property test: parses arbitrary bytes and must not panic.
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

/// The members of `keys`, each still as text, so that an error in one does not affect the others.
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
    let members = reader.deserialize_map(Document).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    match members.keys {
        Some(keys) if !keys.is_empty() => Ok(keys),
        // A single key (RFC 7517 §4), which is accepted as a set of one.
        None if members.is_key => Ok(vec![serde_json::from_slice(document).map_err(syntax)?]),
        _ => Err(KeySetError::NoKeys),
    }
}

/// The top-level members of a document.
#[derive(Default)]
struct Members<'de> {
    keys: Option<Vec<&'de RawValue>>,
    /// There is a `kty`, so this is a key.
    is_key: bool,
}

const TOO_MANY: &str = "too many keys";

struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name != "keys" {
                members.is_key |= name == "kty";
                map.next_value::<IgnoredAny>()?;
            } else if members.keys.replace(map.next_value_seed(Keys)?).is_some() {
                return Err(A::Error::custom("duplicate member `keys`"));
            }
        }
        Ok(members)
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
