//! The blocks as they are in the file.

use std::time::Duration;

use crate::config::{Block, Key, Kind, Node, key};

const STRATEGIES: &[&str] = &["kid", "x5t", "x5t#S256", "kid_x5t"];

/// Where keys come from and what they verify. The block itself and each of its `providers` have these keys.
const SOURCE_KEYS: [Key; 17] = [
    key(
        "alg",
        Kind::Text,
        "–",
        "The one algorithm that tokens are signed with: RS256, ES256, EdDSA and so on. A token with a different `alg` is rejected before anything else is checked. `Ed25519` (RFC 9864) and `EdDSA` mean the same.",
    ),
    key(
        "jwk_url",
        Kind::Text,
        "",
        "Where the provider publishes its keys.",
    ),
    key(
        "jwk_local_path",
        Kind::Text,
        "",
        "A file with the keys instead, relative to the working directory or to the configuration file.",
    ),
    key(
        "openid_configuration",
        Kind::Any,
        "",
        "Ours: find the keys through OpenID discovery. `true` uses the `issuer`, a string is the issuer's URL. The discovery document must name exactly this issuer.",
    ),
    key(
        "disable_jwk_security",
        Kind::Bool,
        "false",
        "Keys may come over plain HTTP and from servers whose certificate is not trusted.",
    ),
    key(
        "cache",
        Kind::Bool,
        "false",
        "Accepted for compatibility: key sets are always kept and refreshed in the background. With it, `cache_duration` applies.",
    ),
    key(
        "cache_duration",
        Kind::Integer,
        "900",
        "With `cache`: the number of seconds after which the key set is refreshed.",
    ),
    key(
        "stale",
        Kind::Duration,
        "24h",
        "Ours: for how much longer a key set is used while the provider cannot be reached.",
    ),
    key(
        "key_identify_strategy",
        Kind::Choice(STRATEGIES),
        "kid",
        "Which members of a token's header identify its key.",
    ),
    key(
        "issuer",
        Kind::Text,
        "",
        "The token's `iss` must be exactly this. Without it, every issuer that uses these keys is accepted.",
    ),
    key(
        "audience",
        Kind::Texts,
        "",
        "The token's `aud` must contain all of these. Without them, a token that was issued for another service is also accepted.",
    ),
    key(
        "jwk_local_ca",
        Kind::Text,
        "",
        "A PEM file with CA certificates that are trusted in addition to the system's when keys are fetched.",
    ),
    key(
        "jwk_fingerprints",
        Kind::Texts,
        "",
        "Base64url of the SHA-256 of public keys, of which one must be in the certificate chain of the key server.",
    ),
    key(
        "cipher_suites",
        Kind::Integers,
        "49199 49195 49200 49196 52392 52393",
        "TLS 1.2 suites for fetching keys. RC4, 3DES, CBC and static RSA do not exist here.",
    ),
    key(
        "secret_url",
        Kind::Secret,
        "",
        "The key that decrypts `cypher_key`: `base64key://…` contains it, `hashivault://KEY` names a key of a Vault.",
    ),
    key(
        "cypher_key",
        Kind::Secret,
        "",
        "The encrypted passphrase of an encrypted `jwk_local_path`.",
    ),
    key(
        "failed_jwk_key_cooldown",
        Kind::Any,
        "",
        "How long an unknown key id causes no further download.",
    ),
];

