//! Project Wycheproof's vectors for JSON Web Signatures and for key sets (see `data/wycheproof/README.md`).
//!
//! Mapping. Most vectors sign a text that is not a set of claims, so they are tested up to and including the signature
//! only: whether the payload is JSON is checked later. A vector counts as accepted if *any*
//! algorithm that a file could configure accepts it, which is stricter about "invalid" than a real gateway. Vectors of
//! the first file are verified with their key directly; those of the second find it in their set by `kid`.

use std::collections::BTreeMap;

use portcullis::internals::jose::{Algorithm, Algorithms, KeyIdStrategy, KeySet, Token};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    /// A key or a set of keys; absent if the only key is a secret.
    public: Option<Value>,
    private: Value,
    tests: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    tc_id: u32,
    comment: String,
    /// A text, or the JSON serialization as an object.
    jws: Value,
    result: String,
}

impl Group {
    fn key(&self) -> &Value {
        self.public.as_ref().unwrap_or(&self.private)
    }
}

impl Vector {
    fn text(&self) -> String {
        match &self.jws {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// Tests every vector and returns those with a different result, with ours.
fn play(
    file: &str,
    accepts: impl Fn(&KeySet, &Token<'_>, Algorithm) -> bool,
) -> BTreeMap<u32, bool> {
    let file: File = serde_json::from_str(file).unwrap();
    let mut seen = 0;
    let mut differing = BTreeMap::new();
    for group in &file.test_groups {
        let document = match group.key().get("keys") {
            Some(_) => group.key().clone(),
            None => json!({ "keys": [group.key()] }),
        };
        let keys = KeySet::parse(document.to_string().as_bytes()).unwrap().set;
        for vector in &group.tests {
            seen += 1;
            let text = vector.text();
            let accepted = Token::parse(&text).is_ok_and(|token| {
                Algorithm::ALL
                    .into_iter()
                    .any(|alg| accepts(&keys, &token, alg))
            });
            if accepted != (vector.result == "valid") {
                println!("{} {}: {accepted}", vector.tc_id, vector.comment);
                differing.insert(vector.tc_id, accepted);
            }
        }
    }
    assert_eq!(seen, file.number_of_tests);
    differing
}

#[test]
fn signatures_match_the_test_vectors() {
    let differing = play(
        include_str!("../data/wycheproof/json_web_signature_test.json"),
        |keys, token, algorithm| {
            keys.keys()
                .any(|key| token.verify(key, Algorithms::only(algorithm)).is_ok())
        },
    );
    let ours = BTreeMap::from([
        // Signed as PS384 and ES512 with keys that declare PS256 and "ES521": a key serves the algorithm it declares
        // (RFC 7517 §4.4, RFC 8725 §3.1), and the second is not a name of RFC 7518.
        (346, false),
        (347, false),
        (350, false),
        (351, false),
        // The same bytes as the tokens of 357, which is valid.
        (367, true),
        (370, true),
        // A question mark in the base64url: RFC 7515 §2 has no such character.
        (372, false),
        (373, false),
    ]);
    assert_eq!(differing, ours);
}

#[test]
fn key_sets_match_the_test_vectors() {
    let differing = play(
        include_str!("../data/wycheproof/json_web_key_test.json"),
        |keys, token, algorithm| {
            keys.find(token, KeyIdStrategy::Kid, false)
                .is_ok_and(|key| token.verify(key, Algorithms::only(algorithm)).is_ok())
        },
    );
    let ours = BTreeMap::from([
        // A secret beside a public key: the vector calls it ambiguous and rejects the set. Each of our keys is used
        // only with algorithms of its own kind, so the mixture is harmless, and KrakenD accepts it.
        (1, true),
    ]);
    assert_eq!(differing, ours);
}
