//! Warnings about blocks that are valid but probably not intended.

use super::config;
use super::runtime::{Provider, Validator};
use crate::config::{ConfigError, Data, Node, OneOrMany};
use crate::jose::Rules;

/// Warns about a validator that accepts tokens for any audience, or from any issuer. With `typ`, it is an error: RFC
/// 9068 requires both checks (§4).
pub(super) fn trusts_many(node: &Node<'_>, validator: &Validator) {
    let lacks =
        |lacking: fn(&Rules) -> bool| validator.providers().iter().any(|one| lacking(&one.rules));
    let (audience, issuer) = (
        lacks(|rules| rules.audience.is_empty()),
        lacks(|rules| rules.issuer.is_none()),
    );
    let (what, add) = match (audience, issuer) {
        (false, false) => return,
        (true, false) => (
            "no \"audience\": a token that the provider issued for any other service opens this endpoint too",
            "\"audience\": [\"https://api.example.com\"]",
        ),
        (false, true) => (
            "no \"issuer\": a token of any issuer that signs with these keys opens this endpoint",
            "\"issuer\": the \"iss\" of your tokens, exactly",
        ),
        (true, true) => (
            "neither \"audience\" nor \"issuer\": any token signed with these keys opens this endpoint, also one that \
             was issued for another service",
            "\"audience\": [\"https://api.example.com\"], and \"issuer\": the \"iss\" of your tokens, exactly",
        ),
    };
    if validator.providers().iter().any(Provider::is_declared) {
        let why = "\"typ\": \"at+jwt\" requires both checks (RFC 9068 §4)";
        node.config_error_hint(ConfigError::invalid(format!("{what}; {why}")), add);
    } else {
        node.warn_hint(ConfigError::invalid(what), add);
    }
}

/// Warns about the name of a claim that looks like a path.
pub(super) fn dotted(file: &config::Validator<'_>, roles_key: &OneOrMany) {
    let OneOrMany::One(name) = roles_key else {
        return;
    };
    // A URL is the name of one claim.
    let is_path = name.contains('.') && !name.contains("://");
    if is_path && !file.roles_key_is_nested && !file.roles.is_empty() {
        file.source.place("roles_key").warn_hint(
            ConfigError::invalid(format!(
                "{name:?} is the name of one claim, with its dots: a claim inside another one is not found"
            )),
            "\"roles_key_is_nested\": true, if the dots separate names",
        );
    }
}

/// Warns about an Auth0 issuer without the slash at the end, which the `iss` of all Auth0 tokens has.
pub(super) fn slash(source: &config::Source<'_>) {
    let Some((issuer, url)) = source.issuer.zip(source.jwk_url) else {
        return;
    };
    let same_tenant = url
        .strip_prefix(issuer)
        .is_some_and(|path| path.starts_with('/'));
    if same_tenant && issuer.ends_with(".auth0.com") {
        source.place("issuer").warn_hint(
            ConfigError::invalid(
                "the issuer in tokens of Auth0 ends with a slash, so no token is accepted",
            ),
            format!("\"issuer\": \"{issuer}/\""),
        );
    }
}

/// Warns about values that no token and no key set can have.
pub(super) fn slips(source: &config::Source<'_>) {
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    if let Some(url) = source.jwk_url
        && url.trim_end_matches('/').ends_with(DISCOVERY)
    {
        source.place("jwk_url").warn_hint(
            ConfigError::invalid(
                "this is the discovery document and not a key set: without keys every request is rejected with 401",
            ),
            "\"jwk_url\": the \"jwks_uri\" in this document; or \"openid_configuration\" instead of \"jwk_url\", which reads it",
        );
    }
    for key in ["issuer", "audience"] {
        let node = source.place(key);
        let items = node.items();
        let nodes = if items.is_empty() { vec![node] } else { items };
        for node in nodes {
            // A value that was filled in may contain anything.
            if let Data::Text(text) = &node.value().data
                && is_variable(text)
                && !node.value().masked
            {
                node.warn_hint(
                    ConfigError::invalid(
                        "a placeholder in it was not filled in: every token is rejected with 401",
                    ),
                    "\"portcullis/secrets\": {\"expand\": true} fills in ${NAME}, and FC_ENABLE=1 renders templates",
                );
            }
        }
    }
}

/// Whether the text has a placeholder such as `$TENANT`, `${TENANT}` or `{{ .tenant }}`.
fn is_variable(text: &str) -> bool {
    text.contains("{{")
        || text.split('$').skip(1).any(|behind| {
            let name = behind.strip_prefix('{').unwrap_or(behind);
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        })
}