const RULE_KEYS: [Key; 18] = [
    key(
        "auth_header_name",
        Kind::Text,
        "Authorization",
        "The header with the token, with or without `Bearer`.",
    ),
    key(
        "cookie_key",
        Kind::Text,
        "access_token",
        "The cookie with the token, if the header has none.",
    ),
    key(
        "leeway",
        Kind::Any,
        "1s",
        "Tolerance for `exp`, `nbf` and `iat`; at least one second.",
    ),
    key(
        "roles",
        Kind::Texts,
        "",
        "One of these must be among the token's roles.",
    ),
    key(
        "roles_key",
        Kind::Text,
        "roles",
        "The claim with the roles.",
    ),
    key(
        "roles_key_is_nested",
        Kind::Bool,
        "false",
        "Dots in `roles_key` separate the names of nested objects. A claim whose own name contains the dots is then ignored.",
    ),
    key(
        "scopes",
        Kind::Texts,
        "",
        "Scopes that the token must have, see `scopes_matcher`.",
    ),
    key(
        "scopes_key",
        Kind::Text,
        "",
        "The claim with the scopes. Dots separate the names of nested objects.",
    ),
    key(
        "scopes_matcher",
        Kind::Text,
        "any",
        "`all` or `any` of the scopes.",
    ),
    key(
        "propagate_claims",
        Kind::List,
        "",
        "Pairs of claim and header: the header is set for the backends, and removed from what the client sent, in every spelling that a backend may read as the same header (`X_User`). A token is rejected (`bad_claim`) if a value begins or ends with blanks or contains control characters, or if an item of a list contains a comma.",
    ),
    key(
        "propagate_claims_preserve_array",
        Kind::Bool,
        "false",
        "A claim that is a list becomes one header for each item.",
    ),
    key(
        "propagate_claims_as_json",
        Kind::Bool,
        "false",
        "Ours: items of lists are written as JSON instead of in Go's format.",
    ),
    key(
        "operation_debug",
        Kind::Bool,
        "false",
        "Log why each token is rejected, at level ERROR.",
    ),
    key(
        "optional",
        Kind::Bool,
        "false",
        "Ours: a request without a token passes, without claims. An invalid token is still rejected.",
    ),
    key(
        "error_body",
        Kind::Choice(&["none", "problem+json"]),
        "none",
        "Ours: the body of a rejection.",
    ),
    key(
        "providers",
        Kind::Blocks(PROVIDER_KEYS),
        "",
        "Ours: several issuers, each with its own keys, algorithm and audience, chosen by the token's exact `iss`.",
    ),
    key(
        "require_exp",
        Kind::Bool,
        "false",
        "Ours: reject tokens without an expiry.",
    ),
    key(
        "require_url_claims",
        Kind::Bool,
        "false",
        "Ours: reject tokens that lack a claim that a backend's `url_pattern` names as `{JWT.claim}`. Otherwise the backend gets the placeholder itself, `%7B%7B.JWT.claim%7D%7D`, as from KrakenD.",
    ),
];

/// Keys of an endpoint's block.
pub(super) const KEYS: &[Key] = &joined::<17, 18, 35>(SOURCE_KEYS, RULE_KEYS);

/// Keys of one provider.
pub(super) const PROVIDER_KEYS: &[Key] = &SOURCE_KEYS;

/// Keys of the service's block.
pub(super) const SERVICE_KEYS: &[Key] = &[
    key(
        "shared_cache_duration",
        Kind::Integer,
        "900",
        "How many seconds key sets are kept, for endpoints with `cache` and without `cache_duration`.",
    ),
    key(
        "resource_metadata",
        Kind::Block(RESOURCE_KEYS),
        "",
        "Ours: tell clients where to get tokens (RFC 9728), at `/.well-known/oauth-protected-resource` and in every challenge.",
    ),
];

const RESOURCE_KEYS: &[Key] = &[
    key(
        "resource",
        Kind::Text,
        "–",
        "The gateway's public address: `https://api.example.com`.",
    ),
    key(
        "authorization_servers",
        Kind::Texts,
        "the issuers of the endpoint",
        "Issuers of tokens.",
    ),
    key("resource_name", Kind::Text, "", "A human-readable name."),
    key(
        "resource_documentation",
        Kind::Text,
        "",
        "A human-readable page.",
    ),
];

const fn joined<const A: usize, const B: usize, const N: usize>(
    a: [Key; A],
    b: [Key; B],
) -> [Key; N] {
    let mut all = [a[0]; N];
    let mut index = 0;
    while index < A {
        all[index] = a[index];
        index += 1;
    }
    while index < N {
        all[index] = b[index - A];
        index += 1;
    }
    all
}

/// A source of keys: the block itself, or one of its `providers`.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// For errors that belong to no key, and for the code that reads key files.
    pub(super) block: Block<'a>,
    /// No error was reported while it was read.
    pub(super) sound: bool,
    pub(super) alg: Option<Node<'a>>,
    pub(super) jwk_url: Option<&'a str>,
    pub(super) jwk_local_path: Option<&'a str>,
    pub(super) openid_configuration: Option<Node<'a>>,
    pub(super) disable_jwk_security: bool,
    pub(super) cache: bool,
    pub(super) cache_duration: Option<i64>,
    pub(super) stale: Option<Duration>,
    pub(super) key_identify_strategy: Option<&'static str>,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Vec<String>,
    pub(super) jwk_local_ca: Option<&'a str>,
    pub(super) jwk_fingerprints: Vec<String>,
    pub(super) cipher_suites: Vec<i64>,
    pub(super) failed_jwk_key_cooldown: Option<Node<'a>>,
}

