//! `secret_url`: the keeper of the key that decrypts `cypher_key`.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT};
use percent_encoding::percent_decode_str;

/// The keepers of KrakenD that are cloud services, by scheme and product name.
const CLOUDS: [(&str, &str); 3] = [
    ("awskms", "AWS KMS"),
    ("azurekeyvault", "Azure Key Vault"),
    ("gcpkms", "Google Cloud KMS"),
];

/// Vault's default mount point of the engine.
const TRANSIT: &str = "transit";

/// The service or key that decrypts `cypher_key`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// `base64key://`: the URL contains the key.
    Here([u8; 32]),
    /// `hashivault://`: a key in a Vault, which decrypts and never reveals the key.
    Vault(TransitKey),
}

/// A key of Vault's transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// The mount point of the engine.
    pub engine: String,
    pub name: String,
}

/// Why a URL is not a valid `secret_url`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeeperError {
    #[error("base64key:// or hashivault:// is expected")]
    Unknown,
    #[error("{0} is not supported by this version, base64key:// or hashivault:// is expected")]
    Cloud(&'static str),
    #[error("base64key:// and 32 bytes in base64url are expected")]
    Here,
    #[error(
        "hashivault:// and a key's name are expected: letters, digits and \"_\", between them also \"-\" and \".\""
    )]
    Name,
    #[error(
        "the engine must be the path where it is mounted: letters, digits, \"_\", \"-\", \".\" and \"/\""
    )]
    Engine,
    #[error("\"engine\" is the only parameter of hashivault://")]
    Parameter,
}

impl Keeper {
    /// Parses a `secret_url`.
    ///
    /// # Errors
    /// The keeper is not supported, or its URL is incomplete.
    pub(crate) fn parse(url: &str) -> Result<Keeper, KeeperError> {
        match url.split_once("://") {
            Some(("base64key", key)) => here(key).map(Keeper::Here),
            Some(("hashivault", rest)) => TransitKey::parse(rest).map(Keeper::Vault),
            Some((scheme, _)) => Err(CLOUDS
                .iter()
                .find(|(known, _)| *known == scheme)
                .map_or(KeeperError::Unknown, |(_, name)| KeeperError::Cloud(name))),
            None => Err(KeeperError::Unknown),
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keeper::Here(_) => f.write_str("Here([redacted])"),
            Keeper::Vault(key) => f.debug_tuple("Vault").field(key).finish(),
        }
    }
}

fn here(text: &str) -> Result<[u8; 32], KeeperError> {
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PAD_INDIFFERENT);
    let key = URL_SAFE.decode(text).map_err(|_| KeeperError::Here)?;
    key.try_into().map_err(|_| KeeperError::Here)
}

impl TransitKey {
    /// Name and engine become part of a path that a token is sent to, so only characters that Vault allows in them
    /// are accepted.
    fn parse(rest: &str) -> Result<TransitKey, KeeperError> {
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !is_name(name) {
            return Err(KeeperError::Name);
        }
        let mut engine = TRANSIT.to_owned();
        for (parameter, value) in query.split('&').filter_map(parameter) {
            match (parameter, percent_decode_str(value).decode_utf8()) {
                ("engine", Ok(value)) if value.is_empty() => {}
                ("engine", Ok(value)) if value.split('/').all(is_segment) => {
                    engine = value.into_owned();
                }
                ("engine", _) => return Err(KeeperError::Engine),
                _ => return Err(KeeperError::Parameter),
            }
        }
        Ok(TransitKey {
            engine,
            name: name.to_owned(),
        })
    }
}

fn parameter(pair: &str) -> Option<(&str, &str)> {
    (!pair.is_empty()).then(|| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether Vault accepts the text as the name of a key.
fn is_name(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
    is_segment(text) && outer(text.as_bytes().first()) && outer(text.as_bytes().last())
}

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| is_word(byte) || matches!(byte, b'-' | b'.');
    !matches!(text, "" | "." | "..") && text.bytes().all(allowed)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(engine: &str, name: &str) -> Result<Keeper, KeeperError> {
        Ok(Keeper::Vault(TransitKey {
            engine: engine.to_owned(),
            name: name.to_owned(),
        }))
    }

    #[test]
    fn a_vault_key_has_a_name_and_an_optional_engine() {
        for (url, expected) in [
            ("hashivault://gate", vault("transit", "gate")),
            ("hashivault://Gate_1.a-b", vault("transit", "Gate_1.a-b")),
            ("hashivault://gate?engine=", vault("transit", "gate")),
            (
                "hashivault://gate?engine=team%2Ftransit",
                vault("team/transit", "gate"),
            ),
            (
                "hashivault://gate?engine=team/transit",
                vault("team/transit", "gate"),
            ),
        ] {
            assert_eq!(Keeper::parse(url), expected, "{url}");
        }
    }

    #[test]
    fn other_characters_never_reach_a_vault_path() {
        for (url, expected) in [
            ("hashivault://", KeeperError::Name),
            ("hashivault://..", KeeperError::Name),
            ("hashivault://a/b", KeeperError::Name),
            ("hashivault://a%2fb", KeeperError::Name),
            ("hashivault://-a", KeeperError::Name),
            ("hashivault://a b", KeeperError::Name),
            ("hashivault://a#b", KeeperError::Name),
            ("hashivault://a:8200", KeeperError::Name),
            ("hashivault://ä", KeeperError::Name),
            ("hashivault://a?engine=..", KeeperError::Engine),
            ("hashivault://a?engine=/x", KeeperError::Engine),
            ("hashivault://a?engine=x%00", KeeperError::Engine),
            ("hashivault://a?engine=%ff", KeeperError::Engine),
            ("hashivault://a?motor=x", KeeperError::Parameter),
            ("hashivault://a?engine=x&x", KeeperError::Parameter),
        ] {
            assert_eq!(Keeper::parse(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn unsupported_keepers_are_rejected_by_name() {
        for (scheme, name) in CLOUDS {
            let error = Keeper::parse(&format!("{scheme}://key")).unwrap_err();
            assert_eq!(error, KeeperError::Cloud(name));
            assert!(error.to_string().contains(name));
        }
        for url in ["", "x", "vault://key", "HASHIVAULT://key"] {
            assert_eq!(Keeper::parse(url), Err(KeeperError::Unknown), "{url}");
        }
    }

    #[test]
    fn a_key_in_the_url_has_32_bytes_and_is_not_printed() {
        let keeper = Keeper::parse(&format!("base64key://{}", "QUFB".repeat(11)));
        assert_eq!(keeper, Err(KeeperError::Here), "33 bytes");
        let keeper = Keeper::parse(&format!("base64key://{}QUE=", "QUFB".repeat(10))).unwrap();
        assert_eq!(keeper, Keeper::Here([b'A'; 32]));
        assert!(!format!("{keeper:?}").contains("65"));
    }
}
