//! The block as configured.

use crate::config::{self, Key, Kind, Node, Typing, key};
use crate::jose::Algorithm;

pub(super) const KEYS: &[Key] = &[
    key(
        "alg",
        Kind::Text,
        "",
        "The algorithm, such as RS256 or EdDSA (or `Ed25519`, its name in RFC 9864); it must fit the key.",
    )
    .one_of(&Algorithm::NAMES),
    key("kid", Kind::Text, "", "The id of the key in the set."),
    key(
        "keys_to_sign",
        Kind::Texts,
        "[]",
        "Members of the response that become tokens. Values that are not objects stay unchanged.",
    ),
    key(
        "full",
        Kind::Bool,
        "false",
        "Write the JSON serialization of RFC 7515 §7.2.2 instead of the compact one.",
    ),
    key("typ", Kind::Text, "JWT", "The `typ` in the token's header."),
    key(
        "jwk_url",
        Kind::Text,
        "",
        "The URL of the private key set; https unless `disable_jwk_security`.",
    ),
    key(
        "jwk_local_path",
        Kind::Text,
        "",
        "A file with the private key set. It takes precedence over `jwk_url`.",
    ),
    key(
        "disable_jwk_security",
        Kind::Bool,
        "false",
        "Allow http, and any certificate. Not needed for a file.",
    ),
    key(
        "jwk_local_ca",
        Kind::Text,
        "",
        "A PEM file with CA certificates that are trusted in addition to the system's.",
    ),
    key(
        "jwk_fingerprints",
        Kind::Texts,
        "[]",
        "SHA-256 of public keys, base64url: one must be in the server's chain.",
    ),
    key(
        "cipher_suites",
        Kind::Integers,
        "",
        "IANA numbers of the TLS 1.2 suites for fetching the key.",
    ),
    key(
        "secret_url",
        Kind::Secret,
        "",
        "For an encrypted key file: the key that decrypts `cypher_key`: `base64key://…` or `hashivault://KEY`.",
    ),
    key(
        "cypher_key",
        Kind::Secret,
        "",
        "The encrypted passphrase of the encrypted key file.",
    ),
    key("leeway", Kind::Any, "", "Accepted and ignored."),
];

/// `auth/signer` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) alg: Option<String>,
    pub(super) alg_at: Option<Node<'a>>,
    pub(super) kid: String,
    pub(super) keys_to_sign: Vec<String>,
    pub(super) full: bool,
    pub(super) typ: Option<String>,
    pub(super) url: String,
    pub(super) url_at: Option<Node<'a>>,
    pub(super) path: String,
    pub(super) path_at: Option<Node<'a>>,
    pub(super) insecure: bool,
    pub(super) ca: String,
    pub(super) fingerprints: Vec<String>,
    pub(super) fingerprints_at: Option<Node<'a>>,
    pub(super) cipher_suites: Vec<i64>,
    pub(super) cipher_suites_at: Option<Node<'a>>,
    /// For keys that are read only for an encrypted file.
    pub(super) keys: config::Block<'a>,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = node.block(KEYS)?;
        let text = |name| block.string(name).unwrap_or_default();
        Some(Block {
            alg: block.required("alg"),
            alg_at: block.get("alg"),
            // An empty id selects the key without an id.
            kid: match block.get("kid") {
                Some(node) => node.text(Typing::Strict)?.to_owned(),
                None => block.required("kid")?,
            },
            keys_to_sign: block.texts("keys_to_sign"),
            full: block.flag("full"),
            typ: block.string("typ").filter(|typ| !typ.is_empty()),
            url: text("jwk_url"),
            url_at: block.get("jwk_url"),
            path: text("jwk_local_path"),
            path_at: block.get("jwk_local_path"),
            insecure: block.flag("disable_jwk_security"),
            ca: text("jwk_local_ca"),
            fingerprints: block.texts("jwk_fingerprints"),
            fingerprints_at: block.get("jwk_fingerprints"),
            cipher_suites: block.integers("cipher_suites"),
            cipher_suites_at: block.get("cipher_suites"),
            keys: block,
        })
    }
}