impl<'a> Source<'a> {
    fn read(block: Block<'a>) -> Source<'a> {
        let before = block.node().report().config_errors();
        let text = |key: &str| block.text(key).filter(|text| !text.is_empty());
        let mut source = Source {
            sound: true,
            alg: block.get("alg"),
            jwk_url: text("jwk_url"),
            jwk_local_path: text("jwk_local_path"),
            openid_configuration: block.get("openid_configuration"),
            disable_jwk_security: block.flag("disable_jwk_security"),
            cache: block.flag("cache"),
            cache_duration: block.within("cache_duration", 0, i64::from(u32::MAX)),
            stale: block.duration("stale"),
            key_identify_strategy: block.choice("key_identify_strategy"),
            issuer: text("issuer"),
            audience: block.texts("audience"),
            jwk_local_ca: text("jwk_local_ca"),
            jwk_fingerprints: block.texts("jwk_fingerprints"),
            cipher_suites: block.integers("cipher_suites"),
            failed_jwk_key_cooldown: block.get("failed_jwk_key_cooldown"),
            block,
        };
        source.sound = source.block.node().report().config_errors() == before;
        source
    }

    /// The value under `key`, or the whole block: where an error is reported.
    pub(super) fn place(&self, key: &str) -> Node<'a> {
        let node = self.block.get(key);
        node.unwrap_or_else(|| self.block.node().clone())
    }
}

/// An endpoint's block.
#[derive(Debug)]
pub(super) struct Validator<'a> {
    /// Its own source. With `providers`, only the values that they inherit.
    pub(super) source: Source<'a>,
    pub(super) providers: Option<Vec<Source<'a>>>,
    /// No error was reported while it was read.
    pub(super) sound: bool,
    pub(super) auth_header_name: Option<Node<'a>>,
    pub(super) cookie_key: Option<&'a str>,
    pub(super) leeway: Option<Node<'a>>,
    pub(super) roles: Vec<String>,
    pub(super) roles_key: Option<&'a str>,
    pub(super) roles_key_is_nested: bool,
    pub(super) scopes: Vec<String>,
    pub(super) scopes_key: Option<&'a str>,
    pub(super) scopes_matcher: Option<&'a str>,
    /// Pairs of claim and header.
    pub(super) propagate_claims: Vec<Node<'a>>,
    pub(super) propagate_claims_preserve_array: bool,
    pub(super) propagate_claims_as_json: bool,
    pub(super) operation_debug: bool,
    pub(super) optional: bool,
    pub(super) error_body: Option<&'static str>,
    pub(super) require_exp: bool,
    pub(super) require_url_claims: bool,
}

impl<'a> Validator<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Validator<'a>> {
        let before = node.report().config_errors();
        let block = node.block(KEYS)?;
        let providers = block.blocks("providers").into_iter().map(Source::read);
        let mut file = Validator {
            sound: true,
            providers: block.has("providers").then(|| providers.collect()),
            auth_header_name: block.get("auth_header_name"),
            cookie_key: block.text("cookie_key").filter(|name| !name.is_empty()),
            leeway: block.get("leeway"),
            roles: block.texts("roles"),
            roles_key: block.text("roles_key"),
            roles_key_is_nested: block.flag("roles_key_is_nested"),
            scopes: block.texts("scopes"),
            scopes_key: block.text("scopes_key"),
            scopes_matcher: block.text("scopes_matcher"),
            propagate_claims: block.list("propagate_claims"),
            propagate_claims_preserve_array: block.flag("propagate_claims_preserve_array"),
            propagate_claims_as_json: block.flag("propagate_claims_as_json"),
            operation_debug: block.flag("operation_debug"),
            optional: block.flag("optional"),
            error_body: block.choice("error_body"),
            require_exp: block.flag("require_exp"),
            require_url_claims: block.flag("require_url_claims"),
            source: Source::read(block),
        };
        file.sound = node.report().config_errors() == before;
        Some(file)
    }
}

/// The service's block.
#[derive(Debug)]
pub(super) struct Service<'a> {
    pub(super) shared_cache_duration: Option<u64>,
    pub(super) resource_metadata: Option<ResourceMetadata<'a>>,
}

/// `resource_metadata` of the service's block.
#[derive(Debug)]
pub(super) struct ResourceMetadata<'a> {
    /// `resource`, with its location.
    pub(super) resource: (String, Node<'a>),
    pub(super) authorization_servers: Vec<String>,
    pub(super) resource_name: Option<String>,
    pub(super) resource_documentation: Option<String>,
}

impl<'a> Service<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Service<'a>> {
        let block = node.block(SERVICE_KEYS)?;
        Some(Service {
            shared_cache_duration: block.count("shared_cache_duration"),
            resource_metadata: block
                .block("resource_metadata")
                .and_then(|block| ResourceMetadata::read(&block)),
        })
    }
}

impl<'a> ResourceMetadata<'a> {
    fn read(block: &Block<'a>) -> Option<ResourceMetadata<'a>> {
        let resource = block.required("resource")?;
        Some(ResourceMetadata {
            resource: (resource, block.get("resource")?),
            authorization_servers: block.texts("authorization_servers"),
            resource_name: block.string("resource_name"),
            resource_documentation: block.string("resource_documentation"),
        })
    }
}
